"""Operators, memory traffic and intermediates of the motion module on a GPU, counted without a GPU.

The code that would run on a GPU is called on tensors without values; nothing is timed. Apart from the matrix products,
which both implementations have, a GPU's time is proportional to the bytes moved. Clips with guidance at 512×512, fp16.
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
READ_TWICE = ("aten::native_group_norm", "aten::native_layer_norm")  # for the statistics, and for the result


@dataclass(frozen=True)
class Counts:
    """Counts of a call."""

    operators: int = 0  # operators that compute
    traffic: int = 0  # bytes read and written
    peak: int = 0  # largest total size of the tensors created, in bytes

    def plus(self, others: Counts, times: int) -> Counts:
        return Counts(self.operators + times * others.operators, self.traffic + times * others.traffic,
                      max(self.peak, others.peak))


class Counting(TorchDispatchMode):
    """Dispatch mode that adds the operators of a `with` block to `counts`."""

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
    """Return the tensors among the values, and in lists or tuples among them."""
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
    """Return a row for each kind of site, and one for all sites."""
    rows, total = [], {"ours": Counts(), "diffusers": Counts()}
    for channels, per, count in PLACES:
        side = pixels // per
        ours, theirs = pair(channels)
        for norm in ("group", "layer"):  # fills the cache, since trials need tensors with values
            for_norm(torch.empty(1, dtype=DTYPE), norm)
        with FakeTensorMode(), patch.object(transformer, "TILED", ()):
            without_values(ours), without_values(theirs)
            x = torch.empty(CLIPS * frames, channels, side, side, dtype=DTYPE)
            found = {"ours": counted(lambda: ours(x, frames)),
                     "diffusers": counted(lambda: theirs(x, num_frames=frames))}
        total = {name: total[name].plus(found[name], count) for name in total}
        rows.append(_row(frames, str(channels), f"{side}×{side}", count, found))
    return [*rows, _row(frames, "all places", "", sum(count for *_, count in PLACES), total)]


def without_values(network: nn.Module) -> None:
    """Replace all weights by empty tensors of the same shape; call this inside a FakeTensorMode."""
    for part in network.modules():
        part._parameters.update({name: nn.Parameter(torch.empty(weight.shape, dtype=DTYPE), requires_grad=False)
                                 for name, weight in part._parameters.items() if weight is not None})
        part._buffers.update({name: torch.empty(buffer.shape, dtype=DTYPE) for name, buffer in part._buffers.items()})


def counted(call: Callable[[], Tensor]) -> Counts:
    """Return the counts of the second call, since the first may do one-time work."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # read by side_by_side
        call()
        with Counting() as found:
            call()
    return found.counts


def _row(frames: int, channels: str, places: str, count: int, found: dict[str, Counts]) -> dict:
    ours, theirs = found["ours"], found["diffusers"]
    return {"frames": frames, "channels": channels, "positions": places, "in the UNet": count,
            "ours operators": ours.operators, "diffusers operators": theirs.operators,
            "ours GB": ours.traffic / 1e9, "diffusers GB": theirs.traffic / 1e9,
            "ours peak MiB": ours.peak / 2**20, "diffusers peak MiB": theirs.peak / 2**20}
