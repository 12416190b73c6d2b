"""Clips as files: writing, and the settings inside them. Importing this package imports no encoder."""
