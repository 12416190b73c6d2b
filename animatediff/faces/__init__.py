"""User interfaces. Each requests clips and shows the results; none samples by itself."""
