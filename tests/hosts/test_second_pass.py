"""Extensions that repaint each finished frame in a job of their own, and one that numbers seeds.

The job may have a copy of the clip's arguments.
"""
from __future__ import annotations

import copy
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from slow_cases import slow
from tiny_models import write_module

ROOT = Path(__file__).parents[2]
STANDIN = Path(__file__).parent / "standin"
REQUEST = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 2, "seed": 7, "sampler_name": "Euler"}
CLIP = {"enable": True, "model": "moving.safetensors", "video_length": 3, "batch_size": 3, "overlap": 0,
        "format": ["GIF"], "returns": "frames"}
SECOND = {"prompt": "a face", "steps": 2, "seed": 5, "width": 64, "height": 64, "sampler_name": "Euler",
          "denoising_strength": 0.5, "do_not_save_samples": True, "do_not_save_grid": True}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motion")
    write_module(folder / "moving.safetensors", widths=(32,) * 4)
    return folder


@pytest.fixture
def host(tmp_path, monkeypatch, models):
    monkeypatch.syspath_prepend(str(STANDIN))
    from standin_host import standing_in

    with standing_in(tmp_path) as host:
        host.opts.data["animatediff_model_path"] = str(models)
        host.load(ROOT / "scripts" / "animatediff.py")
        host.how, host.pairs, host.failing = None, [], False
        host.scripts.scripts_data.append((_painter(host), "painter.py"))
        host.show()
        yield host


def _painter(host):
    class Painter(host.scripts.Script):
        busy = False

        def title(self):
            return "Painter"

        def show(self, is_img2img):
            return host.scripts.AlwaysVisible

        def postprocess_image(self, p, pp):
            if Painter.busy or host.how is None:
                return
            Painter.busy = True
            try:
                self.paint(p, pp)
            finally:
                Painter.busy = False

        def paint(self, p, pp):
            if host.how == "a copy of p":
                second = copy.copy(p)
                second.batch_size, second.n_iter, second.prompt, second.steps, second.seed = 1, 1, "a face", 2, 5
            else:
                kind = host.processing.StableDiffusionProcessingImg2Img
                second = kind(init_images=[pp.image], **SECOND)
                second.scripts = copy.copy(p.scripts)
                if host.how == "other scripts":
                    second.scripts.alwayson_scripts = [s for s in p.scripts.alwayson_scripts if s is self]
                second.script_args = list(p.script_args)
            done = host.processing.process_images(second)
            second.close()
            host.pairs.append((pp.image, done.images))
            pp.image = done.images[0]

    return Painter


def pixels(picture):
    return np.array(picture if isinstance(picture, Image.Image)
                    else Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


@pytest.mark.parametrize("how", ["all arguments", "other scripts"])
def test_a_second_pass_is_of_single_pictures_without_motion(host, how):
    host.how = how
    answer = host.request("txt2img", REQUEST, {"AnimateDiff": [CLIP]})
    assert answer.status == 200, answer
    host.how = None
    assert len(host.pairs) == len(answer.images) == 3, "one job for each frame"
    for (before, after), frame in zip(host.pairs, answer.images):
        assert len(after) == 1
        plain = host.request("img2img", {**SECOND, "init_images": [before]})
        assert (pixels(after[0]) == pixels(plain.images[0])).all(), "what the host alone makes of it"
        assert (pixels(frame) == pixels(after[0])).all(), "and it is the clip's frame"
        assert (pixels(after[0]) != pixels(before)).any()
    clips = [path for path in (host.data / "outputs").rglob("*") if path.is_file()]
    assert [path.suffix for path in clips] == [".gif"]


def test_a_copy_of_the_clips_own_job_does_not_end_the_clip(host):
    host.how = "a copy of p"
    answer = host.request("txt2img", REQUEST, {"AnimateDiff": [CLIP]})
    assert answer.status == 200, answer
    assert len(host.pairs) == len(answer.images) == 3
    for before, after in host.pairs:
        assert len(after) == 1
    host.how = None
    plain = host.request("txt2img", {**REQUEST, "prompt": "a face", "seed": 5})
    assert (pixels(host.pairs[0][1][0]) == pixels(plain.images[0])).all()
    assert len(list((host.data / "outputs").rglob("*.gif"))) == 1


def test_a_clip_after_a_failed_one_is_not_taken_for_a_second_pass(host):
    def fail(module, args):
        raise RuntimeError("on purpose")

    handle = host.shared.sd_model.model.diffusion_model.register_forward_pre_hook(fail)
    assert host.request("txt2img", REQUEST, {"AnimateDiff": [CLIP]}).status == 500
    handle.remove()
    assert len(host.request("txt2img", REQUEST, {"AnimateDiff": [CLIP]}).images) == 3


@pytest.mark.parametrize("noise", [slow("constant"), "repeated context"])
def test_seeds_that_are_numbered_anew_leave_the_noise_as_asked(host, noise):
    """Dynamic Prompts does this in `process`, after us."""
    clip = {**CLIP, "video_length": 5, "noise": noise}
    wanted = host.request("txt2img", {**REQUEST, "n_iter": 2}, {"AnimateDiff": [clip]})

    def process(self, p):
        p.all_seeds = [p.seed + i for i in range(len(p.all_prompts))]

    kind = type("Numbering", (host.scripts.Script,), {
        "title": lambda self: "Numbering", "show": lambda self, is_img2img: host.scripts.AlwaysVisible,
        "process": process})
    host.scripts.scripts_data.append((kind, "numbering.py"))
    host.show()
    answer = host.request("txt2img", {**REQUEST, "n_iter": 2}, {"AnimateDiff": [clip]})
    assert answer.images == wanted.images and len(answer.images) == 10
    assert answer.info["infotexts"] == wanted.info["infotexts"]
