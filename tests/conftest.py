"""Offline, at most two threads, and a tiny random model for those who need one."""
from __future__ import annotations

import os
from types import SimpleNamespace

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports the hub's client

import pytest
import torch

torch.set_num_threads(min(2, int(os.environ.get("OMP_NUM_THREADS", 2))))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> SimpleNamespace:
    """`.checkpoint`: the image model's file; `.module`: a v2 motion module for it; `.folder`: where modules are."""
    from tiny_models import write_checkpoint, write_module

    folder = tmp_path_factory.mktemp("models")
    return SimpleNamespace(folder=folder / "model", checkpoint=write_checkpoint(folder / "image"),
                           module=write_module(folder / "model" / "motion_v2.safetensors"))
