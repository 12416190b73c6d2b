"""The standalone engine on diffusers, for machines without a WebUI."""
