"""A stand-in for Forge's and reForge's calls of their UNet, built from the traces.

test_forge_call.py compares it with them.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

PROMPT, NEGATIVE = 0, 1


class Predictor(nn.Module):
    """Noise levels as two buffers."""

    def __init__(self, alphas: Tensor):
        super().__init__()
        self.set_sigmas(((1 - alphas) / alphas).sqrt())

    def set_sigmas(self, sigmas: Tensor) -> None:
        self.register_buffer("sigmas", sigmas.float())
        self.register_buffer("log_sigmas", sigmas.log().float())


class KModel(nn.Module):
    """A model whose output for a row depends only on that row, so that windows change nothing.

    `calls`: the arguments of each call.
    `estimates`: the shapes of the memory estimates.
    """

    computation_dtype = torch.float32
    needed = 1  # bytes per row

    def __init__(self) -> None:
        super().__init__()
        self.diffusion_model = nn.Identity()
        self.predictor = Predictor(torch.linspace(0.999, 0.005, 1000))
        self.calls: list[dict[str, Any]] = []
        self.estimates: list[list[int]] = []

    def memory_required(self, input_shape: Sequence[int]) -> int:
        self.estimates.append(list(input_shape))
        return input_shape[0] * self.needed

    def apply_model(self, x: Tensor, t: Tensor, c_crossattn: Any = None, control: Any = None, y: Any = None,
                    transformer_options: Any = None) -> Tensor:
        frames = len(transformer_options["sigmas"])
        kinds = transformer_options["cond_or_uncond"]
        assert len(x) == len(t) == len(c_crossattn) == frames * len(kinds)
        for name, count in (("cond_mark", frames * len(kinds)), ("uuids", len(kinds))):
            assert len(transformer_options.get(name, range(count))) == count
        self.calls.append({"rows": len(x), "chunks": kinds, "told": transformer_options})
        added = c_crossattn.mean((1, 2))[:, None, None, None]
        for patch in transformer_options.get("patches_replace", {}).get("attn2", {}).values():
            added = added + patch(transformer_options)
        for patch in transformer_options.get("patches_replace", {}).get("attn1", {}).values():
            tokens = x.flatten(2).mT
            assert torch.equal(patch(tokens, 2 * tokens, tokens, {**transformer_options, "n_heads": 1}), tokens)
        if control is not None:
            added = added + control["output"].pop()  # as the UNet does: the rest would reach the next window
        return x * 0.5 + added


class BaseModel(KModel):
    """reForge's."""


class Adapter:
    """The part of an IP-Adapter in one place of the UNet. The host's reads `ad_params` in the same way."""

    def __init__(self, conds: Tensor, unconds: Tensor, unfold_batch: Any):
        self.conds, self.unconds, self.unfold_batch = [conds], [unconds], [unfold_batch]

    def __call__(self, told: dict[str, Any]) -> Tensor:
        """Return its addition [(chunk frame) 1 1 1]."""
        frames = len(told["sigmas"])
        rows = []
        for pictures in (self.conds[0], self.unconds[0]):
            if self.unfold_batch[0] and len(pictures) > 1:
                if "ad_params" in told:
                    missing = told["ad_params"]["full_length"] - len(pictures)
                    assert missing > 0, "else the host makes a tensor of the CPU"
                    pictures = torch.cat([pictures, pictures[-1:].expand(missing, -1, -1)])
                    pictures = pictures[told["ad_params"]["sub_idxs"]]
                rows.append(pictures[:frames])
            else:
                rows.append(pictures[:1].expand(frames, -1, -1))
        return torch.cat([rows[kind] for kind in told["cond_or_uncond"]]).mean((1, 2))[:, None, None, None]


class Patcher:
    def __init__(self, model: KModel):
        self.model = model
        self.model_options: dict[str, Any] = {"transformer_options": {}}

    def memory_required(self, shape: Sequence[int]) -> int:
        return self.model.memory_required(input_shape=shape)


def prepared(patcher: Patcher, x: Tensor) -> int:
    """Return the bytes that the host wants free before it samples."""
    estimate = patcher.model_options.get("memory_peak_estimation_modifier", patcher.memory_required)
    return estimate([len(x) * 2, *x.shape[1:]])


def denoised(patcher: Patcher, x: Tensor, sigma: Tensor, cond: Tensor, weights: Sequence[Sequence[float]],
             uncond: Tensor | None, scale: float, free: float = math.inf, control: Tensor | None = None) -> Tensor:
    """Return x₀ [frame c h w] with guidance.

    cond: [(frame part) tokens d].
    uncond: [frame tokens d].
    weights: weights of each frame's parts.
    free: bytes of memory.
    control: [frame c h w], added for prompts.
    """
    if math.isclose(scale, 1):
        uncond = None
    parts = len(weights[0])
    waiting = [(cond[part::parts], weights[-1][part], PROMPT) for part in range(parts)]
    waiting += [] if uncond is None else [(uncond, 1.0, NEGATIVE)]
    answers = {kind: torch.zeros_like(x) for kind in (PROMPT, NEGATIVE)}
    counts = dict.fromkeys((PROMPT, NEGATIVE), 1e-37)
    while waiting:
        fitting = [i for i, one in enumerate(waiting) if one[0].shape == waiting[0][0].shape][::-1]
        some = fitting[:1]
        for share in range(1, len(fitting) + 1):
            tried = fitting[: len(fitting) // share]
            if patcher.model.memory_required([len(tried) * len(x), *x.shape[1:]]) < free:
                some = tried
                break
        chosen = [waiting.pop(i) for i in some]
        for (_, weight, kind), answer in zip(chosen, _asked(patcher, x, sigma, chosen, control)):
            answers[kind] += answer * weight
            counts[kind] += weight
    prompt, negative = (answers[kind] / counts[kind] for kind in (PROMPT, NEGATIVE))
    if uncond is None and isinstance(patcher.model, BaseModel):
        return prompt
    return negative + (prompt - negative) * scale * sum(weights[-1])


def _asked(patcher: Patcher, x: Tensor, sigma: Tensor, chosen: Sequence[Any],
           control: Tensor | None) -> Sequence[Tensor]:
    kinds = [kind for _, _, kind in chosen]
    rows = [kind for kind in kinds for _ in range(len(x))]
    told = {**patcher.model_options["transformer_options"], "cond_or_uncond": kinds, "sigmas": sigma}
    told |= {"uuids": kinds} if isinstance(patcher.model, BaseModel) else {
        "cond_mark": torch.tensor(rows, dtype=sigma.dtype),
        "cond_indices": [i for i, kind in enumerate(rows) if kind == PROMPT],
        "uncond_indices": [i for i, kind in enumerate(rows) if kind == NEGATIVE]}
    c: dict[str, Any] = {"c_crossattn": torch.cat([one for one, _, _ in chosen]), "transformer_options": told}
    if control is not None:
        c["control"] = {"output": [torch.cat([control if kind == PROMPT else torch.zeros_like(control)
                                              for kind in kinds])]}
    batch, t = torch.cat([x] * len(chosen)), torch.cat([sigma] * len(chosen))
    if wrapper := patcher.model_options.get("model_function_wrapper"):
        out = wrapper(patcher.model.apply_model, {"input": batch, "timestep": t, "c": c, "cond_or_uncond": kinds})
    else:
        out = patcher.model.apply_model(batch, t, **c)
    return out.chunk(len(chosen))
