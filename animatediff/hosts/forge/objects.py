"""Forge: a checkpoint holds `forge_objects`, its UNet is called through `model_options` with σ and answers with x₀."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Any

import torch
from modules import extra_networks, sd_models, shared
from torch import Tensor, nn

from animatediff.attribute import attribute
from animatediff.hosts.forge import calls
from animatediff.hosts.shared import cfg_rows
from animatediff.hosts.shared.backend import Run
from animatediff.sampling import betas

BUFFERS = ("sigmas", "log_sigmas")


class Forge:
    """See hosts.shared.backend."""

    equal_parts = True  # it goes by the frame with the fewest
    memory = "backend.memory_management"
    prediction = "backend.modules.k_prediction"  # where Zero Terminal SNR is

    def loaded(self) -> Any:
        model = sd_models.model_data.sd_model  # until the first job, a stand-in without weights
        return model if hasattr(model, "forge_objects") else None

    def unet(self, model: Any) -> nn.Module | None:
        return getattr(model.forge_objects.unet.model, "diffusion_model", None)

    def unet_dtype(self, model: Any) -> torch.dtype:
        return model.forge_objects.unet.model.computation_dtype

    def noise_levels(self, model: Any) -> Any:
        """The module with the buffers `sigmas` and `log_sigmas`."""
        return model.forge_objects.unet.model.predictor

    def empty_prompt(self, model: Any) -> Tensor:
        made = model.get_learned_conditioning([""])
        return made["crossattn"] if isinstance(made, dict) else made

    def equal_lengths(self, model: Any, cond: Any, uncond: Any) -> tuple[Any, Any]:
        """The host would repeat the shorter one's tokens. It has no `uncond` where CFG is 1."""
        if uncond is None:
            return cond, uncond

        def empty() -> Tensor:
            made = self.empty_prompt(model)
            # the text encoder may have taken the UNet's place
            import_module(self.memory).load_model_gpu(model.forge_objects.unet)
            return made

        return cfg_rows.equal_lengths(cond, uncond, empty)

    @contextmanager
    def scheduled(self, model: Any, schedule: betas.Schedule, p: Any) -> Iterator[None]:
        """The buffers of before come back themselves: `set_sigmas` would give other logarithms."""
        levels = self.noise_levels(model)
        before = {name: getattr(levels, name) for name in BUFFERS}
        alphas = betas.alphas_cumprod(schedule)
        sigmas = ((1 - alphas) / alphas).sqrt().to(before["sigmas"])
        if _zero_terminal_snr(model):  # the host has rescaled its own
            sigmas = import_module(self.prediction).rescale_zero_terminal_snr_sigmas(sigmas)
        with self.model_alphas(model, 1 / (sigmas**2 + 1)):
            try:
                levels.set_sigmas(sigmas)
                yield
            finally:
                for name, tensor in before.items():
                    levels.register_buffer(name, tensor)

    def model_alphas(self, model: Any, alphas: Tensor) -> AbstractContextManager[None]:
        """Samplers on timesteps read the model's `alphas_cumprod`, and write it."""
        return attribute(model, "alphas_cumprod", alphas)

    def alphas_cumprod(self, model: Any) -> Tensor:
        return 1 / (self.noise_levels(model).sigmas.detach().cpu() ** 2 + 1)

    def timestep_alphas(self, denoiser: Any) -> Tensor | None:
        return shared.sd_model.alphas_cumprod if denoiser.classic_ddim_eps_estimation else None

    def renew(self, denoiser: Any) -> None:
        denoiser.model_wrap = None
        denoiser.sampler.model_wrap = denoiser.inner_model
        if hasattr(denoiser, "alphas"):
            denoiser.alphas = shared.sd_model.alphas_cumprod

    def called(self, model: Any, run: Run) -> AbstractContextManager[None]:
        return calls.called(model.forge_objects.unet, run, import_module(self.memory).get_free_memory)

    def make_room(self, bytes: int) -> None:
        memory = import_module(self.memory)
        memory.free_memory(bytes + memory.minimum_inference_memory(), memory.get_torch_device())

    def waiting(self, model: Any) -> list[Any]:
        """The host moves networks itself."""
        return []

    def back_to(self, info: Any, p: Any) -> None:
        """The host's loading parameters are those of the checkpoint that the job began with."""
        sd_models.forge_model_reload()
        self.with_loras(p)

    def with_loras(self, p: Any) -> None:
        """The model as the host prepares it for a batch."""
        if not p.disable_extra_networks:
            extra_networks.activate(p, p.extra_network_data)
        model = shared.sd_model
        model.forge_objects = model.forge_objects_after_applying_lora.shallow_copy()


def _zero_terminal_snr(model: Any) -> bool:
    chosen = getattr(shared.opts, "sd_noise_schedule", "Default") == "Zero Terminal SNR"
    return chosen or any(getattr(part, "ztsnr", False) for part in (model, getattr(model, "model_config", None)))
