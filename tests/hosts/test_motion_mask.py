"""Motion scale, effect and mask in the stand-in for the WebUI.

The oracle for a scale is a motion module file whose to_k weights were multiplied by the scale.
"""
from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from test_standin_adapter import animate, frames_of, host, library, plain, snapshot  # noqa: F401

MOVING = {"returns": "frames"}


@pytest.fixture(autouse=True)
def calm(library):
    """A copy of moving.safetensors with its key weights multiplied by 0.4."""
    weights = load_file(library / "moving.safetensors")
    save_file({key: value * 0.4 if key.endswith("to_k.weight") else value for key, value in weights.items()},
              library / "calm.safetensors")


def picture(value: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("L", (32, 16), value).save(file, kind)
    return file.getvalue()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def clip(host, **settings) -> np.ndarray:
    return frames_of(animate(host, {**MOVING, **settings}))


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.abs(a.astype(int) - b).max() <= 1


def test_scales_and_masks_are_those_of_scaled_weights(host, tmp_path):
    ordinary, calm = clip(host), clip(host, model="calm.safetensors")
    assert not same(ordinary, calm)
    black = tmp_path / "black.png"
    black.write_bytes(picture(0))
    for settings in ({"motion_scale": 0.4}, {"motion_scale": "0.8", "motion_scale_steps": 0.5},
                     {"motion_scale": [0.4] * 6}, {"motion_mask": str(black), "motion_mask_min": 0.4},
                     {"motion_mask": text(picture(0)), "motion_mask_min": 0.2, "motion_scale": 2},
                     {"motion_mask": f"data:image/gif;base64,{text(picture(0, 'GIF'))}", "motion_mask_min": 0.4}):
        assert same(clip(host, **settings), calm), settings
    for settings in ({"motion_scale": "1.0"}, {"motion_mask": text(picture(255)), "motion_mask_min": 0.4}):
        assert np.array_equal(clip(host, **settings), ordinary), settings


@pytest.mark.slow
def test_no_effect_is_no_module(host):
    assert same(clip(host, motion_effect=0), clip(host, model="still.safetensors"))


@pytest.mark.slow
def test_each_pass_tells_its_own_steps(host, monkeypatch):
    from animatediff.motion import Steering

    seen, at = [], Steering.at
    monkeypatch.setattr(Steering, "at",
                        lambda self, step, steps, *site: seen.append((step, steps)) or at(self, step, steps, *site))
    animate(host, {"motion_scale": "0.5"}, sampler_name="Heun", steps=3)
    assert list(dict.fromkeys(seen)) == [(0, 3), (1, 3), (2, 3)]
    seen.clear()
    animate(host, {"motion_scale": "0.5"}, enable_hr=True, hr_scale=2, hr_upscaler="Latent", denoising_strength=0.7,
            hr_second_pass_steps=4)
    first, second = ([step for step in dict.fromkeys(seen) if step[1] == 3],
                     [step for step in dict.fromkeys(seen) if step[1] != 3])
    assert first == [(0, 3), (1, 3), (2, 3)] and len(second) > 1
    assert [step for step, _ in second] == list(range(second[0][1]))


def test_the_infotext_names_a_mask_and_pasting_finds_it(host):
    data = picture(90)
    answer = animate(host, {**MOVING, "motion_mask": text(data), "motion_mask_min": 0.4})
    [line] = {line for line in answer.info["infotexts"][0].split("\n") if "motion_mask" in line}
    assert text(data)[:40] not in line and len(line) < 800
    from animatediff.hosts.a1111 import motion_mask
    from animatediff.hosts.shared import infotext

    written = infotext.loads(line.split('AnimateDiff: "')[1].split('"')[0].replace("\\", ""))
    assert (motion_mask.folder() / written["motion_mask"]).read_bytes() == data
    again = clip(host, motion_mask=written["motion_mask"], motion_mask_min=0.4)
    assert np.array_equal(again, frames_of(answer))
    assert [path.name for path in motion_mask.folder().iterdir()] == [written["motion_mask"]]


@pytest.mark.parametrize("settings, said", [
    ({"motion_mask": "nowhere.png"}, "no such file"),
    ({"motion_mask": "data:image/png;base64,aGVsbG8="}, "not a picture or video in base64"),
    ({"motion_mask": text(picture(9)[:30])}, "damaged"),
    ({"motion_mask": "words.txt"}, "neither a picture nor a video"),
    ({"motion_mask": "x" * 100_000}, "not a picture or video in base64"),
    ({"motion_mask": "mask." * 20_000}, "not a possible file name"),
    ({"motion_mask": 5.5}, "not text"),
    ({"motion_scale": 11}, "out of range"), ({"motion_scale": "1, x"}, "neither a number nor a key frame"),
    ({"motion_scale_steps": "0: -1"}, "out of range"), ({"motion_effect": 3}, "out of range"),
    ({"motion_mask_min": -1}, "out of range"),
])
def test_what_cannot_be_done_is_a_422(host, settings, said):
    (host.data / "words.txt").write_text("not a picture")
    before = snapshot(host)
    answer = animate(host, settings)
    assert answer.status == 422 and said in str(answer), answer
    assert len(str(answer)) < 1500 and snapshot(host) == before
    from animatediff.hosts.a1111 import motion_mask

    assert not motion_mask.folder().exists()


def test_a_server_that_hides_its_folders_reads_masks_where_its_pages_may(host, tmp_path):
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    for place in (allowed, other):
        place.mkdir()
        (place / "a.png").write_bytes(picture(0))
    (allowed / "link.png").symlink_to(other / "a.png")
    options = host.shared.cmd_opts
    options.hide_ui_dir_config, options.gradio_allowed_path = True, [str(allowed)]
    from animatediff.hosts.a1111 import motion_mask

    kept = motion_mask.keep(picture(7))
    for fine in (str(allowed / "a.png"), kept, text(picture(3))):
        assert motion_mask.read(fine, 3) is not None
    answers = set()
    for refused in (other / "a.png", other / "none.png", allowed / "link.png", allowed / ".." / "other" / "a.png"):
        answer = animate(host, {"motion_mask": str(refused)})
        assert answer.status == 422
        answers.add(str(answer).replace(str(refused)[:80], "…"))
    assert len(answers) == 1, "what is there and what is not are told alike"


def test_a_mask_that_changes_is_read_again(host, tmp_path):
    import os

    from animatediff.hosts.a1111 import motion_mask

    file = tmp_path / "mask.png"
    for value in (10, 20):
        file.write_bytes(picture(value))
        os.utime(file, (value, value))
        assert motion_mask.read(str(file), 4).pictures[0].max() == value


def test_an_error_while_steered_leaves_nothing(host, monkeypatch):
    before, ordinary = snapshot(host), plain(host)
    from animatediff.motion import Steering

    with monkeypatch.context() as patch:
        patch.setattr(Steering, "at", lambda *_: 1 / 0)
        assert animate(host, {"motion_scale": 0.4}).status == 500
    assert snapshot(host) == before and plain(host) == ordinary


def test_the_preflight_tells_of_the_mask(host):
    from animatediff.hosts.a1111.run_facts import of_run
    from animatediff.settings import Settings

    def told(**settings):
        found = of_run(Settings(enable=True, motion_module="moving.safetensors", frames=6, **settings),
                       {}, from_picture=False)
        return found.problems, found.notices

    problems, _ = told(motion_mask="nowhere.png")
    assert any("nowhere.png" in problem for problem in problems)
    problems, notices = told(motion_mask=text(picture(0)), motion_mask_max=0)
    assert not problems and any("black and white" in notice for notice in notices)


# The canvas.

STROKES = Image.new("RGBA", (8, 8))
STROKES.paste((255, 255, 255, 255), (2, 2, 5, 5))
PHOTO = Image.effect_noise((8, 8), 60).convert("RGBA")


@pytest.mark.parametrize("value, strokes", [
    ({"image": PHOTO, "mask": STROKES.getchannel("A").convert("RGB")}, True),  # gradio 3.41
    ({"image": PHOTO, "mask": Image.new("RGB", (8, 8))}, False),
    ({"background": PHOTO, "layers": [STROKES, Image.new("RGBA", (8, 8))], "composite": PHOTO}, True),  # gradio 4
    ({"background": PHOTO, "layers": [], "composite": PHOTO}, False), ({"background": PHOTO, "layers": None}, False),
    ({"background": None, "layers": [STROKES]}, True), (PHOTO, False),
])
def test_strokes_are_the_mask_and_a_picture_without_is_one_itself(host, value, strokes):
    from animatediff.hosts.a1111 import motion_mask
    from animatediff.hosts.shared import mask_painter
    from animatediff.media import masks

    found = motion_mask.find(mask_painter.taken(value, motion_mask.keep))
    expected = STROKES.getchannel("A") if strokes else PHOTO.convert("L")
    assert np.array_equal(masks.read(found, 1)[0][0], np.asarray(expected))


@pytest.mark.parametrize("value", [None, {"background": None, "layers": None, "composite": None}])
def test_an_empty_canvas_is_no_mask(host, value):
    from animatediff.hosts.shared import mask_painter

    assert mask_painter.taken(value, lambda data: "kept") == ""
