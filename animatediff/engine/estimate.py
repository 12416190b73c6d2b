"""How long a run will take and how much memory it will need, from a short trial of its networks."""
from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from animatediff.layout import ClipLayout
from animatediff.media.timing import duration
from animatediff.motion import injected

if TYPE_CHECKING:
    from animatediff.clip.plan import Plan
    from animatediff.engine.pipeline import Pipeline

FRAMES = 2  # frames of the trial, the fewest that the motion module mixes
TOKENS = 77  # length of a prompt's embedding


@dataclass(frozen=True)
class Estimate:
    """The time and memory that a run will need."""

    seconds: float
    memory: int  # bytes of all tensors, with the weights

    def __str__(self) -> str:
        return f"about {duration(self.seconds)}, {self.memory / 2**30:.2g} GB of memory"


@dataclass(frozen=True)
class Trial:
    """The time and memory of one call of a network."""

    seconds: float
    memory: int  # largest number of bytes of the call's tensors at once, without those that existed before


@torch.no_grad()
def estimate(pipeline: Pipeline, plan: Plan, calls: int) -> Estimate:
    """Return the estimate for the rest of a run. The UNet is tried on two frames and the VAE on one.

    calls: number of UNet calls in the rest of the run.
    """
    unet: Any = pipeline.unet
    vae: Any = pipeline.vae
    settings = plan.settings
    size = settings.height // pipeline.scale, settings.width // pipeline.scale
    where: dict[str, Any] = {"device": pipeline.device, "dtype": pipeline.dtype}
    x = torch.zeros(FRAMES, pipeline.components.channels, *size, **where)
    text = torch.zeros(FRAMES, TOKENS, unet.config.cross_attention_dim, **where)
    module = pipeline.module if settings.enable else None
    with injected(unet, module, ClipLayout.contiguous) if module else nullcontext():
        of_unet = tried(lambda: unet(x, torch.ones((), device=x.device), encoder_hidden_states=text).sample, unet)
    of_vae = tried(lambda: vae.decode(x[:1].to(vae.dtype)).sample, vae)
    roles = 1 if settings.cfg == 1 else 2
    rows = roles * min(settings.frames, settings.context_length)
    started = plan.inputs.pictures is not None
    frames = settings.frames * (2 if started else 1)  # the VAE encodes the start pictures as well
    weights = sum(map(size_of, filter(None, (unet, vae, module))))
    return Estimate(calls * rows * of_unet.seconds / FRAMES + frames * of_vae.seconds,
                    weights + max(rows * of_unet.memory // FRAMES, of_vae.memory))


def tried(call: Callable[[], Any], network: nn.Module) -> Trial:
    """Return the time of the second of two calls, and the memory of the first.

    The first call is slower, since it chooses and loads algorithms.
    """
    with LiveBytes(network) as live:
        call()
    device = next(network.parameters()).device
    _finish(device)
    begin = time.perf_counter()
    call()
    _finish(device)
    return Trial(time.perf_counter() - begin, live.most)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that are created in the block and still exist.

    network: its weights are not counted.
    now: bytes now. most: largest number of bytes at once.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.now = self.most = 0
        self._network = network  # keeps its weights alive, so that no other tensor gets the same storage address
        self._known: dict[int, Any] = {
            each.untyped_storage()._cdata: None for each in (*network.parameters(), *network.buffers())}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and not tensor.is_mkldnn:  # packed weights have no storage
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def gone(_: Any) -> None:
            self.now -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, gone)
        self.now += size
        self.most = max(self.most, self.now)


def size_of(network: nn.Module) -> int:
    """Return the number of bytes of a network's weights."""
    return sum(each.numel() * each.element_size() for each in network.parameters())


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
