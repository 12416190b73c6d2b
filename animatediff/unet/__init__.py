"""Functions on a host's UNet: find its sites, save memory, skip repeated work. They need no motion module."""
