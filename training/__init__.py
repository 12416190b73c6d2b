"""Training of the demo model that ships with the package: `python -m training --help`."""
