"""Hosts of Forge's family for the tests in cases/, which are those of ../webui; see webui_host.py."""
from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "webui"), str(HERE.parent / "standin" / "traces")]

from cannot import CANNOT  # noqa: E402
from real_host import files, host, started  # noqa: E402, F401
from webui_host import A1111, KINDS  # noqa: E402

FAMILY = [kind for kind in KINDS if kind is not A1111]
THERE = [kind for kind in FAMILY if kind.folder]


collect_ignore_glob = [] if THERE else ["cases/*"]  # hundreds of cases would be skipped otherwise


def pytest_collection_modifyitems(config, items):
    for item in items:
        if HERE / "cases" in item.path.parents and hasattr(item, "callspec"):
            for part, reason in CANNOT[item.callspec.params["host_kind"].name].items():
                if part in item.nodeid:
                    item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", params=THERE, ids=lambda kind: kind.name)
def host_kind(request):
    return request.param


@pytest.fixture(scope="session")
def clean_host(host_kind, tmp_path_factory):
    with started(host_kind, tmp_path_factory.mktemp(host_kind.name.lower())) as host:
        yield host
