"""Samplers over sigma: Euler, Euler a, Heun (arXiv:2206.00364, algorithms 1 and 2 without churn)."""
from itertools import pairwise

import torch

from modules import shared
from modules.sd_samplers_cfg_denoiser import CFGDenoiser
from modules.sd_samplers_common import Sampler, SamplerData, setup_img2img_steps
from modules.shared import opts


class CompVisDenoiser(torch.nn.Module):
    """Turns a model that predicts noise into one that predicts pictures. x is the picture plus sigma times noise."""

    def __init__(self, model):
        super().__init__()
        self.inner_model = model
        alphas = model.alphas_cumprod
        self.register_buffer("sigmas", ((1 - alphas) / alphas) ** 0.5)
        self.register_buffer("log_sigmas", self.sigmas.log())

    def sigma_to_t(self, sigma):
        """Return the timestep of a sigma, interpolated in log sigma."""
        log, known = sigma.log(), self.log_sigmas
        high = torch.searchsorted(known, log).clamp(1, len(known) - 1)
        share = ((log - known[high - 1]) / (known[high] - known[high - 1])).clamp(0, 1)
        return high - 1 + share

    def forward(self, x, sigma, **kwargs):
        s = sigma.view(-1, 1, 1, 1)
        return x - s * self.inner_model.apply_model(x / (s**2 + 1) ** 0.5, self.sigma_to_t(sigma), **kwargs)


class CFGDenoiserKDiffusion(CFGDenoiser):
    @property
    def inner_model(self):
        if self.model_wrap is None:
            self.model_wrap = CompVisDenoiser(shared.sd_model)
        return self.model_wrap


def euler(model, x, extra, callback, rng, sigmas, eta=0.0):
    for i, (now, then) in enumerate(pairwise(sigmas)):
        denoised = model(x, now.expand(len(x)), **extra)
        callback({"x": x, "i": i, "sigma": now, "denoised": denoised})
        up = min(then, eta * (then**2 * (now**2 - then**2) / now**2) ** 0.5)
        down = (then**2 - up**2) ** 0.5
        x = x + (x - denoised) / now * (down - now)
        if up > 0:
            x = x + rng.next() * up
    return x


def euler_a(model, x, extra, callback, rng, sigmas):
    return euler(model, x, extra, callback, rng, sigmas, eta=1.0)


def heun(model, x, extra, callback, rng, sigmas):
    for i, (now, then) in enumerate(pairwise(sigmas)):
        denoised = model(x, now.expand(len(x)), **extra)
        callback({"x": x, "i": i, "sigma": now, "denoised": denoised})
        slope = (x - denoised) / now
        guess = x + slope * (then - now)
        if then > 0:
            slope = (slope + (guess - model(guess, then.expand(len(x)), **extra)) / then) / 2
            guess = x + slope * (then - now)
        x = guess
    return x


class KDiffusionSampler(Sampler):
    def __init__(self, func):
        super().__init__(func)
        self.model_wrap_cfg = CFGDenoiserKDiffusion(self)
        self.model_wrap = self.model_wrap_cfg.inner_model

    def get_sigmas(self, p, steps):
        known = self.model_wrap.sigmas
        places = torch.linspace(len(known) - 1, 0, steps)
        low = places.floor().long()
        logs = self.model_wrap.log_sigmas
        between = logs[low] + (places - low) * (logs[(low + 1).clamp(max=len(known) - 1)] - logs[low])
        return torch.cat([between.exp(), known.new_zeros(1)])

    def sample(self, p, x, conditioning, unconditional_conditioning, steps=None, image_conditioning=None):
        steps = steps or p.steps
        sigmas = self.get_sigmas(p, steps)
        x = x * sigmas[0]
        return self._run(p, x, x, steps, conditioning, unconditional_conditioning, image_conditioning, sigmas)

    def sample_img2img(self, p, x, noise, conditioning, unconditional_conditioning,
                       steps=None, image_conditioning=None):
        steps, last = setup_img2img_steps(p, steps)
        sigmas = self.get_sigmas(p, steps)[steps - last - 1 :]
        start = x + noise * sigmas[0]
        if opts.img2img_extra_noise > 0:
            start = start + noise * opts.img2img_extra_noise
        return self._run(p, x, start, last + 1, conditioning, unconditional_conditioning,
                         image_conditioning, sigmas)


samplers_data_k_diffusion = [
    SamplerData(name, lambda model, func=func: KDiffusionSampler(func), options=options)
    for name, func, options in [("Euler a", euler_a, {}), ("Euler", euler, {}), ("Heun", heun, {"second_order": True})]
]
