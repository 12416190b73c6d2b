"""Clips with a checkpoint of SDXL's layout: small widths and random weights; see ../narrow and ../narrow_reforge."""
from __future__ import annotations

import numpy as np
import pytest
from clip_reading import stills
from safetensors.torch import load_file, save_file
from tiny_models import write_module

FRAMES, WINDOW = 12, 8
HIRES = dict(enable_hr=True, hr_upscaler="Latent", hr_scale=1.5, hr_second_pass_steps=2, denoising_strength=0.7,
             hr_cfg=5)
PROMPT = "a red circle"
LONG = ", ".join([PROMPT] * 40)
JOBS = {
    "Euler": {}, "DDIM": {"sampler_name": "DDIM"}, "DPM++ 2M": {"sampler_name": "DPM++ 2M"}, "Hires": HIRES,
    "AND": {"prompt": f"{PROMPT} AND white background :0.4"}, "CFG 1": {"cfg_scale": 1}, "lengths": {"prompt": LONG},
    "negative": {"negative_prompt": LONG}, "travel": {"prompt": f"0: {PROMPT}\n11: a blue square, {LONG}"},
}


@pytest.fixture
def xl(host):
    """xl(family, zero, **fields): the frames of a clip, or with "" as the family, of a plain batch."""
    host.post("/sdapi/v1/refresh-checkpoints", {}).expect()

    def made(family="", zero=False, **fields):
        settings = None
        if family:
            path = host.motion / f"{family}{'-zero' if zero else ''}.safetensors"
            write_module(path, family, widths=(32, 64, 128))
            if zero:
                save_file({key: value * ("proj_out" not in key) for key, value in load_file(path).items()}, path)
            settings = {"enable": True, "model": path.name, "video_length": FRAMES, "batch_size": WINDOW, "overlap": 2,
                        "format": ["GIF"], "returns": "frames"}
        fields = {"prompt": PROMPT, "steps": 3, "sampler_name": "Euler", **({} if family else {"batch_size": FRAMES}),
                  **fields}
        images = fields.pop("images", None)
        fields["override_settings"] = {"sd_model_checkpoint": "xl.safetensors"}
        ask = host.txt2img if images is None else lambda *args, **more: host.img2img(images, *args, **more)
        return ask(settings, **fields)

    yield made
    for path in host.motion.glob("*XL*"):
        path.unlink()


@pytest.mark.parametrize("job", [job for job in JOBS if job not in ("travel", "lengths", "negative")])
def test_sdxl_without_motion_is_the_plain_batch(xl, job):
    """A module whose last layers are zero changes nothing, and its schedule is the checkpoint's.

    Prompts of unequal length are left out: without a clip, the host repeats the tokens of the shorter one.
    """
    plain, clip = (stills(xl(*module, **JOBS[job])).astype(float) for module in ((), ("AnimateDiff-SDXL", True)))
    assert plain.shape == clip.shape and plain.std() > 5
    assert np.abs(clip - plain).mean() < 0.1, np.abs(clip - plain).mean((1, 2, 3))


@pytest.mark.parametrize("family", [pytest.param("AnimateDiff-SDXL", marks=pytest.mark.slow), "HotShot-XL"])
@pytest.mark.parametrize("job", JOBS)
def test_sdxl_moves_in_windows(host, xl, job, family):
    host.watch()
    clip = stills(xl(family, **JOBS[job])).astype(float)
    rows = {call["rows"] for call in host.unet_calls()}
    roles = {"CFG 1": 1, "AND": 3}.get(job, 2)
    assert len(clip) == FRAMES and rows == {roles * WINDOW}, rows
    still = stills(xl(family, zero=True, **JOBS[job])).astype(float)
    assert clip.std() > 5 and np.abs(clip - still).mean() > 1


def test_sdxl_travel_gives_each_frame_its_prompt(xl):
    """A module whose last layers are zero changes nothing, so the first and last frame are those of plain batches."""
    prompts = PROMPT, "a blue square"
    clip = stills(xl("AnimateDiff-SDXL", True, prompt="0: {}\n11: {}".format(*prompts))).astype(float)
    first, last = (stills(xl(prompt=prompt)).astype(float) for prompt in prompts)
    assert np.abs(last[-1] - first[-1]).mean() > 1
    assert max(np.abs(clip[0] - first[0]).mean(), np.abs(clip[-1] - last[-1]).mean()) < 0.1


def test_sdxl_img2img(xl):
    images = xl("HotShot-XL").expect().images[:1]
    clip = stills(xl("HotShot-XL", images=images, denoising_strength=0.5))
    assert len(clip) == FRAMES


def test_sdxl_and_a_module_of_the_other_kind(host, xl):
    answer = host.txt2img({"enable": True, "model": "motion.safetensors"}, prompt=PROMPT,
                          override_settings={"sd_model_checkpoint": "xl.safetensors"})
    assert answer.status == 422 and "SDXL" in answer.detail and "SD1.5" in answer.detail, answer.detail
