"""Cases of parametrised tests that only RUN_SLOW runs."""
import pytest


def slow(*values):
    """Return a case of `pytest.mark.parametrize` that is marked as slow."""
    return pytest.param(*values, marks=pytest.mark.slow)
