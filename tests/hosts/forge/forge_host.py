"""The stand-in for the WebUI in the form of Forge or reForge.

Its checkpoint holds `forge_objects`, and its denoiser calls the UNet as the host's does.
"""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import forge_call
import torch
from torch import Tensor, nn


class KModel(forge_call.KModel):
    """A wrapper around a real UNet. x is the picture plus σ times noise; the output is the picture."""

    def __init__(self, ldm: Any):
        super().__init__()
        self.diffusion_model = ldm.model.diffusion_model
        self.predictor = forge_call.Predictor(ldm.alphas_cumprod)

    def apply_model(self, x: Tensor, t: Tensor, c_crossattn: Any = None, transformer_options: Any = None,
                    **more: Any) -> Tensor:
        assert len(x) == len(c_crossattn)
        self.calls.append({"rows": len(x), "chunks": transformer_options["cond_or_uncond"]})
        sigma = t.view(-1, 1, 1, 1)
        timestep = (t.log() - self.predictor.log_sigmas[:, None]).abs().argmin(0)
        for patch in transformer_options.get("patches_replace", {}).get("attn2", {}).values():
            x = x + 0 * patch(transformer_options)  # only its rows count
        return x - sigma * self.diffusion_model(x / (sigma**2 + 1).sqrt(), timestep, context=c_crossattn)


class BaseModel(KModel, forge_call.BaseModel):
    """reForge's. It has other names for the noise levels and for the dtype."""

    manual_cast_dtype = None

    @property
    def model_sampling(self) -> forge_call.Predictor:
        return self.predictor

    def get_dtype(self) -> torch.dtype:
        return torch.float32


REFORGES = ["alphas_cumprod", "cond_stage_model_empty_prompt", "apply_model"]  # further attributes of reForge's model


class Linker(nn.Module):
    """The sampler's `model_wrap`, which reads the noise levels when needed."""

    def __init__(self, model: Any):
        super().__init__()
        self.inner = SimpleNamespace(model=model)  # not registered as a submodule

    @property
    def sigmas(self) -> Tensor:
        return self.inner.model.forge_objects.unet.model.predictor.sigmas

    @property
    def log_sigmas(self) -> Tensor:
        return self.sigmas.log()


def become_forge(host: Any, patch: Any, reforge: bool = False) -> forge_call.Patcher:
    """Turn the stand-in into Forge or reForge, before it loads an extension. Return the UNet's patcher.

    host: the stand-in.
    patch: pytest's monkeypatch.
    """
    from modules import prompt_parser, sd_models, sd_samplers_common, sd_samplers_kdiffusion
    from modules.script_callbacks import CFGDenoiserParams, cfg_denoiser_callback

    model = host.shared.sd_model
    patcher = forge_call.Patcher((BaseModel if reforge else KModel)(model))
    names = ["get_learned_conditioning", "decode_first_stage", "lowvram"]
    forge = SimpleNamespace(
        forge_objects=SimpleNamespace(unet=patcher), model=SimpleNamespace(conditioning_key="crossattn"),
        model_config=None, sd_checkpoint_info=model.sd_checkpoint_info,
        **{name: getattr(model, name) for name in names + REFORGES * reforge})
    patch.setattr(host.shared, "sd_model", forge)
    patch.setattr(sd_models, "model_data", SimpleNamespace(sd_model=forge))
    patch.setattr(sd_models, "reload_model_weights", lambda *_, **__: forge)
    patch.setattr(sd_models, "apply_alpha_schedule_override", lambda *_: None)
    if reforge:  # it calls the layers of the UNet's blocks, never the blocks
        block = type(model.model.diffusion_model.middle_block)
        patch.setattr(block, "__call__", block.forward)
    else:
        patch.setattr(sd_samplers_kdiffusion, "CompVisDenoiser", Linker)
    kind = sd_samplers_kdiffusion.CFGDenoiserKDiffusion
    patch.setattr(kind, "classic_ddim_eps_estimation", False, raising=False)

    def forward(self: Any, x: Tensor, sigma: Tensor, uncond: Any, cond: Any, cond_scale: float, s_min_uncond: float,
                image_cond: Any) -> Tensor:
        if host.state.interrupted or host.state.skipped:
            raise sd_samplers_common.InterruptedException
        composition, text = prompt_parser.reconstruct_multicond_batch(cond, self.step)
        negative = None if cond_scale == 1 and not reforge else prompt_parser.reconstruct_cond_batch(uncond, self.step)
        params = CFGDenoiserParams(x, image_cond, sigma, host.state.sampling_step, host.state.sampling_steps, text,
                                   negative, self)
        cfg_denoiser_callback(params)
        weights = [[weight for _, weight in parts] for parts in composition]
        denoised = forge_call.denoised(host.shared.sd_model.forge_objects.unet, x, sigma, params.text_cond, weights,
                                       params.text_uncond, cond_scale)
        self.sampler.last_latent = denoised
        sd_samplers_common.store_latent(denoised)
        self.step += 1
        return denoised

    patch.setattr(kind, "forward", forward, raising=False)
    return patcher
