"""AUTOMATIC1111's WebUI as host."""
