"""The common part of the samplers."""
import numpy as np
import torch
from PIL import Image

from modules import devices, shared
from modules.shared import opts


class InterruptedException(BaseException):
    """Not an Exception, so that only the sampler's own handler catches it."""


class SamplerData:
    def __init__(self, name, constructor, aliases=(), options=None):
        self.name, self.constructor, self.aliases, self.options = name, constructor, aliases, options or {}

    def total_steps(self, steps):
        return 2 * steps if self.options.get("second_order") else steps


approximation_indexes = {"Full": 0, "Approx NN": 1, "Approx cheap": 2, "TAESD": 3}


def single_sample_to_image(sample, approximation=None):
    picture = (sample[:3].float() / 4 + 0.5).clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    return Image.fromarray((picture * 255).astype(np.uint8))


def sample_to_image(samples, index=0, approximation=None):
    return single_sample_to_image(samples[index], approximation)


def decode_first_stage(model, x):
    return model.decode_first_stage(x.to(devices.dtype_vae))


def images_tensor_to_samples(image, approximation=None, model=None):
    model = model or shared.sd_model
    return torch.stack([model.get_first_stage_encoding(model.encode_first_stage(one[None] * 2 - 1))[0]
                        for one in image])


def store_latent(latent):
    shared.state.current_latent = latent


def setup_img2img_steps(p, steps=None):
    """Return the steps of the whole schedule, and the number of steps to run less one."""
    # The requested number of steps is the last part of a longer schedule.
    if opts.img2img_fix_steps or steps is not None:
        steps = steps or p.steps
        return int(steps / min(p.denoising_strength, 0.999)), steps - 1
    return p.steps, int(min(p.denoising_strength, 0.999) * p.steps)


def refined(denoiser):
    """Switch to the refiner's model from its step on. Return whether the switch has just happened."""
    from modules import sd_models

    p = denoiser.p
    if p.refiner_checkpoint_info is None or denoiser.step / denoiser.total_steps < (p.refiner_switch_at or 1):
        return False
    if shared.sd_model.sd_checkpoint_info is p.refiner_checkpoint_info:
        return False
    p.extra_generation_params["Refiner"] = p.refiner_checkpoint_info.title
    sd_models.reload_model_weights(info=p.refiner_checkpoint_info)
    p.setup_conds()
    denoiser.update_inner_model()
    return True


class Sampler:
    def __init__(self, func):
        self.func, self.config, self.p, self.last_latent = func, None, None, None
        self.model_wrap_cfg = self.model_wrap = self.sampler_extra_args = None
        self.conditioning_key = shared.sd_model.model.conditioning_key

    def callback_state(self, d):
        shared.state.sampling_step = d["i"]

    def launch_sampling(self, steps, func):
        self.model_wrap_cfg.steps = steps
        self.model_wrap_cfg.total_steps = self.config.total_steps(steps)
        shared.state.sampling_steps, shared.state.sampling_step = steps, 0
        try:
            return func()
        except InterruptedException:
            return self.last_latent

    def _run(self, p, x, start, steps, cond, uncond, image_cond, *schedule):
        self.p = self.model_wrap_cfg.p = p
        self.model_wrap_cfg.step = 0
        self.model_wrap_cfg.init_latent, self.last_latent = x, x
        self.sampler_extra_args = {"cond": cond, "image_cond": image_cond, "uncond": uncond, "cond_scale": p.cfg_scale,
                                   "s_min_uncond": p.s_min_uncond}
        return self.launch_sampling(steps, lambda: self.func(self.model_wrap_cfg, start, self.sampler_extra_args,
                                                             self.callback_state, p.rng, *schedule))
