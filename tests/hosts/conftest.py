"""Fixtures with the stand-in for the WebUI."""
from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bare_host(tmp_path, monkeypatch):
    """The stand-in with a motion module, `moving.safetensors`, and without an extension."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "standin"))
    from standin_host import standing_in
    from tiny_models import write_module

    write_module(tmp_path / "moving.safetensors", widths=(32, 32, 32, 32))
    with standing_in(tmp_path) as host:
        host.opts.data["animatediff_model_path"] = str(tmp_path)
        yield host


@pytest.fixture
def host(bare_host):
    """The stand-in with this extension on its pages."""
    bare_host.load(ROOT / "scripts" / "animatediff.py")
    bare_host.show()
    return bare_host


@pytest.fixture(scope="module")
def lasting_host(tmp_path_factory):
    """Like `host`, shared by all tests of a file. They must leave it as it was."""
    folder = tmp_path_factory.mktemp("host")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "standin"))
        from standin_host import standing_in
        from tiny_models import write_module

    write_module(folder / "moving.safetensors", widths=(32, 32, 32, 32))
    with standing_in(folder) as host:
        host.opts.data["animatediff_model_path"] = str(folder)
        host.load(ROOT / "scripts" / "animatediff.py")
        host.show()
        yield host
