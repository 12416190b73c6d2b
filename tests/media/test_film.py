"""FILM: the network against closed forms and another implementation, its files, and the order of new frames.

$FILM_NETWORK names a copy of https://github.com/dajes/frame-interpolation-pytorch, whose network is compared with ours.
"""
from __future__ import annotations

import importlib
import os
import sys
import zipfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy.ndimage import map_coordinates
from torch import Tensor, nn
from torch.nn import functional as F

from animatediff.errors import ModelError
from animatediff.media.interpolate import film, frames
from animatediff.media.interpolate.plan import NEAR, halvings
from animatediff.weights.files import read_tensors
from animatediff.weights.kinds import kind_of

SMALL = film.Layout(4, (4, 6, 8, 10))


def shapes_of(tensors):
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


@lru_cache
def scattered(layout: film.Layout) -> Mapping[str, Tensor]:
    """Return weights that are the same with every version of torch, of which the flows are some pixels long."""
    def numbers(key: str, index: int, shape: torch.Size) -> Tensor:
        places = torch.arange(shape.numel(), dtype=torch.float64)
        values = (torch.sin(places * 12.9898 + index * 78.233) * 43758.5453).frac()  # -1…1
        size = 0.1 if len(shape) == 1 else 2.4
        size *= 0.06 if key.endswith("_convs.4.0.weight") else 0.15 if key == "fuse.output_conv.weight" else 1
        return (values * size / max(1, shape[1:].numel()) ** 0.5).reshape(shape).float()

    state = film.FilmNet(layout).state_dict()
    return {key: numbers(key, index, tensor.shape) for index, (key, tensor) in enumerate(state.items())}


def pair(height: int, width: int) -> list[Tensor]:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return [torch.stack([0.5 + 0.5 * torch.sin(rows / (3 + c) + (columns + shift) / 5) for c in range(3)])[None]
            for shift in (0.0, 2.5)]


def script(tensors: Mapping[str, Tensor]) -> torch.jit.ScriptModule:
    """Return TorchScript with tensors of these names."""
    root = nn.Module()
    for key, tensor in tensors.items():
        *path, name = key.split(".")
        place = root
        for part in path:
            if part not in dict(place.named_children()):
                place.add_module(part, nn.Module())
            place = place.get_submodule(part)
        place.register_parameter(name, nn.Parameter(tensor))
    return torch.jit.script(root)


# The network.


def shifting(pick: int, flow: tuple[float, float]) -> film.FilmNet:
    """Return a network that finds this flow everywhere and returns channels `pick` … `pick` + 2 of the aligned ones.

    The flow's residual is the same at the four levels that share a network, so at the finest one it is 8 · 15 times it.
    """
    network = film.FilmNet(SMALL).requires_grad_(False)
    for tensor in network.parameters():
        tensor.zero_()
    state = network.state_dict()
    state["predict_flow._predictor._convs.4.0.bias"].copy_(torch.tensor(flow) / 120)
    for channel in range(3):
        state["fuse.convs.3.1.0.weight"][channel, pick + channel, 1, 1] = 1
        state["fuse.convs.3.2.0.weight"][channel, channel, 1, 1] = 1
        state["fuse.output_conv.weight"][channel, channel] = 1
    return network


@pytest.mark.parametrize("time", [0.5, 0.25])
def test_each_frame_is_sampled_along_its_share_of_the_flow(time):
    a, b = (torch.rand(1, 3, 64, 128) for _ in range(2))
    for pick, picture, share in ((0, a, time), (3 + SMALL.width, b, 1 - time)):
        found = shifting(pick, (-12, 8))(a, b, time)[0].numpy()
        rows, columns = np.mgrid[:64, :128]
        places = (rows + 8 * share).clip(0, 63), (columns - 12 * share).clip(0, 127)
        for channel, plane in zip(found, picture[0].numpy()):
            np.testing.assert_allclose(channel, map_coordinates(plane, places, order=1), atol=1e-4)


def test_both_directions_mirror_each_other():
    """Frames swapped, time mirrored, and the decoder's inputs swapped: the same frame."""
    network, mirrored = film.FilmNet(SMALL), film.FilmNet(SMALL)
    tensors = {**scattered(SMALL)}
    network.load_state_dict(tensors)
    for key in ("fuse.convs.0.0.0.weight", *(f"fuse.convs.{i}.1.0.weight" for i in range(4))):
        level = 3 if key == "fuse.convs.0.0.0.weight" else 3 - int(key[11])
        half = 3 + SMALL.features(level)
        order = [*range(half, 2 * half), *range(half), *(2 * half + i for i in (2, 3, 0, 1))]
        order += range(len(order), tensors[key].shape[1])
        tensors[key] = tensors[key][:, order]
    mirrored.load_state_dict(tensors)
    a, b = pair(64, 64)
    with torch.no_grad():
        torch.testing.assert_close(mirrored(b, a, 0.7), network(a, b, 0.3), atol=2e-5, rtol=0)


