"""Other extensions of the WebUI that this one works beside, or in place of."""
