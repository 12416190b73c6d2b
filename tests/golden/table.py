"""The clips whose results are recorded: a data table of settings, one row for each way through a feature.

A row's `settings` are named as in animatediff/settings.py; what is not named is as in COMMON. FILES in a value stands
for the folder that `files.write` fills. `fields` are those of an API request, and have a meaning in the WebUI alone.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ENGINE, STANDIN = "engine", "standin"
FILES = "FILES"
COMMON = {"prompt": "a red circle moving right", "negative": "blurry", "seed": 7, "steps": 3, "cfg": 5.0,
          "sampler": "Euler", "frames": 6, "context_length": 4, "size": "64x64", "motion_module": "moving.safetensors",
          "formats": ("PNG",)}
STANDIN_SAMPLERS = ("Euler", "Euler a", "Heun", "DDIM")


@dataclass(frozen=True)
class Row:
    """One clip. cut: the UNet call in which the run is interrupted first; the command line then resumes it."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    hosts: tuple[str, ...] = (ENGINE, STANDIN)
    fields: Mapping[str, Any] = field(default_factory=dict)
    tab: str = ""  # of the WebUI; img2img where there is a start picture
    cut: int = 0
    stills: bool = False

    @property
    def values(self) -> dict[str, Any]:
        return {**COMMON, **self.settings}


def _settings(prefix: str, name: str, values: tuple[Any, ...], **more: Any) -> list[Row]:
    """A row for each value of one parameter."""
    return [Row(f"{prefix} {value}", {name: value, **more}) for value in values]


def _webui(name: str, settings: Mapping[str, Any] | None = None, **fields: Any) -> Row:
    return Row(name, settings or {}, (STANDIN,), fields)


FIZZ = '"0": "a red circle", "4": "a blue square"'
WEIGHTED = '"0": "a red circle of size `pw_a`", "4": "a square"'
NATIVE = "0: a red circle\n4: a blue square"
CYCLIC = "a {@red circle|blue square|}, flat colours"
PICTURE = f"{FILES}/one.png"
SCHEDULES = ("static standard", "uniform standard", "batched", "views")
ENGINE_SAMPLERS = ("DPM++ 2M", "DPM++ 2M Karras", "DPM++ SDE", "DPM++ 2M SDE", "UniPC", "LCM")

