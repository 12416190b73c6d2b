"""Code for all WebUI-like hosts. Nothing here imports a host."""
