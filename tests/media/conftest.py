"""The decoder for the tests of written clips."""
from __future__ import annotations

import pytest
from video_helpers import Ffmpeg


@pytest.fixture(scope="session")
def ffmpeg() -> Ffmpeg:
    return Ffmpeg()
