"""Forge: checkpoints hold `forge_objects`. The UNet is called through `model_options` with σ and returns x₀."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Any

import torch
from modules import extra_networks, sd_models, shared
from torch import Tensor, nn

from animatediff.attribute import attribute, wrapped
from animatediff.errors import SettingsError
from animatediff.hosts.forge import calls
from animatediff.hosts.shared import cfg_rows
from animatediff.hosts.shared.backend import Run
from animatediff.sampling import betas

BUFFERS = ("sigmas", "log_sigmas")


class Forge:
    """The backend protocol is documented in hosts.shared.backend."""

    equal_parts = True  # the host uses the frame with the fewest parts for all
    levels = "predictor"  # name of the module with the noise levels in the patcher's model
    memory = "backend.memory_management"
    prediction = "backend.modules.k_prediction"  # has Zero Terminal SNR
    mean = False  # see `calls.reweighted`
    margin = 1.0  # the host splits a call if this multiple of its estimate exceeds the free memory

    def loaded(self) -> Any:
        model = sd_models.model_data.sd_model  # before the first job, a placeholder without weights
        return model if hasattr(model, "forge_objects") else None

    def unet(self, model: Any) -> nn.Module | None:
        return _uncompiled(getattr(model.forge_objects.unet.model, "diffusion_model", None))

    def unet_dtype(self, model: Any) -> torch.dtype:
        return model.forge_objects.unet.model.computation_dtype

    def noise_levels(self, model: Any) -> Any:
        """Return the module with the buffers `sigmas` and `log_sigmas`."""
        return getattr(model.forge_objects.unet.model, self.levels)

    def empty_prompt(self, model: Any) -> Tensor:
        made = model.get_learned_conditioning([""])
        return made["crossattn"] if isinstance(made, dict) else made

    def equal_lengths(self, model: Any, params: Any, run: Run) -> None:
        """Pad the shorter one; the host would repeat its tokens instead. `text_uncond` is None if CFG is 1."""
        def empty() -> Tensor:
            if run.empty is None:
                run.empty = self.empty_prompt(model)
                # The text encoder may have replaced the UNet. Load it as before sampling, with room for a window.
                unet = model.forge_objects.unet
                import_module(self.memory).load_models_gpu([unet], unet.memory_required([2 * len(params.x),
                                                                                         *params.x.shape[1:]]))
            return run.empty

        cfg_rows.pad(params, empty)

    @contextmanager
    def scheduled(self, model: Any, schedule: betas.Schedule, p: Any) -> Iterator[None]:
        """Set the schedule, and restore the original buffers at the end: `set_sigmas` would compute other logarithms.
        """
        if self.levels in getattr(model.forge_objects.unet, "object_patches", ()):  # they are put in as sampling begins
            raise SettingsError("another extension replaces the checkpoint's noise schedule, but a motion module needs "
                                "its own", remedy="Switch that extension off (in reForge: Advanced Model Sampling)")
        levels = self.noise_levels(model)
        before = {name: getattr(levels, name) for name in BUFFERS}
        alphas = betas.alphas_cumprod(schedule)
        sigmas = ((1 - alphas) / alphas).sqrt().to(before["sigmas"])
        if _zero_terminal_snr(model):  # the host rescales its own schedule
            sigmas = import_module(self.prediction).rescale_zero_terminal_snr_sigmas(sigmas)
        with self.model_alphas(model, 1 / (sigmas**2 + 1)):
            try:
                levels.set_sigmas(sigmas)
                yield
            finally:
                for name, tensor in before.items():
                    levels.register_buffer(name, tensor)

    def model_alphas(self, model: Any, alphas: Tensor) -> AbstractContextManager[None]:
        """Set the model's `alphas_cumprod` inside the block. Samplers on timesteps read it, and write it."""
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

    @contextmanager
    def called(self, model: Any, run: Run) -> Iterator[None]:
        memory, unet = import_module(self.memory), model.forge_objects.unet
        with wrapped(unet.model, "diffusion_model", _uncompiled), \
                calls.called(unet, run, lambda device: memory.get_free_memory(device) / self.margin, self.mean):
            yield

    def make_room(self, bytes: int) -> None:
        memory = import_module(self.memory)
        device = memory.get_torch_device()
        if device != torch.device("cpu"):  # there the host moves nothing
            memory.free_memory(bytes + memory.minimum_inference_memory(), device)

    def waiting(self, model: Any) -> list[Any]:
        """Return no networks: the host moves them itself."""
        return []

    def back_to(self, info: Any, p: Any) -> None:
        """Reload the checkpoint with the host's loading parameters, which still name the job's first checkpoint."""
        sd_models.forge_model_reload()
        self.with_loras(p)

    def with_loras(self, p: Any) -> None:
        """Prepare the model for a batch as the host does."""
        if not p.disable_extra_networks:
            extra_networks.activate(p, p.extra_network_data)
        model = shared.sd_model
        model.forge_objects = model.forge_objects_after_applying_lora.shallow_copy()


def _uncompiled(network: Any) -> Any:
    """Return the network that torch.compile was given: a compiled one ignores hooks that are added later."""
    return getattr(network, "_orig_mod", network)


def _zero_terminal_snr(model: Any) -> bool:
    chosen = getattr(shared.opts, "sd_noise_schedule", "Default") == "Zero Terminal SNR"
    return chosen or any(getattr(part, "ztsnr", False) for part in (model, getattr(model, "model_config", None)))
