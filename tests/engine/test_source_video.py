"""Clips from a source video: which frames they start from, their rate and sound, strength per frame, masks, files."""
from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from videos import write_video

from animatediff.clip import pictures
from animatediff.clip.inputs import Inputs
from animatediff.clip.preflight import Request, preflight
from animatediff.clip.sampled import Sampled
from animatediff.clip.source import SourceFrames
from animatediff.errors import MediaError, SettingsError
from animatediff.faces.cli import main as cli
from animatediff.hosts.shared.host_samplers import Sampler, placed
from animatediff.media import metadata
from animatediff.settings import parse

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
av = pytest.importorskip("av")
SIZE = 64


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """walk.mp4: 24 frames at 12 fps with sound; mask.mp4: at 4 fps, black for a second, then white at the left."""
    folder = tmp_path_factory.mktemp("videos")
    random = np.random.default_rng(0)
    frames = [np.asarray(Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).resize((SIZE, SIZE)))
              for _ in range(24)]
    write_video(folder / "walk.mp4", frames, 12, sound=True)
    left = np.zeros((SIZE, SIZE, 3), np.uint8)
    left[:, :32] = 255
    write_video(folder / "mask.mp4", [left * 0] * 4 + [left] * 4, 4)
    Image.fromarray(left).save(folder / "left.png")
    Image.fromarray(frames[0]).save(folder / "one.png")
    return folder, frames


def settings(**more):
    return parse({"enable": True, "prompt": "a red circle", "seed": 3, "steps": 4, "context_length": 4, "cfg": 1,
                  "sampler": "Euler", **{k: str(v) if k.endswith(("path", "init", "source")) else v
                                         for k, v in more.items()}})


@pytest.mark.parametrize("more, expected, fps", [
    ({}, range(24), 12), ({"frames": 5}, range(5), 12), ({"video_every": 5}, range(0, 24, 5), 12 / 5),
    ({"video_start": 0.5, "video_end": 1.5, "video_max_frames": 9}, range(6, 15), 12),
    ({"video_fps": 4}, range(1, 24, 3), 4), ({"video_fps": 4, "fps": 10}, range(1, 24, 3), 10)], ids=str)
def test_the_chosen_frames_and_what_is_told_of_them(made, more, expected, fps):
    folder, frames = made
    for name in ("video_path", "video_source", "init"):
        asked = settings(**{name: folder / "walk.mp4", **more})
        found = pictures.read(asked)
        assert [np.array_equal(a, frames[i]) for a, i in zip(found.first, expected, strict=True)] == [True] * len(
            expected)
        resolved = found.of(asked)
        assert (resolved.frames, resolved.size) == (len(expected), "64x64") and resolved.fps == pytest.approx(fps)
        sampled = Sampled.of(asked, len(expected), from_picture=True)
        told = preflight(Request(asked, sampled, lambda each: placed(Sampler("Euler"), each),
                               source=SourceFrames.of(asked)))
        line = f"24 frames of 2 s → {len(expected)} at {4 if 'video_fps' in more else fps:g} fps"
        assert dict(told.facts)["Source video"] == line and told.frames == len(expected) and not told.errors
        assert any("as fast as its source" in note for note in told.notices) is ("fps" in more)


