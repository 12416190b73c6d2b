"""The backend for Forge, Forge Neo and reForge: their checkpoints in memory and their calls of the UNet."""
