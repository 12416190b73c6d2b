"""Frames in and frames out: reading pictures and videos, and what is measured on a clip. Imports no encoder."""
