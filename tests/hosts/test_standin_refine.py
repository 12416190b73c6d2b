"""Refining a finished clip in the stand-in: img2img of its frames in windows, and the host's upscalers."""
from __future__ import annotations

import importlib
import json
import wave
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from slow_cases import slow

from animatediff.clip.finished import Finished
from animatediff.errors import SettingsError
from animatediff.media import metadata, read
from animatediff.media.write import ClipWriter, Target

FIELDS = {"prompt": "a red circle", "negative_prompt": "blue", "width": 64, "height": 64, "steps": 3, "seed": 7,
          "sampler_name": "Euler", "do_not_save_grid": True}
CLIP = {"enable": True, "model": "moving.safetensors", "video_length": 5, "batch_size": 3, "overlap": 1,
        "format": ["APNG"]}


@pytest.fixture
def host(host):
    """The stand-in with another script among the arguments, and with an upscaler."""
    module = importlib.import_module("modules.images")
    plain = module.resize_image
    host.calls = []

    def resize_image(mode, image, width, height, upscaler_name=None):
        host.calls.append(upscaler_name)
        done = plain(mode, image, width, height)
        return Image.eval(done, lambda value: value // 2) if upscaler_name == "Halving" else done

    module.resize_image = resize_image
    host.shared.sd_upscalers = [SimpleNamespace(name=name) for name in ("None", "Lanczos", "Halving")]
    script = host.scripts.scripts_img2img.alwayson_scripts[0]
    script.args_from, script.args_to = 1, 2
    yield host
    module.resize_image = plain


def generated(host, **settings):
    answer = host.request("txt2img", FIELDS, {"AnimateDiff": [{**CLIP, **settings}]})
    assert answer.status == 200, answer
    return Finished.read(Path(answer.info["extra_generation_params"]["AnimateDiff files"][0]))


def refined(host, clip, **values):
    refine = importlib.import_module("animatediff.hosts.a1111.refine")
    out = host.data / "refined"
    return refine.refine(clip, values, str(out), lambda taken: Target(f"{out}/", "clip"), lambda *_: False)


def frames(path):
    return [np.asarray(picture) for picture in read.pictures(path)]


def test_it_is_img2img_of_the_clips_frames(host):
    """The pixels equal those of a request with these frames and the clip's settings."""
    clip = generated(host)
    windows = []
    unet = host.shared.sd_model.model.diffusion_model
    handle = unet.register_forward_pre_hook(lambda _, args: windows.append((len(args[0]), args[0].shape[-1])))
    made = refined(host, clip, denoising_strength=0.6, scale=2)
    handle.remove()
    assert max(rows for rows, _ in windows) == 6 and {side for _, side in windows} == {16}
    start = [Image.fromarray(frame).resize((128, 128), Image.Resampling.LANCZOS) for frame in frames(clip.path)]
    answer = host.request("img2img", {**FIELDS, "width": 128, "height": 128, "init_images": start,
                                      "denoising_strength": 0.6}, {"AnimateDiff": [{**CLIP, "video_length": 5}]})
    [wanted] = answer.info["extra_generation_params"]["AnimateDiff files"]
    assert np.array_equal(frames(made.paths[0]), frames(wanted))
    assert (made.frames, made.fps, made.first.size) == (5, 8, (128, 128))
    assert "AnimateDiff refined" in made.text and "a red circle" in made.text and "Steps: 3" in made.text
    assert metadata.read(made.paths[0]) == made.text


def test_a_host_without_lanczos_is_asked_for_none(host):
    """Forge Neo's upscaler None resizes by Lanczos. It prints a warning for each frame of an unknown one."""
    clip = generated(host)
    for names, wanted in ((("None",), "None"), (("None", "Lanczos"), "Lanczos")):
        host.shared.sd_upscalers = [SimpleNamespace(name=name) for name in names]
        host.calls.clear()
        assert refined(host, clip, denoising_strength=0, scale=2).first.size == (128, 128)
        assert set(host.calls) == {wanted}


def test_the_unet_calls_are_told_before(host):
    refine = importlib.import_module("animatediff.hosts.a1111.refine")
    clip, calls = generated(host), []
    asked = refine.Refinement.of(clip, {"denoising_strength": 0.6, "scale": 2})
    told = asked.preflight()
    handle = host.shared.sd_model.model.diffusion_model.register_forward_pre_hook(lambda *_: calls.append(1))
    refined(host, clip, denoising_strength=0.6, scale=2)
    handle.remove()
    assert told.calls == len(calls) > 0 and told.frames == 5 and not told.errors
    assert str(asked) == f"{clip.path.name}: 5 frames of 64x64 to 128x128 by Lanczos, denoising strength 0.6"


@pytest.mark.slow
def test_the_temporal_error_before_and_after(host):
    """Half as bright, the frames differ half as much."""
    pytest.importorskip("cv2")
    generator, picture = np.random.default_rng(0), Image.new("L", (64, 64))
    picture.paste(Image.effect_noise((16, 16), 60).resize((48, 48)), (8, 8))
    with ClipWriter(host.data / "grain.apng", "APNG", metadata=generated(host).text) as writer:
        for _ in range(5):
            grain = generator.normal(0, 6, (64, 64, 3))
            writer.add((np.asarray(picture)[..., None] + 60 + grain).clip(0, 255).astype(np.uint8))
    clip = Finished.read(host.data / "grain.apng")
    error = refined(host, clip, upscaler="Halving", denoising_strength=0, scale=1).error
    assert error.before.difference > 1 and abs(error.after.difference / error.before.difference - 0.5) < 0.05
    again = refined(host, clip, denoising_strength=0.6, scale=1).error
    assert again.before == error.before and again.after.difference != error.after.difference


def test_transparency_is_kept(host):
    """The alpha channel is the clip's own, enlarged by Pillow."""
    clear = [np.full((64, 64, 4), 90, np.uint8) for _ in range(3)]
    for i, frame in enumerate(clear):
        frame[:, 16 * i:16 * i + 16, 3] = 0
    with ClipWriter(host.data / "glass.apng", "APNG", metadata=generated(host).text) as writer:
        for frame in clear:
            writer.add(frame)
    made = refined(host, Finished.read(host.data / "glass.apng"), scale=2, format=["APNG", "GIF"])
    with Image.open(next(path for path in made.paths if path.suffix == ".apng")) as image:
        found = [image.seek(i) or np.asarray(image.convert("RGBA"))[..., 3] for i in range(3)]
    wanted = [Image.fromarray(frame[..., 3]).resize((128, 128), Image.Resampling.LANCZOS) for frame in clear]
    assert np.array_equal(found, wanted)
    assert any("the same transparency in APNG" in note for note in made.notes), made.notes
    opaque = refined(host, Finished.read(host.data / "glass.apng"), scale=1, interp="blend", interp_x=2)
    assert opaque.error is None and any("interpolated frames are opaque" in note for note in opaque.notes), opaque.notes


@pytest.mark.slow
def test_what_is_given_overrides(host):
    made = refined(host, generated(host), prompt="a cat", steps=5, cfg_scale=3, seed=9, sampler_name="Euler a", scale=1,
                   denoising_strength=0.9, format=["GIF", "PNG"], motion_scale="1.2")
    assert "a cat\nNegative prompt: blue" in made.text and "Steps: 5" in made.text and "Seed: 9" in made.text
    assert "Euler a" in made.text and "motion_scale" in made.text and "CFG scale: 3" in made.text
    assert made.paths[0].suffix == ".gif" and made.first.size == (64, 64)


@pytest.mark.slow
def test_the_hosts_upscalers_alone(host):
    clip = generated(host)
    unet = host.shared.sd_model.model.diffusion_model
    handle = unet.register_forward_pre_hook(lambda *_: 1 / 0)
    made = refined(host, clip, upscaler="halving", denoising_strength=0, size="96x64")
    handle.remove()
    assert set(host.calls) == {"Halving"} and made.first.size == (96, 64)
    wanted = [np.asarray(Image.fromarray(frame).resize((96, 64), Image.Resampling.LANCZOS)) // 2
              for frame in frames(clip.path)]
    assert np.array_equal(frames(made.paths[0]), wanted)
    assert made.text.startswith(clip.text) and made.text.endswith("refined: 64x64 to 96x64 by Halving")


@pytest.mark.parametrize("strength", [slow(0), 0.6])
def test_the_clips_sound_is_kept(host, strength):
    """Exact samples in FFV1's MKV, which has FLAC; a curve of the clip still follows them."""
    av = pytest.importorskip("av")
    tone = (np.sin(np.arange(4000) / 8) * np.linspace(0, 30000, 4000)).astype("<i2")
    with wave.open(str(host.data / "tone.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(tone.tobytes())

    def heard(path):
        with av.open(str(path)) as container:
            return [frame.to_ndarray().tobytes() for frame in container.decode(audio=0)] if container.streams.audio \
                else []

    clip = generated(host, format=["MKV"], audio="tone.wav", motion_scale="0.5 + audio(loudness)")
    assert heard(clip.path)
    made = refined(host, clip, scale=2, denoising_strength=strength)
    assert made.paths[0].suffix == ".mkv" and b"".join(heard(made.paths[0])) == b"".join(heard(clip.path))
    silent = refined(host, clip, scale=2, denoising_strength=strength, audio="none", motion_scale=1)
    assert heard(silent.paths[0]) == []


@pytest.mark.slow
def test_ping_pong_is_refined_once(host):
    clip = generated(host, closed_loop="ping-pong", video_length=4)
    made = refined(host, clip, scale=1)
    found = frames(made.paths[0])
    assert len(clip.seconds) == len(found) == made.frames == 6 and np.array_equal(found[1], found[5])
    assert np.array_equal(frames(refined(host, clip, upscaler="Halving", denoising_strength=0, scale=1).paths[0])[5],
                          frames(clip.path)[5] // 2)


def test_a_clip_of_the_command_line(host, tmp_path):
    settings = {"prompt": "a cat", "steps": 2, "seed": 5, "cfg": 2.0, "sampler": "Euler a", "context_length": 4,
                "motion_module": "moving.safetensors", "frames": 3}
    with ClipWriter(tmp_path / "a.apng", "APNG", metadata=json.dumps({"settings": settings})) as writer:
        for i in range(3):
            writer.add(np.full((32, 32, 3), 60 * i, np.uint8))
    made = refined(host, Finished.read(tmp_path / "a.apng"), format=["APNG"])
    assert made.first.size == (64, 64) and "a cat\nSteps: 2, Sampler: Euler a" in made.text and "Seed: 5" in made.text


REFUSED = [
    ({"upscaler": "Nearest"}, "Halving"), ({"scale": 20}, "scale"), ({"denoising_strength": 2}, "denoising_strength"),
    ({"denoising_strength": 0, "scale": 1}, "nothing to do"), ({"sampler": "Magic"}, "Magic"), ({"steps": 0}, "steps"),
    ({"denoising_strength": 0, "upscaler": "Latent"}, "nothing to do"),
    ({"denoising_strength": 0, "interp": "blend"}, "interp: has no effect"), ({"fps": 5000}, "fps"), ({"x": 1}, "x"),
    ({"alwayson_scripts": {"Gone": {"args": []}}}, "gone"), ({"alwayson_scripts": 5}, "no object with a list"),
    ({"alwayson_scripts": ["a"]}, "no object with a list"),
    ({"alwayson_scripts": {"Gone": 5}}, "no object with a list"),
    ({"alwayson_scripts": {"Gone": {"args": 5}}}, "no object with a list"),
    ({"alwayson_scripts": {"animatediff": {"args": [{}]}}}, "for AnimateDiff itself")]


def test_what_is_refused(host):
    clip = generated(host)
    for values, said in REFUSED:
        with pytest.raises(SettingsError, match=said):
            refined(host, clip, **values)


def test_everything_is_as_before(host):
    clip = generated(host)
    wanted = host.request("txt2img", FIELDS).images
    refined(host, clip)
    assert host.request("txt2img", FIELDS).images == wanted