def test_frames_of_the_other_implementation():
    """Recorded from dajes' Interpolator(filters=4, flow_filters=(4, 6, 8, 10)) with these weights."""
    network = film.FilmNet(SMALL)
    network.load_state_dict(scattered(SMALL))
    with torch.no_grad():
        found = network(*pair(70, 101), 0.3)
    torch.testing.assert_close(found[0, :, 15::25, 10::40].flatten(), torch.tensor(RECORDED), atol=1e-4, rtol=0)


RECORDED = [
    -0.1213, 0.40591, 0.04229, -0.08345, 0.80667, -0.12163, 0.06033, 0.26863, 0.31109,
    0.03249, -0.50379, -0.20762, -0.00734, -0.98511, -0.13274, -0.12983, -0.33004, -0.41974,
    -0.36992, -0.07765, -0.41197, -0.31717, -0.45799, -0.94977, 0.00811, 0.04646, -0.14467,
]


def test_any_size_of_frames():
    made = film.Film(scattered(SMALL))
    for size in ((1, 1), (17, 33), (64, 130)):
        a, b = np.random.default_rng(0).integers(0, 255, (2, *size, 3)).astype(np.uint8)
        found = made.between(a, b, [0.25, 0.5, 0.9])
        assert [frame.shape for frame in found] == [a.shape] * 3 and all(frame.dtype == np.uint8 for frame in found)


def test_a_quarter_is_the_middle_of_a_middle():
    made = film.Film(scattered(SMALL))
    a, b = (frames.frame_of(x, 64, 64) for x in pair(64, 64))
    x, y = (frames.tensor_of(frame, 64, made.device) for frame in (a, b))
    middle = made.network(x, y, 0.5).clamp(0, 1)
    quarters = [made.network(x, middle, 0.5), middle, made.network(middle, y, 0.5)]
    for found, wanted in zip(made.between(a, b, [0.25, 0.5, 0.75]), quarters):
        assert np.array_equal(found, frames.frame_of(wanted, 64, 64))


# The order of new frames.


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_power_of_two_needs_middles_alone(factor):
    steps = halvings([i / factor for i in range(1, factor)])
    assert len(steps) == factor - 1 and {step.share for step in steps} == {0.5}


@given(st.lists(st.floats(1e-6, 1 - 1e-6), max_size=9, unique=True))
def test_new_frames_are_made_of_known_ones_near_their_middle(times):
    known = {0.0, 1.0}
    for step in halvings(times):
        assert {step.left, step.right} <= known and step.left < step.at < step.right
        assert not any(step.left < each < step.right for each in known)
        assert 0.25 <= step.share <= 0.75 or step.right - step.left <= NEAR
        known.add(step.at)
    assert set(times) <= known and len(known) <= 2 + 4 * len(times)


# Files.


def test_the_tensors_tell_the_network():
    shapes = shapes_of(scattered(SMALL))
    kind = kind_of(shapes)
    assert film.layout_of(shapes) == SMALL and kind is not None and kind.name == "FILM"
    for key in list(shapes)[::11]:
        assert film.layout_of({k: v for k, v in shapes.items() if k != key}) is None
        assert film.layout_of(shapes | {key: (*shapes[key][:-1], shapes[key][-1] + 1)}) is None
    with torch.device("meta"):
        published = shapes_of(film.FilmNet(film.Layout()).state_dict())
    assert film.layout_of(published) == film.Layout() and sum(map(np.prod, published.values())) == PUBLISHED


PUBLISHED = 34_436_667  # numbers in film_net_fp32.pt


@pytest.mark.parametrize("shape", [(), (0,), (2**40, 0, 3, 3), (2**62,), (3, 3)])
def test_tensors_of_no_network(shape):
    shapes = shapes_of(scattered(SMALL))
    for key in ("extract.extract_sublevels.convs.0.0.0.weight", "predict_flow._predictors.1._convs.0.0.weight"):
        assert film.layout_of(shapes | {key: shape}) is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_each_format_of_a_file_gives_the_same_frames(tmp_path, dtype):
    tensors = {key: tensor.to(dtype) for key, tensor in scattered(SMALL).items()}
    script(tensors).save(tmp_path / "script.pt")
    torch.save({"state_dict": tensors}, tmp_path / "torch.pt")
    save_file(tensors, tmp_path / "film.safetensors")
    a, b = (frames.frame_of(x, 40, 50) for x in pair(40, 50))
    [wanted] = film.Film(tensors).between(a, b, [0.5])
    assert wanted.std() > 5
    for path in tmp_path.iterdir():
        found = read_tensors(path)
        assert found.keys() == tensors.keys() and all(tensor.dtype == dtype for tensor in found.values())
        assert np.array_equal(film.Film(found).between(a, b, [0.5])[0], wanted)


