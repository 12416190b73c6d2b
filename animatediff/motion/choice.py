"""Whether a temporal transformer's work is done by Triton kernels: tried once for each kind of call, on a part of it.

Triton is optional, and not every GPU, compiler and version of it does: kernels have to run, to agree with the plain
layers, and not to be slower.
"""
from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from animatediff.motion.plain import is_plain

if TYPE_CHECKING:
    from animatediff.motion.fused import FusedTransformer
    from animatediff.motion.in_windows import InWindows
    from animatediff.motion.layers import TemporalLayers

DEVICES = ("cuda",)  # ROCm's name, too
DTYPES = {torch.float16: 1e-2, torch.bfloat16: 5e-2}  # largest difference from the plain layers, of the largest value
MOST_FRAMES = 128
TRIAL_PLACES, TRIAL_ROUNDS = 1_024, 3
SLOWER = 1.25  # than the plain layers, is still taken, so that a choice does not depend on chance
logger = logging.getLogger(__name__)
_trials: dict[tuple, bool] = {}


def fused(transformer: TemporalLayers, x: Tensor, frames: int, in_windows: InWindows | None,
          before: FusedTransformer | None, plainly: Callable[..., Tensor]) -> FusedTransformer | None:
    """What computes `transformer` for x [(clip frame) c h w] by kernels, `before` if that still is; None where
    `plainly`, torch's operators, is to do the work."""
    weight, longest = transformer.proj_in.weight, in_windows.longest if in_windows else frames
    if x.device.type not in DEVICES or weight.dtype not in DTYPES or x.device != weight.device:
        return None
    if longest > MOST_FRAMES or torch.is_grad_enabled() or not all(map(is_plain, transformer.modules())):
        return None
    kind = (x.device, x.dtype, weight.dtype, transformer.norm.num_channels, transformer.heads, longest)
    if kind not in _trials:
        found = _trial(transformer, x, frames, in_windows, plainly)
        if found is None:
            return None
        _trials[kind] = found
    if not _trials[kind]:
        return None
    if before is not None and before.made_of(transformer.parameters()):
        return before
    return _made(transformer)


def forget_trials() -> None:
    """The next call of each kind tries again."""
    _trials.clear()


def _made(transformer: TemporalLayers) -> FusedTransformer:
    from animatediff.motion.fused import FusedTransformer  # needs Triton

    return FusedTransformer(transformer)


def _trial(transformer: TemporalLayers, x: Tensor, frames: int, in_windows: InWindows | None,
           plainly: Callable[..., Tensor]) -> bool | None:
    """On random numbers in the form of some lines of x. None where the layers themselves give no numbers. A shortage of
    memory is raised: it says nothing of the kernels."""
    lines = x[:, :, : max(1, TRIAL_PLACES // x.shape[3])]
    part = torch.empty_like(lines).normal_(generator=torch.Generator(x.device).manual_seed(0))
    try:
        kernels = _made(transformer)
        found, plain = (work(part, frames, in_windows=in_windows).float() for work in (kernels, plainly))
        if not plain.isfinite().all():
            return None
        apart = ((found - plain).abs().max() / plain.abs().max()).item()
        if not apart <= DTYPES[transformer.proj_in.weight.dtype]:  # nor is NaN
            logger.info("Triton kernels are not used: they differ by %.2g", apart)
            return False
        ours, theirs = (_seconds(partial(work, part, frames, in_windows=in_windows), x)
                        for work in (kernels, plainly))
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # no Triton, no compiler for it, another version's language, a device it cannot do
        logger.info("Triton kernels are not used: %s: %s", type(error).__name__, error)
        return False
    if ours > SLOWER * theirs:
        logger.info("Triton kernels are not used: %.3g s for what takes %.3g s", ours, theirs)
        return False
    return True


def _seconds(work: Callable[[], Tensor], x: Tensor) -> float:
    """The shortest of some times; 0 without a GPU, where kernels are interpreted."""
    if not x.is_cuda:
        return 0.0
    times = []
    for _ in range(TRIAL_ROUNDS):
        torch.cuda.synchronize(x.device)
        start = time.perf_counter()
        work()
        torch.cuda.synchronize(x.device)
        times.append(time.perf_counter() - start)
    return min(times)
