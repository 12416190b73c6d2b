"""One clip, two hosts, one UNet: the same plan, and the latents that the engine decodes are those that the WebUI's side
decodes.

The stand-in's random image model is lent to the engine, which calls it by its own code: its samplers are diffusers',
its guidance and its loops its own. DDIM is left out, as in test_parity.
"""
from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("diffusers")

from animatediff.clip.plan import Plan
from animatediff.engine.pipeline import Pipeline
from animatediff.loras import without_tags
from animatediff.motion import BetaSchedule
from animatediff.motion import load as load_module
from animatediff.settings import parse
from tests.golden import standin
from tests.golden.table import FILES, Row
from tests.test_parity import COMPARED, OF_THE_ENGINE, host, made  # noqa: F401  fixtures

REFUSED = ("init too many frames", "module zoom", "module nowhere", "too long a window", "a mask that is not there",
           "a schedule that has no end", "behind the source video's end", "more frames than the source video has",
           "a source video that is not there", "a mask without a source")
AGAIN = [  # loops over the sampler, with samplers that draw noise and one that calls the UNet twice in a step
    Row(f"{name}, {noise}, {sampler}",
        {name: value, "noise": noise, "sampler": sampler, "steps": 4, "closed_loop": "R-P"})
    for name, value in (("seam_repair", 0.5), ("freeinit_iterations", 2)) for noise in ("per clip", "FreeNoise")
    for sampler in ("Euler", "Euler a", "Heun")]
# Less guidance, which multiplies rounding: that of the timestep alone is 5e-5, since hosts find it in float32.
ROWS = [replace(row, settings={"cfg": 2.0, **row.settings}) for row in (*COMPARED, *AGAIN) if row.name not in REFUSED]
QUICK = ("motion LoRA travels", "FreeInit, init", "seam_repair, per clip, Euler a")
# The others are slow.
NAMED = ("formats", "returns", "motion_mask", "last_frame", "fit")  # in another way, or for the WebUI alone


class Lent:
    """The stand-in's image model with the interface of diffusers' parts."""

    name, path, prediction, scale, channels = "demo", None, "epsilon", 8, 4
    device, dtype = torch.device("cpu"), torch.float32
    betas = BetaSchedule("scaled_linear", 0.00085, 0.012)

    def __init__(self, host: Any):
        class UNet(host.tiny.UNet):
            config = SimpleNamespace(in_channels=4, sample_size=8)

            def forward(self, x, t, encoder_hidden_states):
                return SimpleNamespace(sample=super().forward(x, t.expand(len(x)), encoder_hidden_states))

        model = host.shared.sd_model
        self.unet = UNet().eval().requires_grad_(False)
        self.unet.load_state_dict(model.model.diffusion_model.state_dict())
        self.text, self.vae = Text(model.get_learned_conditioning), VAE(model)


class Text:
    def __init__(self, encode: Callable[[list[str]], Tensor]):
        self._encode = encode

    def encode(self, prompts, negative):
        return self._encode(prompts), self._encode(negative)


class VAE(nn.Module):
    """Keeps what it is to decode."""

    config = SimpleNamespace(scaling_factor=1.0)
    device, dtype = Lent.device, Lent.dtype

    def __init__(self, model: Any):
        super().__init__()
        self._encode, self.seen = model.encode_first_stage, []

    def encode(self, pictures):
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: self._encode(pictures)))

    def decode(self, latents):
        self.seen += list(latents)
        return SimpleNamespace(sample=torch.zeros(len(latents), 3, 8 * latents.shape[2], 8 * latents.shape[3]))


def of_the_engine(row: Row, host: Any, made: Any) -> tuple[Plan, Tensor]:
    parts = Lent(host)
    values = {name: value.replace(FILES, str(made.pictures)) if isinstance(value, str) else value
              for name, value in row.values.items()}
    module = made.modules / values["motion_module"]
    pipeline = Pipeline(parts, load_module(module), module_path=module)
    plan = pipeline.plan(parse({**values, "enable": True}))
    for _ in pipeline.render(plan):
        pass
    return plan, torch.stack(parts.vae.seen)


def of_the_webui(row: Row, host: Any, made: Any, folder: Any) -> tuple[Plan, Tensor]:
    from animatediff.hosts.a1111.inputs import Plans

    seen: list[Tensor] = []
    plans: list[Plan] = []
    of_clip = Plans.of_clip
    Plans.of_clip = lambda *args: plans.append(of_clip(*args)) or plans[-1]
    handle = host.shared.sd_model.first_stage_model.register_forward_pre_hook(
        lambda _, args: seen.extend(args[0].detach().clone()))
    try:
        found = standin.record(row, host, made, folder)
    finally:
        handle.remove()
        Plans.of_clip = of_clip
    assert found["status"] == 200, found
    return plans[-1], torch.stack(seen)


def facts(plan: Plan) -> dict[str, Any]:
    """What a plan says that no host has its own of."""
    s = plan.steering
    return {"passes": [(each.name, each.run.steps, each.run.call_steps, each.context, each.seam)
                       for each in plan.passes],
            "calls": plan.calls(), "playback": plan.playback, "betas": plan.betas,
            "prompts": [[*map(without_tags, plan.inputs.prompt.nearest)], plan.inputs.negative.nearest],
            "loras": [(each.path.name, each.weight.values(plan.settings.frames)) for each in plan.inputs.loras],
            "steering": s and (s.scale, s.effect, s.steps, s.masked, s.mask and s.mask.of_frame),
            "clip": {name: value for name, value in plan.settings.to_dict(("clip",)).items() if name not in NAMED},
            "notices": {*plan.notices} - OF_THE_ENGINE}


@pytest.mark.parametrize("row", [
    pytest.param(row, id=row.name, marks=[] if row.name in QUICK else pytest.mark.slow) for row in ROWS])
def test_the_same_latents(row, made, host, monkeypatch):
    monkeypatch.setitem(os.environ, "ANIMATEDIFF_MODELS", str(made.modules))
    (plan, alone), (same, webui) = of_the_engine(row, host, made), of_the_webui(row, host, made, host.data)
    assert facts(same) == facts(plan)
    assert (webui - alone).abs().max() < 1e-4 * alone.std()
