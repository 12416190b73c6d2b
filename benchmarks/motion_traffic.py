"""What the motion part asks of a GPU, counted without one: operators, bytes that they read and write, intermediates.

The code that runs on a GPU, called on tensors that have a shape and no values; nothing is timed. Beside the matrix
products, which both have, a GPU's time goes with the bytes. Clips with guidance at 512×512 in fp16.
"""
from __future__ import annotations

from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from animatediff.motion import network

from .motion_part import PLACES, pair

CLIPS, PIXELS, DTYPE = 2, 512, torch.float16
READ_TWICE = ("native_group_norm", "native_layer_norm")  # for the statistics, and for what comes of them


class Counted(TorchDispatchMode):
    """`with` it, operators that compute are counted, with the bytes that they read and write, and by `peak` the most
    that what they made took at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.operators = self.traffic = self.peak = 0
        self.made: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        out = operator(*args, **(kwargs or {}))
        results = [each for each in (out if isinstance(out, (tuple, list)) else (out,)) if isinstance(each, Tensor)]
        if operator.is_view or not results:
            return out
        given = [each for each in args if isinstance(each, Tensor)] + [
            each for some in args if isinstance(some, (tuple, list)) for each in some if isinstance(each, Tensor)]
        known = {StorageWeakRef(each.untyped_storage()) for each in given}
        fresh = [each for each in results if StorageWeakRef(each.untyped_storage()) not in known]
        if not fresh and not operator._schema.is_mutable:  # what it was given, under another form
            return out
        self.made |= {StorageWeakRef(each.untyped_storage()): each.untyped_storage().nbytes() for each in fresh}
        self.made = {storage: size for storage, size in self.made.items() if not storage.expired()}
        self.peak = max(self.peak, sum(self.made.values()))
        if "empty" not in operator.__name__:
            name = operator._schema.name.removeprefix("aten::")
            reads = sum(map(_bytes, given)) + (_bytes(given[0]) if name in READ_TWICE else 0)
            self.operators, self.traffic = self.operators + 1, self.traffic + reads + sum(map(_bytes, results))
        return out


def _bytes(x: Tensor) -> int:
    return min(x.numel() * x.element_size(), x.untyped_storage().nbytes())


def run(quick: bool = False) -> list[dict]:
    return [row for frames in (16, 32) for row in places(64 if quick else PIXELS, frames)]


def places(pixels: int, frames: int) -> list[dict]:
    """Rows of each kind of place, and of all."""
    rows, total = [], {"ours": [0, 0, 0], "diffusers": [0, 0, 0]}
    for channels, per, often in PLACES:
        side, found = pixels // per, {}
        ours, theirs = pair(channels)
        for name, call in (("ours", lambda x: ours(x, frames)), ("diffusers", lambda x: theirs(x, num_frames=frames))):
            counted = found[name] = count(call, (ours, theirs), (CLIPS * frames, channels, side, side))
            operators, traffic, peak = total[name]
            total[name] = [operators + often * counted.operators, traffic + often * counted.traffic,
                           max(peak, counted.peak)]
        rows.append(_row(frames, str(channels), f"{side}×{side}", often, {
            name: (each.operators, each.traffic, each.peak) for name, each in found.items()}))
    rows.append(_row(frames, "all places", "", sum(often for *_, often in PLACES), total))
    return rows


@torch.no_grad()
def count(call, networks, shape: tuple[int, ...]) -> Counted:
    """Of one call, after one that may set things up."""
    with FakeTensorMode() as shapes, patch.object(network, "TILED", ()):
        for part in (part for each in networks for part in each.modules()):
            for tensors in (part._parameters, part._buffers):
                for name, tensor in tensors.items():
                    if tensor is not None and tensor.fake_mode is not shapes if hasattr(tensor, "fake_mode") else tensor is not None:
                        like = torch.empty(tensor.shape, dtype=DTYPE)
                        tensors[name] = torch.nn.Parameter(like, False) if tensors is part._parameters else like
        x = torch.empty(shape, dtype=DTYPE)
        call(x)
        with Counted() as counted:
            call(x)
    return counted


def _row(frames: int, channels: str, places: str, often: int, found: dict) -> dict:
    (ours, our_bytes, our_peak), (theirs, their_bytes, their_peak) = found["ours"], found["diffusers"]
    return {"frames": frames, "channels": channels, "positions": places, "in the UNet": often,
            "ours operators": ours, "diffusers operators": theirs, "ours GB": our_bytes / 1e9,
            "diffusers GB": their_bytes / 1e9, "diffusers/ours": their_bytes / our_bytes,
            "ours peak MiB": our_peak / 2**20, "diffusers peak MiB": their_peak / 2**20}
