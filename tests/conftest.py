"""Offline, one thread unless OMP_NUM_THREADS says more; a tiny random model and a browser for those who need one."""
from __future__ import annotations

import os
import shutil
from types import SimpleNamespace

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports the hub's client
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch; for small tensors a second thread mostly waits in a loop

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are imported

torch.set_num_threads(min(2, int(os.environ["OMP_NUM_THREADS"])))


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
