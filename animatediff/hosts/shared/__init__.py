"""What every WebUI-like host needs and none owns. Nothing in here imports a host."""
