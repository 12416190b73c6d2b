"""Forge's calls of the UNet, computed window by window.

A call consists of chunks. Each chunk holds all frames of the clip in one role, the last role first: `cond_or_uncond`
[1, 0] is the negative prompt, then the prompt; with AND, [1, 0, 0] has the last part before the first. During a pass
the patcher has our `model_function_wrapper`, and the host estimates memory for a window instead of the clip.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from animatediff.attribute import attribute
from animatediff.hosts.forge.attention_map import AttentionMaps
from animatediff.hosts.shared.backend import Run
from animatediff.hosts.shared.cfg_rows import Rows, take

WRAPPER = "model_function_wrapper"
ESTIMATE = "memory_peak_estimation_modifier"
MODIFIERS = "conditioning_modifiers"  # functions that run before a step's calls; ControlNet's reference calls the UNet
ANOTHER = "another extension calls the UNet, too"
PROMPT, NEGATIVE = 0, 1  # values in `cond_or_uncond`


@contextmanager
def called(patcher: Any, run: Run, free: Callable[[torch.device], float], mean: bool = False) -> Iterator[None]:
    """Send calls of this `UnetPatcher` through `run` inside the block.

    free: returns the free bytes of memory on a device, as the host counts them.
    mean: see `reweighted`.
    """
    kind = type(patcher.model)
    limited = _limited(run)
    options = dict(patcher.model_options)
    if ESTIMATE in options:
        plain = options[ESTIMATE]
        options[ESTIMATE] = lambda shape, *args, **kwargs: plain(limited(shape), *args, **kwargs)
    required = kind.memory_required

    def fits(rows: int, x: Tensor) -> bool:
        return required(patcher.model, [rows, *x.shape[1:]]) < free(x.device)

    options[WRAPPER] = _wrapper(run, options, fits, mean)

    def memory_required(model: Any, input_shape: Sequence[int], *args: Any, **kwargs: Any) -> Any:
        return required(model, limited(input_shape), *args, **kwargs)

    # Patch the class: the host estimates memory for the refiner's UNet before any callback runs.
    with attribute(patcher, "model_options", options), attribute(kind, "memory_required", memory_required):
        yield


def rows_of(kinds: Sequence[int], rows: int) -> Rows:
    """Return the rows of a call with these chunks. The prompt is role 0."""
    frames = rows // len(kinds)
    table = torch.arange(rows).view(len(kinds), frames).flip(0).T
    return Rows(table, torch.ones_like(table, dtype=torch.bool))


def cut(c: dict[str, Any], kinds: Sequence[int], rows: int, chosen: Tensor) -> tuple[dict[str, Any], list[int]]:
    """Return the conditioning of a call for the rows `chosen` [(role frame)], and the kinds of its chunks."""
    whole = rows // len(kinds)
    chunks, counts = torch.unique_consecutive(chosen // whole, return_counts=True)
    of_chunks, frames = [kinds[int(chunk)] for chunk in chunks], int(counts[0])
    options = dict(c["transformer_options"])
    options["cond_or_uncond"] = of_chunks
    options["sigmas"] = options["sigmas"][:frames]
    # The host's IP-Adapter takes these rows of its pictures. It makes a CPU tensor of them unless the length exceeds
    # their number.
    options["ad_params"] = {"sub_idxs": (chosen[:frames] % whole).tolist(), "full_length": whole + 1}
    if "uuids" in options:  # reForge's, one per chunk
        options["uuids"] = [options["uuids"][int(chunk)] for chunk in chunks]
    if "cond_mark" in options:
        options["cond_mark"] = take(options["cond_mark"], chosen, rows)
        of_rows = [kind for kind in of_chunks for _ in range(frames)]
        options["cond_indices"] = [i for i, kind in enumerate(of_rows) if kind == PROMPT]
        options["uncond_indices"] = [i for i, kind in enumerate(of_rows) if kind != PROMPT]
    apart = {"transformer_options": options}
    if "control_model" in c:
        apart["control_model"] = c["control_model"]
    return {**take({k: v for k, v in c.items() if k not in apart}, chosen, rows), **apart}, of_chunks


def reweighted(answer: Tensor, kinds: Sequence[int], weights: Sequence[Sequence[float]], mean: bool = False) -> Tensor:
    """Adjust a call's output [(chunk frame) c h w] so that the host applies each frame's own weights of AND's parts.

    The host uses the weights of the last frame for all frames.
    mean: whether the host takes the mean of the parts, not their sum, if the call has no negative prompt.
    """
    parts = [chunk for chunk, kind in enumerate(kinds) if kind == PROMPT][::-1]  # in the order of AND
    own = torch.tensor([of_frame[:len(parts)] for of_frame in weights])
    last, heaviest = own[-1], int(own[-1].abs().argmax()) if parts else 0
    if torch.equal(own, last.expand_as(own)) or not last[heaviest]:
        return answer
    chunks = answer.unflatten(0, (len(kinds), -1))
    negative = chunks[kinds.index(NEGATIVE)] if NEGATIVE in kinds else torch.zeros_like(chunks[0])
    if mean and NEGATIVE not in kinds:
        own = own * (last.sum() / own.sum(1, keepdim=True))
    own = own.to(answer)[..., None, None, None]
    change = sum(own[:, place] * (chunks[part] - negative) for place, part in enumerate(parts))
    made = chunks.clone()
    made[parts] = negative
    made[parts[heaviest]] += change / last[heaviest]
    return made.flatten(0, 1)


def noise(x: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
    """Return the noise ε in x = x₀ + σε, in float32. sigma: [rows]."""
    return (x.float() - x0.float()) / sigmas_of(sigma, x)


def sigmas_of(sigma: Tensor, x: Tensor) -> Tensor:
    """Return σ of each row, [rows 1 1 1], in float32, on the device of x."""
    return sigma.to(x.device, torch.float32).view(-1, *[1] * (x.ndim - 1))


def _limited(run: Run) -> Callable[[Sequence[int]], list[int]]:
    """Return a function that gives the shape for the host's memory estimate: one window in two roles.

    While the denoiser runs, the shape has no rows, so that the host does not split cond and uncond; `run` splits them
    when memory is short.
    """
    def limited(shape: Sequence[int]) -> list[int]:
        rows = 0 if run.parts is not None else min(shape[0], 2 * run.settings.context_length)
        return [rows, *shape[1:]]

    return limited


def _wrapper(run: Run, options: dict[str, Any], fits: Callable[[int, Tensor], bool],
             mean: bool) -> Callable[..., Tensor]:
    """Return the wrapper of the model function. It is a plain function because the host deep-copies options."""
    before, modified = options.get(WRAPPER), MODIFIERS in options
    asked = False  # whether the memory check below has been done
    maps = AttentionMaps()
    of_step: Any = None  # `run.parts` of the last call

    def wrapper(apply_model: Callable[..., Tensor], call: dict[str, Any]) -> Tensor:
        if run.error is not None:
            raise run.error
        x, t, c, kinds = call["input"], call["timestep"], call["c"], call["cond_or_uncond"]

        def ask(batch: Tensor, t: Tensor, c: dict[str, Any], kinds: Sequence[int]) -> Tensor:
            if before is None:
                return apply_model(batch, t, **c)
            return before(apply_model, {"input": batch, "timestep": t, "c": c, "cond_or_uncond": kinds})

        if run.parts is None or len(x) != len(kinds) * len(run.parts):  # not from the denoiser, or not the clip
            return ask(x, t, c, kinds)

        nonlocal asked, of_step
        if run.parts is of_step or modified:  # also the call of another extension, such as SAG
            run.reuse.stop(ANOTHER)
        of_step = run.parts
        if not asked:  # the host has loaded its networks by now; does a window with all roles fit into memory?
            window = min(run.settings.context_length, len(run.parts)) * len(kinds)
            asked, run.memory.apart = True, run.memory.apart or not fits(window, x)

        # Steps of a speed preset reuse differences between outputs. Those of the noise change less than those of x₀.
        of_noise = run.settings.speed != "exact"

        def of_rows(batch: Tensor, chosen: Tensor) -> Tensor:
            some, of_chunks = cut(c, kinds, len(x), chosen)
            some["transformer_options"] = maps.collecting(some["transformer_options"], kinds, len(x), chosen)
            of_batch = t[chosen.to(t.device)]
            out = ask(batch, of_batch, some, of_chunks)
            return noise(batch, out, of_batch) if of_noise else out

        weights = run.parts
        made = run.answer(rows_of(kinds, len(x)), x, t, of_rows)
        maps.record()
        if of_noise:
            made = (x.float() - sigmas_of(t, x) * made).to(x)
        return reweighted(made, kinds, weights, mean)

    return wrapper
