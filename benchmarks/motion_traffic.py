"""What the motion part asks of a GPU, counted without one: operators, bytes that they read and write, intermediates.

The code that runs on a GPU, called on tensors that have a shape and no values; nothing is timed. Beside the matrix
products, which both have, a GPU's time goes with the bytes. Clips with guidance at 512×512 in fp16.
"""
from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from animatediff.motion import transformer
from animatediff.motion.precision import for_norm
from benchmarks.motion_part import PLACES, pair

CLIPS, PIXELS, DTYPE = 2, 512, torch.float16
READ_TWICE = ("aten::native_group_norm", "aten::native_layer_norm")  # for the statistics, and for what comes of them


@dataclass(frozen=True)
class Counts:
    """Operators that compute, bytes that they read and write, and the most bytes of what they made at a time."""

    operators: int = 0
    traffic: int = 0
    peak: int = 0

    def plus(self, others: Counts, times: int) -> Counts:
        return Counts(self.operators + times * others.operators, self.traffic + times * others.traffic,
                      max(self.peak, others.peak))


class Counting(TorchDispatchMode):
    """`with` it, what operators do is added to `counts`."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()
        self.made: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        out = operator(*args, **(kwargs or {}))
        given, results = _tensors(args), _tensors((out,))
        fresh = {_storage(each) for each in results} - {_storage(each) for each in given}
        if operator.is_view or not (fresh or operator._schema.is_mutable):
            return out
        self.made |= {_storage(each): each.untyped_storage().nbytes() for each in results if _storage(each) in fresh}
        self.made = {storage: size for storage, size in self.made.items() if not storage.expired()}
        twice = given[:1] if operator._schema.name in READ_TWICE else []
        computes = "empty" not in operator._schema.name
        self.counts = Counts(self.counts.operators + computes,
                             self.counts.traffic + computes * sum(map(_bytes, [*given, *twice, *results])),
                             max(self.counts.peak, sum(self.made.values())))
        return out


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """Those among them, and in lists among them."""
    flat = (each for value in values for each in (value if isinstance(value, (tuple, list)) else (value,)))
    return [each for each in flat if isinstance(each, Tensor)]


def _storage(x: Tensor) -> StorageWeakRef:
    return StorageWeakRef(x.untyped_storage())


def _bytes(x: Tensor) -> int:
    return min(x.numel() * x.element_size(), x.untyped_storage().nbytes())


def run(quick: bool = False) -> list[dict]:
    return [row for frames in (16, 32) for row in places(64 if quick else PIXELS, frames)]


@torch.no_grad()
def places(pixels: int, frames: int) -> list[dict]:
    """Rows of each kind of place, and of all."""
    rows, total = [], {"ours": Counts(), "diffusers": Counts()}
    for channels, per, often in PLACES:
        side = pixels // per
        ours, theirs = pair(channels)
        for norm in ("group", "layer"):  # as with a torch whose kernels keep fp32; without values there is no trying
            for_norm(torch.empty(1, dtype=DTYPE), norm)
        with FakeTensorMode(), patch.object(transformer, "TILED", ()):
            without_values(ours), without_values(theirs)
            x = torch.empty(CLIPS * frames, channels, side, side, dtype=DTYPE)
            found = {"ours": counted(lambda: ours(x, frames)),
                     "diffusers": counted(lambda: theirs(x, num_frames=frames))}
        total = {name: total[name].plus(found[name], often) for name in total}
        rows.append(_row(frames, str(channels), f"{side}×{side}", often, found))
    return [*rows, _row(frames, "all places", "", sum(often for *_, often in PLACES), total)]


def without_values(network: nn.Module) -> None:
    """Its weights become tensors of their shapes, as the FakeTensorMode that this is called in makes them."""
    for part in network.modules():
        part._parameters.update({name: nn.Parameter(torch.empty(weight.shape, dtype=DTYPE), requires_grad=False)
                                 for name, weight in part._parameters.items() if weight is not None})
        part._buffers.update({name: torch.empty(buffer.shape, dtype=DTYPE) for name, buffer in part._buffers.items()})


def counted(call: Callable[[], Tensor]) -> Counts:
    """Of the second call: the first may set things up."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # to see where weights lie
        call()
        with Counting() as found:
            call()
    return found.counts


def _row(frames: int, channels: str, places: str, often: int, found: dict[str, Counts]) -> dict:
    ours, theirs = found["ours"], found["diffusers"]
    return {"frames": frames, "channels": channels, "positions": places, "in the UNet": often,
            "ours operators": ours.operators, "diffusers operators": theirs.operators,
            "ours GB": ours.traffic / 1e9, "diffusers GB": theirs.traffic / 1e9,
            "ours peak MiB": ours.peak / 2**20, "diffusers peak MiB": theirs.peak / 2**20}
