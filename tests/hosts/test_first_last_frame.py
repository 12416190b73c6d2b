"""First and last frame in the stand-in for the WebUI. Its VAE is linear, so held frames equal the pictures."""
from __future__ import annotations

import base64
import io
import sys

import numpy as np
import pytest
from fake_gradio import gradio
from PIL import Image
from slow_cases import slow
from test_standin_adapter import REQUEST, animate, frames_of, host, library  # noqa: F401

from animatediff.errors import SettingsError


def picture(seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(60, 196, (8, 8, 3), np.uint8)
    return Image.fromarray(values).resize((64, 64), Image.Resampling.NEAREST)


def text(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


FIRST, LAST = picture(0), picture(1)


def clip(host, settings: dict, **fields) -> np.ndarray:
    settings = {"returns": "frames", "latent_scale": 0, **settings}
    fields = {"init_images": [FIRST], "denoising_strength": 0.9, **fields}
    return frames_of(animate(host, settings, "img2img", **fields))


def still(host, image: Image.Image) -> np.ndarray:
    """Return the picture after encoding and decoding: a frame held to the end shows exactly this."""
    return clip(host, {"frame_lock": 1, "video_length": 1}, init_images=[image])[0].astype(int)


@pytest.mark.parametrize("sampler", ["Euler", slow("Euler a"), slow("Heun"), slow("DDIM")])
def test_both_ends_are_the_pictures(host, sampler):
    frames = clip(host, {"frame_lock": "1, 0", "last_frame": text(LAST)}, sampler_name=sampler, steps=6)
    ends = still(host, FIRST), still(host, LAST)
    assert max(np.abs(frames[0] - ends[0]).max(), np.abs(frames[-1] - ends[1]).max()) <= 1
    assert min(np.abs(frame - end).mean() for frame in frames[1:-1] for end in ends) > 5


@pytest.mark.slow
def test_drift_grows_with_the_curve(host):
    frames = clip(host, {"frame_lock": "0: 1, 4: 0", "model": "still.safetensors"}, steps=8)
    first = still(host, FIRST)
    drift = [np.abs(frame - first).mean() for frame in frames]
    assert drift[0] < 1 and drift[1] < drift[2] < drift[4]


def test_the_loop_of_windows_sees_held_frames(host):
    settings = {"video_length": 8, "batch_size": 4, "frame_lock": "0: 1, 3: 0"}
    open_, closed = (clip(host, {**settings, "closed_loop": loop}, steps=4) for loop in ("N", "R+P"))
    first = still(host, FIRST)
    assert np.abs(closed[-1] - first).mean() < np.abs(open_[-1] - first).mean()
    assert max(np.abs(open_[0] - first).max(), np.abs(closed[0] - first).max()) <= 1


@pytest.mark.slow
def test_two_clips_of_one_job(host):
    frames = clip(host, {"frame_lock": "1, 0", "latent_scale": 3}, n_iter=2)
    second = clip(host, {"frame_lock": "1, 0", "latent_scale": 3}, seed=REQUEST["seed"] + 6)
    assert len(frames) == 12 and np.abs(frames[6:].astype(int) - second).max() <= 1


def test_power_and_scale_leave_the_picture_to_the_first_frame(host):
    plain, mixed = (clip(host, {"latent_scale": scale, "model": "still.safetensors"}, denoising_strength=0.1)
                    for scale in (0, 2))
    difference = np.abs(plain.astype(int) - mixed).mean((1, 2, 3))
    assert difference[0] == 0 and (np.diff(difference[:3]) > 1).all()


def test_the_last_frame_is_kept_under_its_name(host, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", gradio())
    answer = animate(host, {"last_frame": f"data:image/png;base64,{text(LAST)}", "format": ["GIF"]},
                     "img2img", init_images=[FIRST])
    kept, = (host.data / "outputs").rglob("pictures/*.png")
    assert f"last_frame: {kept.stem}" in answer.info["infotexts"][0]
    from animatediff.hosts.a1111 import pictures

    pictures.forget()  # as after a restart
    field = pictures.Field.of("last_frame")
    found = field({"AnimateDiff": answer.info["infotexts"][0].split('AnimateDiff: "')[1].split('"')[0]})
    assert np.abs(np.asarray(found["value"].convert("RGB")).astype(int) - np.asarray(LAST)).max() == 0
    pictures.forget()
    kept.unlink()
    assert field({"AnimateDiff": f"enable: True, frames: 4, last_frame: {kept.stem}"})["value"] is None
    assert field({"AnimateDiff": "enable: True, frames: 4"})["value"] is None and field({}) is None


def test_pictures_of_the_page_and_of_requests(host):
    from animatediff.hosts.a1111 import pictures, request

    by_page = request.read((True, *[None] * (request.ORDER.index("last_frame") - 1), LAST))
    by_text = request.read(({"enable": True, "last_frame": text(LAST)},))
    assert by_page.last_frame == by_text.last_frame and len(by_page.last_frame) == 16
    assert request.read(({"enable": True, "last_frame": by_page.last_frame},)) == by_page
    assert request.read(({"enable": True, "last_frame": None},)).last_frame == ""
    for number in range(20):  # more than stay in memory
        pictures.reference(Image.new("RGB", (4, 4), (number, 0, 0)))
    with pytest.raises(SettingsError, match="not kept"):
        pictures.find(by_page.last_frame)


@pytest.mark.parametrize(("settings", "sources", "said"), [
    ({"last_frame": "aGVsbG8="}, 1, "but not a picture"), ({"last_frame": "/etc/hostname"}, 1, "base64"),
    ({"last_frame": 5}, 1, "no picture"), ({"frame_lock": "2"}, 1, "frame_lock"),
    ({"last_frame": text(LAST)}, 6, "own"),
    ({"last_frame": "0" * 16}, 1, "not kept")], ids=str)
def test_refused_before_anything_is_computed(host, settings, sources, said):
    answer = animate(host, settings, "img2img", init_images=[picture(i) for i in range(sources)])
    assert answer.status == 422 and said in answer.detail


def test_in_txt2img_a_last_frame_is_refused_as_in_the_engine(host):
    answer = animate(host, {"last_frame": text(LAST)})
    assert answer.status == 422 and "last_frame: it needs a start picture" in answer.detail


def test_in_txt2img_a_note_says_that_a_lock_does_nothing(host):
    answer = animate(host, {"frame_lock": "1, 0", "returns": "frames"})
    notes = str(answer.info["extra_generation_params"]["AnimateDiff notes"])
    assert "Frame lock: without effect" in notes
    assert (frames_of(answer) == frames_of(animate(host, {"returns": "frames"}))).all()


def test_everything_is_undone_after_an_error(host):
    before = clip(host, {}, steps=4)
    unet = host.shared.sd_model.model.diffusion_model
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("on purpose")

    hook = unet.register_forward_pre_hook(fail)
    answer = animate(host, {"frame_lock": "1, 0", "last_frame": text(LAST)}, "img2img", init_images=[FIRST], steps=4)
    hook.remove()
    assert answer.status == 500
    assert (clip(host, {}, steps=4) == before).all()
