"""A backend on Forge: how its checkpoints lie in memory, and how its UNet is called."""
