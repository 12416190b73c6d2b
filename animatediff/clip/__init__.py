"""Code shared by all hosts: planning a clip, sampling it, writing its files, and resuming runs.

This package imports no host, no gradio and no diffusers.
"""
