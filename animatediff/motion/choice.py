"""Choose between the Triton kernels and torch's operators for a temporal transformer.

Triton is optional, and not every GPU, compiler and Triton version works. So the kernels are tried once for each kind of
call, on a part of the input. They are used if they run, agree with the plain layers and are not slower.
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
# Weight dtypes, each with the largest difference from the plain layers, relative to the largest value.
DTYPES = {torch.float16: 1e-2, torch.bfloat16: 5e-2}
MOST_FRAMES = 128
TRIAL_PLACES, TRIAL_ROUNDS = 1_024, 3
SLOWER = 1.25  # kernels up to this factor slower are still used, so that the choice does not depend on timing noise
logger = logging.getLogger(__name__)
_trials: dict[tuple, bool] = {}


def fused(transformer: TemporalLayers, x: Tensor, frames: int, in_windows: InWindows | None,
          before: FusedTransformer | None, plainly: Callable[..., Tensor]) -> FusedTransformer | None:
    """Return a FusedTransformer that computes `transformer` for x [(clip frame) c h w]; None to use torch's operators.

    before: the previous FusedTransformer; returned again while the weights are unchanged.
    plainly: computes the same with torch's operators; the trial compares with it.
    """
    weight, longest = transformer.proj_in.weight, in_windows.longest if in_windows else frames
    if x.device.type not in DEVICES or weight.dtype not in DTYPES or x.device != weight.device:
        return None
    if longest > MOST_FRAMES or torch.is_grad_enabled() or not all(map(is_plain, transformer.modules())):
        return None
    kind = (x.device, x.dtype, weight.dtype, transformer.norm.num_channels, transformer.heads, longest)
    if kind not in _trials:
        result = _trial(transformer, x, frames, in_windows, plainly)
        if result is None:
            return None
        _trials[kind] = result
    if not _trials[kind]:
        return None
    if before is not None and before.unchanged(transformer.parameters()):
        return before
    return _fused_transformer(transformer)


def forget_trials() -> None:
    """Clear the results of all trials, so that the next call of each kind runs a new one."""
    _trials.clear()


def _fused_transformer(transformer: TemporalLayers) -> FusedTransformer:
    from animatediff.motion.fused import FusedTransformer  # needs Triton

    return FusedTransformer(transformer)


def _trial(transformer: TemporalLayers, x: Tensor, frames: int, in_windows: InWindows | None,
           plainly: Callable[..., Tensor]) -> bool | None:
    """Return whether the kernels work and are fast enough; None if the plain layers' result is not finite.

    The input is random and has the shape of some lines of x. OutOfMemoryError is raised, since running out of memory
    says nothing about the kernels.
    """
    lines = x[:, :, : max(1, TRIAL_PLACES // x.shape[3])]
    part = torch.empty_like(lines).normal_(generator=torch.Generator(x.device).manual_seed(0))
    try:
        kernels = _fused_transformer(transformer)
        result, plain = (work(part, frames, in_windows=in_windows).float() for work in (kernels, plainly))
        if not plain.isfinite().all():
            return None
        difference = ((result - plain).abs().max() / plain.abs().max()).item()
        if not difference <= DTYPES[transformer.proj_in.weight.dtype]:  # true for NaN as well
            logger.info("Triton kernels are not used: they differ by %.2g", difference)
            return False
        ours, theirs = (_seconds(partial(work, part, frames, in_windows=in_windows), x)
                        for work in (kernels, plainly))
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # no Triton, no compiler, an incompatible Triton version or device
        logger.info("Triton kernels are not used: %s: %s", type(error).__name__, error)
        return False
    if ours > SLOWER * theirs:
        logger.info("Triton kernels are not used: %.3g s for what takes %.3g s", ours, theirs)
        return False
    return True


def _seconds(work: Callable[[], Tensor], x: Tensor) -> float:
    """Return the shortest of TRIAL_ROUNDS timings; 0 without a GPU, where Triton's interpreter runs the kernels."""
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
