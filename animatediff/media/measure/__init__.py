"""Measures of a clip's quality over time: flicker, temporal error and colour drift."""
