"""What is true of clips in general, whichever host makes them: jobs, their files, and runs that go on.

Imports no host, no gradio and no diffusers.
"""
