"""Other extensions of the WebUI that run beside this one, or that it replaces."""
