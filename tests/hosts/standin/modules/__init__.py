"""A stand-in for the WebUI's package `modules`, for machines that have no WebUI.

Written from the host's observed behaviour: ../traces hold what the real host does with a job, and
tests/hosts/test_standin.py checks that this one does the same. It is as large as the extension needs it to be and no
larger: one small model, a few samplers, no page. What a name here does not do,
the extension's tests in CI do not cover.
"""
