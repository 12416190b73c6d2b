"""Compare the speed presets with exact: time per clip and loss of quality.

Demo model: whole clips of the prompts of demo_quality, with all presets in turn for each prompt. PSNR is that of a
preset's clip against the exact clip, over all pixels and frames. The background's step between frames measures flicker.

SD1.5 at full size with a v2 module and random weights: the time of a clip's UNet calls with guidance.
"""
from __future__ import annotations

import dataclasses
import time

import numpy as np
import torch

from animatediff.engine.pipeline import Pipeline
from animatediff.layout import ClipLayout
from animatediff.motion import injected
from animatediff.settings import SPEEDS, Settings
from animatediff.unet.prompts_once import prompts_once
from animatediff.unet.reuse import Reuse
from benchmarks import unet_step
from benchmarks.demo_quality import prompts, summary, verdict
from benchmarks.timing import alternate

STEPS, SEED = 20, 1


def run(quick: bool = False) -> list[dict]:
    rows = demo(prompts()[::32] if quick else prompts())
    plan = unet_step.QUICK if quick else dataclasses.replace(unet_step.Plan(), pixels=(128,))
    return rows + full_size(plan, list(rows[0]))


def demo(asked: list) -> list[dict]:
    pipeline = Pipeline.load()
    seconds, verdicts, psnr = ({speed: [] for speed in SPEEDS} for _ in range(3))
    for number, prompt in enumerate(asked, 1):
        exact = None
        for speed in SPEEDS:
            began = time.perf_counter()
            frames = list(pipeline.render(Settings(enable=True, prompt=prompt.text, seed=SEED, speed=speed)))
            seconds[speed].append(time.perf_counter() - began)
            verdicts[speed].append(verdict(frames, prompt, SEED))
            exact = exact or frames
            psnr[speed].append(_psnr(frames, exact))
        shown = ", ".join(f"{speed} {seconds[speed][-1]:.3g} s {psnr[speed][-1]:.3g} dB" for speed in SPEEDS)
        print(f"  {number} of {len(asked)}: {shown}", flush=True)
    rows = []
    for speed in SPEEDS:
        found = summary(verdicts[speed])
        for miss in found.pop("misses"):
            print(f"  {speed} missed: {miss}")
        rows.append({"model": "demo", "pixels": 64, "speed": speed, **_times(seconds, speed), **found,
                     "PSNR dB": "" if speed == "exact" else float(np.mean(psnr[speed])),
                     "lowest": "" if speed == "exact" else float(np.min(psnr[speed]))})
    return rows


@torch.no_grad()
def full_size(plan: unet_step.Plan, columns: list[str]) -> list[dict]:
    print("  building the networks …", flush=True)
    unet, module = unet_step.networks(plan)
    rows = []
    for pixels in plan.pixels:
        random = torch.Generator().manual_seed(pixels)
        x = torch.randn(unet_step.FRAMES, 4, pixels // 8, pixels // 8, generator=random)
        text = torch.randn(2, unet_step.TOKENS, plan.text, generator=random)

        def clip(speed: str, x=x, text=text) -> None:
            reuse, frames = Reuse(speed), tuple(range(len(x)))

            def layout_of(rows: int) -> ClipLayout:
                return ClipLayout.contiguous(frames, rows // len(frames))

            with prompts_once(unet), injected(unet, module, reuse.layout_of(layout_of)), reuse.installed(unet):
                for step, t in enumerate(torch.linspace(999, 0, STEPS)):
                    def call(roles, t=t):
                        reuse.shows(frames, roles)
                        tokens = text[list(roles)].repeat_interleave(len(frames), 0)
                        return unet(torch.cat([x] * len(roles)), t, tokens).sample.unflatten(0, (len(roles), -1))

                    reuse.answers(frames, 2, step, STEPS, t, call)

        def warm() -> None:
            unet(x[:1], 999, text[:1])

        found = alternate({speed: lambda speed=speed: clip(speed) for speed in SPEEDS}, rounds=plan.rounds,
                          warm_up=dict.fromkeys(SPEEDS, warm), say=f"{pixels} pixels")
        seconds = {speed: timing.seconds for speed, timing in found.items()}
        name = "SD1.5, the UNet alone" if plan.text == 768 else "toy"
        rows += [dict.fromkeys(columns, "") | {"model": name, "pixels": pixels, "speed": speed,
                                               **_times(seconds, speed)} for speed in SPEEDS]
    return rows


def _times(seconds: dict[str, list[float]], speed: str) -> dict[str, float]:
    """Return medians of the seconds per clip and of the speed-up over the exact clip of the same round."""
    ratios = np.array(seconds["exact"]) / seconds[speed]
    return {"s a clip": float(np.median(seconds[speed])), "times as fast": float(np.median(ratios))}


def _psnr(frames: list[np.ndarray], exact: list[np.ndarray]) -> float:
    error = float(((np.stack(frames).astype(np.float64) - np.stack(exact)) ** 2).mean())
    return 10 * float(np.log10(255**2 / error)) if error else float("inf")
