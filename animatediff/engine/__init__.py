"""A host of its own on diffusers, for machines without a WebUI."""