def encoded(pipeline, frame):
    x = torch.from_numpy(frame.astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        return pipeline.vae.encode(x).latent_dist.mean * pipeline.vae.config.scaling_factor


@pytest.mark.slow
def test_a_strength_for_each_frame(made, pipeline):
    """Frame 0 stays, the last is the most changed; a constant share is a lower strength, bit for bit."""
    folder, frames = made
    asked = settings(video_path=folder / "walk.mp4", video_every=8, denoising_strength=0.8, steps=8)
    clip = pipeline.sample(parse({"denoising_strength_frames": "0, 0.4, 1"}, asked))
    own = torch.cat([encoded(pipeline, frames[i]) for i in (0, 8, 16)])
    torch.testing.assert_close(clip[0], own[0], atol=1e-5, rtol=1e-5)
    changed = (clip - own).abs().mean((1, 2, 3))
    assert 0.01 < changed[1] < changed[2]
    half = pipeline.sample(parse({"denoising_strength_frames": 0.5}, asked))
    assert torch.equal(half, pipeline.sample(parse({"denoising_strength": 0.4}, asked)))


@pytest.mark.parametrize("mask, changes", [("left.png", (0, 1, 2)), ("mask.mp4", (2,))])
def test_a_mask_limits_where_the_clip_changes(made, pipeline, mask, changes):
    """In latents and, through the VAE, in pixels; the mask's own video is read at the source's times."""
    folder, frames = made
    asked = settings(video_path=folder / "walk.mp4", video_every=8, mask_path=folder / mask, denoising_strength=1)
    own = torch.cat([encoded(pipeline, frames[i]) for i in (0, 8, 16)])
    clip, shown = pipeline.sample(asked), list(pipeline.render(asked))
    for number, start in enumerate((0, 8, 16)):
        kept = slice(4, 8) if number in changes else slice(0, 8)
        torch.testing.assert_close(clip[number, :, :, kept], own[number, :, :, kept], atol=1e-5, rtol=1e-5)
        assert np.array_equal(shown[number][:, 32:], frames[start][:, 32:])
        assert np.array_equal(shown[number], frames[start]) is (number not in changes)
    assert all((clip[i, :, :, :4] - own[i, :, :, :4]).abs().mean() > 0.1 for i in changes)


@pytest.mark.parametrize("size, said", [((128, 128), False), ((65, 64), False), ((128, 72), True), ((32, 64), True)])
def test_a_mask_of_another_aspect_ratio_gets_a_notice(made, tmp_path, size, said):
    folder, _ = made
    Image.new("L", size, 255).save(tmp_path / "mask.png")
    asked = settings(video_path=folder / "walk.mp4", mask_path=tmp_path / "mask.png", frames=2)
    found = pictures.read(asked)
    told = [note for note in pictures.notices(found.of(asked), found, "512x512") if "aspect ratio" in note]
    assert [f"mask.png ({size[0]}x{size[1]})" in note and "(64x64)" in note for note in told] == [True] * said


@pytest.mark.parametrize("given, sound, said", [
    ({}, True, ""), ({"audio": "none"}, False, ""), ({"audio": "None", "fps": 5}, False, ""),
    ({"formats": ["GIF"]}, False, ""), ({"fps": 5}, False, "does not play at the source's pace"),
    ({"closed_loop": "ping-pong"}, False, "plays forwards and backwards"),
    ({"closed_loop": "ping-pong", "audio": "none"}, False, ""), ({"closed_loop": "R-P"}, True, "")], ids=str)
def test_when_the_sources_sound_is_in_the_clip(made, given, sound, said):
    folder, _ = made
    asked = settings(video_path=folder / "walk.mp4", **{"formats": ["MP4"], **given})
    inputs = Inputs.read(asked, lambda name: folder)
    assert (inputs.sound is not None) is sound
    told = [note for note in inputs.source.notices(inputs.settings) if "sound" in note]
    assert [note.rpartition("since the clip ")[2] for note in told] == ([said] if said else [])


@pytest.mark.parametrize("given, begin", [
    ({}, 0), ({"video_start": 0.51}, 7 / 12), ({"video_start": 0.5, "video_fps": 2}, 0.5), ({"video_fps": 1}, 0),
    ({"video_fps": 4, "video_every": 2}, 0)], ids=str)
def test_the_sound_begins_with_the_clip(made, given, begin):
    """The source has 12 frames per second. At 1 per second the first frame is the one at 0.5 s, shown from 0 to 1 s."""
    asked = settings(video_path=made[0] / "walk.mp4", formats=["MP4"], **given)
    assert float(Inputs.read(asked, lambda name: made[0]).sound.begin) == pytest.approx(begin)


def test_masks_that_do_not_belong_to_the_source(made, tmp_path):
    folder, _ = made
    with pytest.raises(SettingsError, match="mask_path: it needs a source video"):
        pictures.read(settings(mask_path=folder / "left.png"))
    short = tmp_path / "short.gif"
    Image.new("L", (8, 8)).save(short, save_all=True, append_images=[Image.new("L", (8, 8), 9)], duration=500)
    with pytest.raises(MediaError, match="ends after 1 s, and the source's frames go on until 2 s"):
        pictures.read(settings(video_path=folder / "walk.mp4", mask_path=short))
    pictures.read(settings(video_path=folder / "walk.mp4", mask_path=short, video_end=1))
    (tmp_path / "masks").mkdir()
    for i in range(5):
        Image.new("L", (8, 8)).save(tmp_path / "masks" / f"{i}.png")
    with pytest.raises(MediaError, match="has 5 pictures, and the clip has 24 frames"):
        pictures.read(settings(video_path=folder / "walk.mp4", mask_path=tmp_path / "masks"))
    assert pictures.read(settings(video_path=folder / "walk.mp4", mask_path=tmp_path / "masks", frames=5))


@pytest.mark.parametrize("given, where", [
    ({"init": "one.png"}, "init"), ({"frames": 25}, "frames"), ({"video_start": 2.5}, "video_start"),
    ({"video_end": 2.5}, "video_end"), ({"video_fps": 0.001}, "video_fps")])
def test_what_is_refused(made, given, where):
    folder, _ = made
    given = {k: folder / v if k == "init" else v for k, v in given.items()}
    with pytest.raises(SettingsError) as caught:
        pictures.read(settings(video_path=folder / "walk.mp4", **given))
    assert caught.value.where == where


@pytest.mark.parametrize("fit, expected", [("crop", [1, 1, 1, 1]), ("pad", [0, 1, 1, 0]), ("stretch", [1, 1, 1, 1])])
def test_fits(tmp_path, fit, expected):
    """A white picture twice as wide as high, in a square; resize_mode is an older name."""
    Image.new("RGB", (64, 32), "white").save(tmp_path / "wide.png")
    found = pictures.read(settings(init=tmp_path / "wide.png", size="32x32", frames=2, fit=fit)).first[0]
    assert [round(found[row, 16].mean() / 255) for row in (2, 10, 20, 30)] == expected
    assert {parse({"resize_mode": name}).fit for name in ("Just resize",)} == {"stretch"}


@pytest.fixture
def run(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        code = cli.main(["render", *map(str, arguments), "--checkpoint", str(tiny.checkpoint), "--motion-module",
                         str(tiny.module), "--steps", "2", "--cfg", "1", "--device", "cpu", "--json"])
        out = capsys.readouterr()
        return code, json.loads(out.out), out.err

    return command


def test_a_clip_has_the_sources_rate_and_sound_and_is_repeated(run, made, tmp_path):
    folder, frames = made
    (tmp_path / "walk.mp4").write_bytes((folder / "walk.mp4").read_bytes())
    asked = ["x", "--video", tmp_path / "walk.mp4", "--video-start", 1, "--video-every", 4, "--seed", 3, "--size",
             "64x64"]
    code, found, said = run(*asked, "--out", "a.mp4")
    assert code == 0 and found["frames"] == 3 and "Source: 24 frames of 2 s → 3 at 3 fps" in said
    with av.open("a.mp4") as clip:
        assert clip.streams.video[0].average_rate == 3
        heard = np.concatenate([frame.to_ndarray()[0] for frame in clip.decode(audio=0)])
    assert len(heard) == pytest.approx(16000, abs=2048) and np.abs(heard[1000:3000]).max() > 0.3  # from the middle on
    about = json.loads(metadata.read("a.mp4"))
    assert about["settings"]["video_path"] == "walk.mp4" and about["settings"]["fps"] == 3
    assert about["pictures"]["video_path"]["frames"] == "24 frames of 2 s → 3 at 3 fps"
    assert run("--from", "a.mp4", "--out", "b.mp4")[0] == 0
    first, again = (list(av.open(name).decode(video=0)) for name in ("a.mp4", "b.mp4"))
    assert all(np.array_equal(a.to_ndarray(), b.to_ndarray()) for a, b in zip(first, again, strict=True))
    write_video(tmp_path / "walk.mp4", frames[::-1], 12)
    code, found, _ = run("--from", "a.mp4", "--out", "c.mp4")
    assert code == 0 and any("--video: the picture has changed" in note for note in found["notes"])
