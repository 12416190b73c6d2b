"""A stand-in for the WebUI's package `modules`, for machines without a WebUI.

It was written from the host's observed behaviour: ../traces record what the real host does with a job, and
tests/hosts/test_standin.py checks that this package does the same. It contains only what the extension needs: one small
model, a few samplers, no page. The extension's tests in CI do not cover behaviour that is missing here.
"""
