"""Prints, as JSON on one line, the steps in which the WebUI's own sampler functions call the denoiser.

Run it with the WebUI's Python in its folder. sampler_calls.json is the output for 1.10.1. test_preflight.py reads that
file, and runs this script again if there is a WebUI. `calls` has runs [first, last, n] of scope.py's steps with n calls
each, in order, or null if the host itself fails.
"""
import itertools
import json
import sys
from types import SimpleNamespace

STEPS, STRENGTH = (1, 4, 7, 20, 40, 150), 0.6

sys.path.insert(0, ".")
sys.argv = ["launch.py", "--skip-torch-cuda-test", "--use-cpu", "all", "--no-half"]

import torch  # noqa: E402
from modules import initialize, paths  # noqa: E402, F401

initialize.imports()

from modules import sd_models, sd_samplers  # noqa: E402

model = SimpleNamespace(
    alphas_cumprod=torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0), parameterization="eps",
    device="cpu", model=SimpleNamespace(conditioning_key="crossattn"))
sd_models.model_data.sd_model, sd_models.model_data.was_loaded_at_least_once = model, True


def latents():
    return torch.randn(1, 4, 4, 4)


def calls(config, steps, strength):
    made = []
    p = SimpleNamespace(
        steps=steps, denoising_strength=strength or 0, is_hr_pass=False, scheduler="Automatic", hr_scheduler=None,
        sampler_noise_scheduler_override=None, extra_generation_params={}, eta=None, s_churn=0.0, s_tmin=0.0,
        s_tmax=float("inf"), s_noise=1.0, s_min_uncond=0.0, cfg_scale=1, all_seeds=[1], iteration=0, batch_size=1,
        rng=SimpleNamespace(next=latents))
    sampler = config.constructor(model)
    sampler.config = config
    denoiser = sampler.model_wrap_cfg
    denoiser.last_noise_uncond = torch.zeros(1, 4, 4, 4)

    def forward(x, sigma, **_):
        made.append(denoiser.step * denoiser.steps // denoiser.total_steps)
        denoiser.step += 1
        return torch.zeros_like(x)

    denoiser.forward = forward
    try:
        if strength is None:
            sampler.sample(p, latents(), None, None)
        else:
            sampler.sample_img2img(p, latents(), latents(), None, None)
    except Exception:  # too few steps for this sampler
        return None
    return packed(made)


def packed(steps):
    """[0, 0, 1, 1, 2] -> [[0, 1, 2], [2, 2, 1]]"""
    counts = [(step, len(list(group))) for step, group in itertools.groupby(steps)]
    runs = []
    for step, count in counts:
        if runs and runs[-1][2] == count and runs[-1][1] == step - 1:
            runs[-1][1] = step
        else:
            runs.append([step, step, count])
    return runs


found = [{"sampler": config.name, "steps": steps, "strength": strength, "calls": calls(config, steps, strength),
          "second_order": bool(config.options.get("second_order"))}
         for config in sd_samplers.all_samplers for steps in STEPS for strength in (None, STRENGTH)]
print()
print(json.dumps(found))
