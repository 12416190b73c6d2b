"""Offline, one thread unless OMP_NUM_THREADS says more, two processes; a tiny random model; a browser."""
from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports the hub's client
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch; for small tensors a second thread mostly waits in a loop

import pytest
import torch
from hypothesis import settings

settings.register_profile("without a time limit", deadline=None)  # the machine may have other things to do
settings.load_profile("without a time limit")
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are imported

torch.set_num_threads(min(2, int(os.environ["OMP_NUM_THREADS"])))


OPT_IN = {"slow": "RUN_SLOW", "fullsize": "RUN_FULLSIZE"}  # marker: environment variable


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips tests that are marked as in OPT_IN unless the marker's variable is set."""
    for mark, variable in OPT_IN.items():
        if not os.environ.get(variable):
            for item in items:
                if item.get_closest_marker(mark):
                    item.add_marker(pytest.mark.skip(reason=f"{mark}: runs when {variable}=1"))


def pytest_collection_finish() -> None:
    """Exempt everything that exists now from garbage collection, which otherwise takes a tenth of the time."""
    gc.collect()
    gc.freeze()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two. None, so that all runs in this process, for a single file, for a real WebUI (which is started once), and
    for what fills the memory."""
    single = len(config.args) == 1 and Path(config.args[0].partition("::")[0]).is_file()
    alone = single or any(os.environ.get(name) for name in ("WEBUI_DIR", "RUN_FULLSIZE"))
    return 0 if alone else 2


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> SimpleNamespace:
    """`.checkpoint`: the image model's file; `.module`: a v2 motion module for it; `.folder`: where modules are."""
    from tiny_models import write_checkpoint, write_module

    folder = tmp_path_factory.mktemp("models")
    return SimpleNamespace(folder=folder / "model", checkpoint=write_checkpoint(folder / "image"),
                           module=write_module(folder / "model" / "motion_v2.safetensors"))


@pytest.fixture(scope="module")  # the event loop of playwright ends with it
def browser():
    """Chromium, driven by the package playwright; the tests that need it are skipped without either."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not path:
        pytest.skip("needs Chromium: none on the PATH, and $CHROMIUM is not set")
    quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, chromium_sandbox=False, args=quiet)
        yield browser
        browser.close()
