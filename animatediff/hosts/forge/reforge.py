"""reForge: Forge's calls around a model that is also a `LatentDiffusion`."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from modules import sd_models
from torch import Tensor

from animatediff.hosts.forge.objects import Forge
from animatediff.hosts.shared import cfg_rows
from animatediff.hosts.shared.backend import Run


class ReForge(Forge):
    levels = "model_sampling"
    memory = "ldm_patched.modules.model_management"
    prediction = "ldm_patched.modules.model_sampling"
    mean = True
    margin = 1.5

    def unet_dtype(self, model: Any) -> torch.dtype:
        network = model.forge_objects.unet.model
        return network.manual_cast_dtype or network.get_dtype()

    def empty_prompt(self, model: Any) -> Tensor:
        return model.cond_stage_model_empty_prompt

    def equal_lengths(self, model: Any, params: Any, run: Run) -> None:
        cfg_rows.pad(params, lambda: self.empty_prompt(model))

    @contextmanager
    def model_alphas(self, model: Any, alphas: Tensor) -> Iterator[None]:
        before = model.alphas_cumprod  # a buffer
        model.alphas_cumprod = alphas.to(before)
        try:
            yield
        finally:
            model.alphas_cumprod = before

    def timestep_alphas(self, denoiser: Any) -> Tensor | None:
        return getattr(denoiser, "alphas", None)

    def back_to(self, info: Any, p: Any) -> None:
        with sd_models.SkipWritingToConfig():
            sd_models.reload_model_weights(info=info)
        self.with_loras(p)
