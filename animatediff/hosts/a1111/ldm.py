"""The backend of AUTOMATIC1111's WebUI: checkpoints are `LatentDiffusion`s, and `apply_model` calls the UNet."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from modules import devices, sd_models, shared
from torch import Tensor, nn

from animatediff.attribute import attribute
from animatediff.errors import ModelError
from animatediff.hosts.shared import cfg_rows
from animatediff.hosts.shared.backend import Run
from animatediff.hosts.shared.cfg_rows import Rows, take
from animatediff.sampling import betas


class LatentDiffusion:
    """The backend protocol is documented in hosts.shared.backend."""

    equal_parts = False

    def loaded(self) -> Any:
        return getattr(sd_models.model_data, "sd_model", None)

    def unet(self, model: Any) -> nn.Module | None:
        return getattr(getattr(model, "model", None), "diffusion_model", None)

    def unet_dtype(self, model: Any) -> torch.dtype:
        return devices.dtype_unet

    def empty_prompt(self, model: Any) -> Tensor:
        return model.cond_stage_model_empty_prompt

    def equal_lengths(self, model: Any, params: Any, run: Run) -> None:
        if not shared.opts.pad_cond_uncond_v0:  # else the host does so itself
            cfg_rows.pad(params, lambda: self.empty_prompt(model))

    @contextmanager
    def scheduled(self, model: Any, schedule: betas.Schedule, p: Any) -> Iterator[None]:
        before = model.alphas_cumprod, model.alphas_cumprod_original
        try:
            model.alphas_cumprod_original = betas.alphas_cumprod(schedule).to(before[1])
            sd_models.apply_alpha_schedule_override(model, p)
            yield
        finally:
            model.alphas_cumprod, model.alphas_cumprod_original = before

    def alphas_cumprod(self, model: Any) -> Tensor:
        return model.alphas_cumprod.detach().cpu()

    def timestep_alphas(self, denoiser: Any) -> Tensor | None:
        return getattr(denoiser, "alphas", None)

    def renew(self, denoiser: Any) -> None:
        denoiser.model_wrap = None
        denoiser.sampler.model_wrap = denoiser.inner_model
        if hasattr(denoiser, "alphas"):
            denoiser.alphas = shared.sd_model.alphas_cumprod

    @contextmanager
    def called(self, model: Any, run: Run) -> Iterator[None]:
        plain = model.apply_model

        def apply_model(x: Tensor, t: Tensor, cond: Any, *args: Any, **kwargs: Any) -> Tensor:
            if run.error is not None:
                raise run.error
            if run.parts is None:  # not from the denoiser: another caller's single picture
                return plain(x, t, cond, *args, **kwargs)
            parts, run.parts = run.parts, None
            try:
                rows = Rows.of_call(list(map(len, parts)), len(x))
            except ValueError as error:
                raise ModelError(f"the UNet is called with a batch that is not the clip's: {error}",
                                 remedy="Another extension changes the batch; disable it for this clip.") from error

            def of_rows(batch: Tensor, chosen: Tensor) -> Tensor:
                return plain(batch, t[chosen.to(t.device)], take(cond, chosen, len(x)), *args, **kwargs)

            return run.answer(rows, x, t, of_rows)

        with attribute(model, "apply_model", apply_model):
            yield

    def make_room(self, bytes: int) -> None:
        """Do nothing: the host does not move its networks."""

    def waiting(self, model: Any) -> list[Any]:
        """Return the text encoders.

        The VAE is left out because it may be decoding a live preview. With --medvram the host moves networks itself, so
        the list is empty.
        """
        encoders = [getattr(model, name, None) for name in ("conditioner", "cond_stage_model")]  # SDXL's, other models'
        return [] if getattr(model, "lowvram", False) else [encoder for encoder in encoders if encoder is not None]

    def back_to(self, info: Any, p: Any) -> None:
        with sd_models.SkipWritingToConfig():
            sd_models.reload_model_weights(info=info)
