"""Hosts: programs that have loaded an image model and lend it to this one."""
