"""Hosts: programs whose loaded image model this extension uses."""
