"""Samplers over timesteps: DDIM (arXiv:2010.02502, eq. 12 with eta 0)."""
import torch

from modules import shared
from modules.sd_samplers_cfg_denoiser import CFGDenoiser
from modules.sd_samplers_common import Sampler, SamplerData, setup_img2img_steps
from modules.shared import opts


class CompVisTimestepsDenoiser(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.inner_model = model

    def forward(self, x, timesteps, **kwargs):
        return self.inner_model.apply_model(x, timesteps, **kwargs)


class CFGDenoiserTimesteps(CFGDenoiser):
    def __init__(self, sampler):
        super().__init__(sampler)
        self.alphas = shared.sd_model.alphas_cumprod

    @property
    def inner_model(self):
        if self.model_wrap is None:
            self.model_wrap = CompVisTimestepsDenoiser(shared.sd_model)
        return self.model_wrap

    def get_pred_x0(self, x_in, x_out, timesteps):
        alpha = self.alphas[timesteps.long()].view(-1, 1, 1, 1)
        return (x_in - (1 - alpha).sqrt() * x_out) / alpha.sqrt()


def ddim(model, x, extra, callback, rng, timesteps):
    alphas = model.inner_model.inner_model.alphas_cumprod
    before = torch.cat([timesteps[:1], timesteps[:-1]])
    for i, k in enumerate(reversed(range(1, len(timesteps)))):
        now, then = alphas[timesteps[k]], alphas[before[k]]
        noise = model(x, timesteps[k].float().expand(len(x)), **extra)
        picture = (x - (1 - now).sqrt() * noise) / now.sqrt()
        x = then.sqrt() * picture + (1 - then).sqrt() * noise
        callback({"x": x, "i": i, "denoised": picture})
    return x


class CompVisSampler(Sampler):
    def __init__(self, func):
        super().__init__(func)
        self.model_wrap_cfg = CFGDenoiserTimesteps(self)
        self.model_wrap = self.model_wrap_cfg.inner_model

    def get_timesteps(self, p, steps):
        return (torch.arange(0, 1000, 1000 // steps) + 1).clamp(0, 999)

    def sample(self, p, x, conditioning, unconditional_conditioning, steps=None, image_conditioning=None):
        steps = steps or p.steps
        return self._run(p, x, x, steps, conditioning, unconditional_conditioning, image_conditioning,
                         self.get_timesteps(p, steps))

    def sample_img2img(self, p, x, noise, conditioning, unconditional_conditioning,
                       steps=None, image_conditioning=None):
        steps, last = setup_img2img_steps(p, steps)
        timesteps = self.get_timesteps(p, steps)
        alpha = shared.sd_model.alphas_cumprod[timesteps[last]]
        start = x * alpha.sqrt() + noise * (1 - alpha).sqrt()
        if opts.img2img_extra_noise > 0:
            start = start + noise * opts.img2img_extra_noise * alpha.sqrt()
        return self._run(p, x, start, last + 1, conditioning, unconditional_conditioning, image_conditioning,
                         timesteps[:last])


samplers_data_timesteps = [SamplerData("DDIM", lambda model: CompVisSampler(ddim))]
