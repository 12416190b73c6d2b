"""The real WebUI for the tests in this folder. webui_host.py documents the environment variables."""
from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "standin" / "traces")]

from real_host import files, host, started  # noqa: E402, F401
from webui_host import A1111  # noqa: E402


def pytest_collection_modifyitems(config, items):
    if A1111.folder:
        return
    reason = ("needs a real WebUI: WEBUI_DIR=/path/to/stable-diffusion-webui pytest tests/hosts/webui "
              "(see webui_host.py)")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def host_kind():
    return A1111


@pytest.fixture(scope="session")
def clean_host(host_kind, tmp_path_factory):
    with started(host_kind, tmp_path_factory.mktemp("webui")) as host:
        yield host
