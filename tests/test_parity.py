"""One clip, two hosts: for every parameter, what the engine plans is what the WebUI's side says before the run.

The WebUI is the stand-in. Compared are the frames, the windows of a step, the UNet's calls, the notices and the
refusals. DDIM is left out: where its steps lie, and how many there are, is each host's own.
"""
from __future__ import annotations

import os
from functools import cache
from typing import Any

import pytest

pytest.importorskip("diffusers")

from animatediff.errors import AnimateDiffError
from animatediff.settings import PARAMETERS, parse
from tests.golden import files, standin
from tests.golden.table import ENGINE, FILES, ROWS, STANDIN, Row

PICTURE = f"{FILES}/one.png"
VIDEO = {"video_path": f"{FILES}/video.gif", "frames": 0, "fps": 0, "denoising_strength": 0.6, "steps": 5}
MORE = (
    Row("FreeInit order", {"freeinit_iterations": 2, "freeinit_order": 2, "freeinit_d_s": 0.4}),
    Row("FreeInit with fewer steps first", {"freeinit_iterations": 3, "freeinit_fast": True, "freeinit_d_t": 0.5}),
    Row("latents of the last frame", {"init": PICTURE, "last_frame": f"{FILES}/other.png", "latent_power_last": 2,
                                      "latent_scale_last": 8}),
    Row("mask between two", {"motion_mask": f"{FILES}/mask.png", "motion_mask_min": 0.2, "motion_mask_max": 1.4}),
    Row("last frame of noise", {"last_frame": f"{FILES}/other.png"}),
    Row("a mask that is not there", {"motion_mask": f"{FILES}/nowhere.png"}),
    Row("a schedule that has no end", {"prompt": "0: a (circle\n99: a square"}),
    Row("overlap", {"overlap": 3, "frames": 9}), Row("seed and size", {"seed": 3, "size": "64x128"}),
    Row("stretched", {"init": PICTURE, "fit": "stretch"}),
    Row("source video", {**VIDEO, "video_fps": 7, "denoising_strength_frames": "0: 0.5, 100%: 1"}, tab="img2img"),
    Row("part of a source video, with a mask",
        {**VIDEO, "video_start": 0.1, "video_end": 0.6, "video_every": 2, "video_max_frames": 2, "fit": "pad",
         "mask_path": f"{FILES}/mask.png"}, tab="img2img"),
    Row("behind the source video's end", {**VIDEO, "video_start": 9}, tab="img2img"),
    Row("more frames than the source video has", {**VIDEO, "frames": 9}, tab="img2img"),
    Row("a source video that is not there", {**VIDEO, "video_path": f"{FILES}/nowhere.mp4"}, tab="img2img"),
    Row("a mask without a source", {"mask_path": f"{FILES}/mask.png"}),
)
OWN = {  # parameters that one host alone has, or that change no plan
    "enable": "both are asked for a clip", "returns": "what the WebUI's gallery and API are given",
    "preset": "sets other parameters, which are compared", "video_source": "an upload; as video_path",
    "request_id": "a part of names in the WebUI", "batch_tab": "the WebUI's img2img Batch tab",
    "interp": "makes frames between finished ones, in clip/job for both", "interp_x": "as interp",
    "interp_model": "as interp",
    **dict.fromkeys(("audio", "audio_start", "audio_loop"), "heard in clip/sounds for both, and written in clip/job"),
    **dict.fromkeys(("video_codec", "video_crf", "video_preset", "video_repeat", "bit_depth"), "the files' own"),
    "windows_per_call": "told by memory in the run", "checkpoint": "the host's own", "device": "the host's own",
    "dtype": "the host's own", "score": "measured in clip/job for both", "color_match": "applied in clip/job for both",
    "schedule_type": "the WebUI's own control"}
COMPARED = [row for row in (*ROWS, *MORE) if {ENGINE, STANDIN} <= {*row.hosts} and row.values["sampler"] != "DDIM"
            and standin.has(row)]
OF_THE_ENGINE = {"the negative prompt has no effect at CFG 1"}  # the WebUI's CFG scale and prompts are its own controls
NOT_LOADED = "no checkpoint is loaded yet"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return files.write(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def host(made, tmp_path_factory):
    with standin.standing_in(made, tmp_path_factory.mktemp("webui")) as host:
        yield host


@pytest.fixture(scope="module")
def engine(made):
    """plan(values): the plan, with the motion module that the values name."""
    from animatediff.engine.pipeline import Pipeline

    @cache
    def pipeline(module: str) -> Pipeline:
        return Pipeline.load(str(made.checkpoint), module, device="cpu", dtype="fp32")

    def plan(values: dict[str, Any]) -> Any:
        settings = parse({**values, "enable": True, "checkpoint": str(made.checkpoint)})
        return pipeline(values["motion_module"]).plan(settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "ANIMATEDIFF_MODELS", str(made.modules))
        yield plan


def planned(engine, values: dict[str, Any]) -> dict[str, Any]:
    try:
        plan = engine(values)
    except AnimateDiffError as error:
        return {"refused": error.what.split(",")[0]}  # behind it a file's name, or the request
    per_step = [count for each in plan.iterations for _, count in each.calls()]
    return {"frames": plan.settings.frames, "windows": [min(per_step), max(per_step)], "calls": plan.calls(),
            "notices": {*plan.notices} - OF_THE_ENGINE}


def told(row: Row, values: dict[str, Any]) -> dict[str, Any]:
    found = standin.preflight_of(row, values)
    if refused := [*filter(None, [found.get("refused")]), *found.get("problems", [])]:
        return {"refused": refused[0]}
    notices = {note for note in found["notices"] if not note.startswith(NOT_LOADED)}
    return {"frames": found["frames"], "windows": found["windows_per_step"], "calls": found["unet_calls"],
            "notices": notices}


@pytest.mark.parametrize("row", COMPARED, ids=lambda row: row.name)
def test_the_same_plan(row, made, host, engine):
    values = {name: value.replace(FILES, str(made.pictures)) if isinstance(value, str) else value
              for name, value in row.values.items()}
    alone, webui = planned(engine, values), told(row, values)
    if "refused" in alone or "refused" in webui:
        assert alone.get("refused", "taken") in webui.get("refused", "taken too"), (alone, webui)
    else:
        assert alone == webui


def test_every_parameter_is_compared():
    named = {name for row in COMPARED for name in row.settings} | {"prompt", "negative", "steps", "sampler"}
    assert {parameter.name for parameter in PARAMETERS} == named | OWN.keys()
