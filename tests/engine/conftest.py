"""The tiny model as a pipeline."""
from __future__ import annotations

import pytest

from animatediff.engine.pipeline import Pipeline


@pytest.fixture(scope="module")
def pipeline(tiny):
    return Pipeline.load(tiny.checkpoint, tiny.module, device="cpu", dtype="fp32")