ROWS: tuple[Row, ...] = (
    Row("plain"), Row("one window", {"frames": 4}), Row("one frame", {"frames": 1}), Row("frames 0", {"frames": 0}),
    *_settings("schedule", "context_schedule", SCHEDULES, frames=7, overlap=2),
    Row("stride", {"stride": 2, "frames": 9}),
    *_settings("fuse", "fuse_method", ("flat", "overlap-linear", "relative", "pyramid"), frames=7, overlap=2),
    *_settings("loop", "closed_loop", ("seamless", "ping-pong", "R-P", "R+P", "A")),
    Row("loop A to and fro", {"closed_loop": "A", "frames": 4, "formats": ("GIF", "PNG")}),
    Row("loop views", {"closed_loop": "seamless", "context_schedule": "views"}),
    Row("seam repair", {"seam_repair": 0.5, "steps": 4}),
    Row("seam repair, loop", {"seam_repair": 0.75, "closed_loop": "seamless", "steps": 4, "sampler": "Euler a"}),
    *_settings("noise", "noise", ("per clip", "constant", "repeated context", "FreeNoise"), frames=7),
    Row("FreeInit", {"freeinit_iterations": 2}),
    *_settings("FreeInit filter", "freeinit_filter", ("gaussian", "ideal", "box"), freeinit_iterations=2, steps=2),
    Row("FreeInit fast", {"freeinit_iterations": 3, "freeinit_fast": True, "freeinit_d_t": 0.5, "sampler": "DDIM"}),
    Row("FreeInit, init", {"freeinit_iterations": 2, "init": PICTURE}),
    Row("FreeInit, seam", {"freeinit_iterations": 2, "seam_repair": 0.5, "sampler": "Euler a"}),
    Row("travel native", {"prompt": NATIVE}), Row("travel FizzNodes", {"prompt": FIZZ}),
    Row("travel weights", {"prompt": WEIGHTED, "prompt_weights": "pw_a = 0.5"}),
    Row("travel cyclic", {"prompt": CYCLIC}),
    Row("travel negative", {"prompt": NATIVE, "negative": "0: blurry\n5: noisy"}),
    Row("travel hold", {"prompt": NATIVE, "travel_interpolation": "hold"}),
    Row("travel easing", {"prompt": NATIVE, "travel_easing": "ease-in-out", "travel_hold": 0.3}),
    Row("travel loop", {"prompt": NATIVE, "closed_loop": "R+P"}),
    Row("motion LoRA", {"motion_lora": "zoom: 0.8"}),
    Row("motion LoRAs, curve", {"motion_lora": "zoom: 0: 1, 5: 0; pan: -0.5"}),
    Row("motion LoRA in prompt", {"prompt": "a red circle <lora:zoom:0.7>"}),
    Row("motion LoRA travels", {"prompt": "0: a red circle <lora:zoom:1>\n4: a square"}),
    Row("motion scale", {"motion_scale": "0.6"}), Row("motion scale curve", {"motion_scale": "0: 1, 5: 0.2"}),
    Row("motion scale steps", {"motion_scale_steps": "0%: 1.3, 50%: 0.9"}),
    Row("motion effect", {"motion_effect": "0: 1, 5: 0.3"}),
    Row("motion mask", {"motion_mask": f"{FILES}/mask.png", "motion_mask_min": 0.2}),
    Row("motion mask moves", {"motion_mask": f"{FILES}/mask.gif", "motion_scale": "1.3"}),
    Row("frame lock", {"init": PICTURE, "frame_lock": "0: 1, 3: 0", "latent_scale": 8}),
    Row("last frame", {"init": PICTURE, "last_frame": f"{FILES}/other.png", "frame_lock": "1, 0", "sampler": "DDIM"}),
    Row("init", {"init": PICTURE, "denoising_strength": 0.6, "latent_power": 2, "steps": 5}),
    Row("init folder", {"init": f"{FILES}/moving", "frames": 0, "denoising_strength": 0.6, "steps": 5}),
    Row("init video", {"init": f"{FILES}/video.gif", "frames": 5, "resize_mode": "Just resize"}, (ENGINE,)),
    Row("init too many frames", {"init": f"{FILES}/moving", "frames": 9}),
    Row("resume", {"sampler": "Euler a"}, (ENGINE,), cut=5),
    Row("resume FreeInit", {"freeinit_iterations": 2}, (ENGINE,), cut=11),
    *_settings("speed", "speed", ("balanced", "draft"), steps=10, frames=4),
    Row("windows per call", {"windows_per_call": 2}, (ENGINE,)),
    Row("stills", {}, (ENGINE,), stills=True),
    *_settings("sampler", "sampler", ("Euler a", "DDIM", "Heun")),
    *(Row(f"sampler {name}", {"sampler": name}, (ENGINE,)) for name in ENGINE_SAMPLERS),
    *(Row(f"schedule type {name} {kind}", {"sampler": name, "schedule_type": kind}, (ENGINE,))
      for name, kind in (("DPM++ 2M", "Uniform"), ("DPM++ 2M SDE", "Uniform"), ("Euler", "Exponential"),
                         ("Euler a", "SGM Uniform"))),
    *_settings("module", "motion_module", ("v1.safetensors", "v3.ckpt", "lcm.safetensors", "zoom", "nowhere")),
    Row("cfg 1", {"cfg": 1.0}), Row("prompt weights", {"prompt": "a (red:1.3) circle, [dull] BREAK a star"}, (ENGINE,)),
    Row("dtype bf16", {"dtype": "bf16"}, (ENGINE,)),
    Row("formats", {"formats": ("GIF", "MP4", "WEBM", "WEBP", "APNG", "PNG", "TXT"), "fps": 12, "loop_number": 3}),
    Row("too long a window", {"motion_module": "short.safetensors", "context_length": 6}),
    _webui("two clips", n_iter=2), _webui("AND", prompt="a red circle AND a blue square :0.5"),
    _webui("hires", enable_hr=True, hr_upscaler="Latent", denoising_strength=0.6, hr_second_pass_steps=2),
    _webui("hires pictures", {"seam_repair": 0.5}, enable_hr=True, hr_upscaler="Lanczos", denoising_strength=0.6),
    _webui("roles apart", override_settings={"batch_cond_uncond": False}),
    _webui("skipped uncond", s_min_uncond=20.0, steps=5),
    _webui("refiner", refiner_checkpoint="second", refiner_switch_at=0.5, steps=4),
    _webui("unequal prompts", negative_prompt="dull, " * 80),
    _webui("subseed", subseed=3, subseed_strength=0.4),
    _webui("gallery", {"formats": ("GIF", "PNG"), "returns": "both", "request_id": "mine"}),
)  # fmt: skip