def rewritten(path: Path, changes: Mapping[str, Callable[[bytes], bytes]], way: int = zipfile.ZIP_STORED) -> None:
    """Rewrite the entries of an archive whose names end so."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            change = next((change for end, change in changes.items() if name.endswith(end)), None)
            archive.writestr(name, change(content) if change else content, way if change else zipfile.ZIP_STORED)


SYSTEM = b"cos\nsystem\n(X\x04\x00\x00\x00exittR0"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_hostile_files_are_refused_with_a_sentence(tmp_path):
    path = tmp_path / "film.pt"
    tensors = film.FilmNet(film.Layout(1, (2, 2, 2, 2))).state_dict()
    script(tensors).save(path)
    whole = path.read_bytes()
    for change, said in (
            (lambda: rewritten(path, {"data.pkl": lambda code: code[:2] + SYSTEM + code[2:]}),
             r"film.pt holds pickled Python objects \(os.system\), which can run code"),
            (lambda: rewritten(path, {"data.pkl": lambda code: code + bytes(2**24)}, zipfile.ZIP_DEFLATED),
             r"film.pt is truncated or damaged \(its entries are compressed"),
            (lambda: rewritten(path, {"data/0": lambda numbers: numbers[:4]}), "a tensor lies outside its storage"),
            (lambda: path.write_bytes(whole[:-100]), "film.pt is truncated or damaged"),
            (lambda: path.write_bytes(whole[:1000]), "film.pt is truncated or damaged")):
        path.write_bytes(whole)
        change()
        with pytest.raises(ModelError, match=said) as caught:
            read_tensors(path)
        assert str(caught.value).isprintable() and caught.value.remedy
    path.write_bytes(whole)
    rewritten(path, {".py": lambda code: b"import os" + bytes(2**24)}, zipfile.ZIP_DEFLATED)
    assert shapes_of(read_tensors(path)) == shapes_of(tensors)  # the code is neither unpacked nor run


# The other implementation.


@pytest.fixture
def interpolator(monkeypatch):
    """dajes' class Interpolator."""
    names = ("util", "feature_extractor", "fusion", "pyramid_flow_estimator", "interpolator")
    before = {name: sys.modules.pop(name, None) for name in names}
    monkeypatch.syspath_prepend(os.environ["FILM_NETWORK"])
    yield importlib.import_module("interpolator").Interpolator
    for name, module in before.items():
        sys.modules.pop(name)
        sys.modules.update({name: module} if module else {})


needs_theirs = pytest.mark.skipif("FILM_NETWORK" not in os.environ, reason="$FILM_NETWORK names another implementation")


@needs_theirs
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_same_frames_as_the_other_implementation(interpolator, tmp_path):
    """With random weights, by a file as its export writes it."""
    torch.manual_seed(0)
    theirs = interpolator().eval().requires_grad_(False)
    for key, tensor in theirs.named_parameters():
        tensor.mul_(2.3 if key.endswith("weight") else 0.5)
    torch.jit.script(theirs).save(tmp_path / "film_net_fp32.pt")
    theirs = torch.jit.load(tmp_path / "film_net_fp32.pt")
    tensors = read_tensors(tmp_path / "film_net_fp32.pt")
    assert film.layout_of(shapes_of(tensors)) == film.Layout()
    ours = film.Film(tensors).network
    for size in ((64, 64), (65, 97), (128, 192), (131, 67)):
        a, b = (F.interpolate(torch.rand(1, 3, 5, 6), size, mode="bicubic").clamp(0, 1) for _ in range(2))
        for time in (0.5, 0.2):
            for x, y in ((a, b), (b, a)):
                with torch.no_grad():
                    theirs_all = theirs.debug_forward(x, y, torch.full((1, 1), time))
                    found = ours(x, y, time)
                torch.testing.assert_close(found, theirs_all["image"][0], atol=1e-5, rtol=0)
                assert theirs_all["forward_flow_pyramid"][0].std() > 1


@needs_theirs
def test_the_recorded_frames_are_the_other_implementations(interpolator):
    theirs = interpolator(filters=4, flow_filters=SMALL.flow).eval()
    theirs.load_state_dict(scattered(SMALL))
    with torch.no_grad():
        found = theirs(*pair(70, 101), torch.full((1, 1), 0.3))
    torch.testing.assert_close(found[0, :, 15::25, 10::40].flatten(), torch.tensor(RECORDED), atol=1e-5, rtol=0)
