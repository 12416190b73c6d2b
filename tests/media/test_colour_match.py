"""Colour match on clips with a known drift and on clips without. OpenCV changes the colours in L*a*b*."""
from __future__ import annotations

import json
import random

import cv2
import numpy as np
import pytest
from PIL import Image
from slow_cases import slow
from test_score import picture, score, whole

from animatediff.clip import colour
from animatediff.clip.job import Clip, Job
from animatediff.errors import SettingsError
from animatediff.media.colour_match import ToFirst, ToSource
from animatediff.media.write import Target
from animatediff.settings import parse


def lab_of(frames):
    return np.stack([cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for frame in frames])


def drifting(frames, way, contrast=0.0):
    """Return a clip whose frame i has i times `way` added in L*a*b*, and its contrast raised by i times `contrast`."""
    found = []
    for i, colours in enumerate(lab_of(frames)):
        mean = colours.mean((0, 1))
        colours = (colours - mean) * (1 + i * contrast) + mean + np.array(way) * i
        found.append(whole(cv2.cvtColor(colours.astype(np.float32), cv2.COLOR_LAB2RGB) * 255))
    return found


def matched(match, frames):
    return [match(frame) for frame in frames]


def moving(count=10, speed=2):
    base = whole(picture(80, 160))
    return [base[8:72, 8 + i * speed:72 + i * speed] for i in range(count)]


def shapes(count=10):
    """Yield the demo model's training clips, endlessly."""
    from training.clips import random_clip
    from training.shapes import render

    frames, _ = render(random_clip(random.Random(4), count, 64).scene, 64)
    return [((x + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy() for x in frames]


@pytest.mark.parametrize("make", [moving, shapes], ids=lambda f: f.__name__)
def test_a_clip_without_drift_stays_as_it_is(make):
    frames = make()
    assert all(np.array_equal(a, b) for a, b in zip(matched(ToFirst(), frames), frames))


@pytest.mark.parametrize("make", [moving, shapes], ids=lambda f: f.__name__)
def test_drift_is_undone_and_flicker_does_not_rise(make):
    frames = make()
    clip = drifting(frames, (0.4, 0.5, -0.3))
    found = matched(ToFirst(), clip)
    before, after = score(clip), score(found)
    assert before.drift.end > 2 and after.drift.end < 0.4 * before.drift.end
    assert after.flicker.brightness < before.flicker.brightness + 0.2  # of 255
    off, was = (np.linalg.norm(lab_of(each) - lab_of(frames), axis=-1).mean() for each in (found, clip))
    assert off < 0.45 * was, "nearer to the frames before they drifted"


@pytest.mark.slow
def test_contrast_and_flicker_are_undone():
    still = [whole(picture(64, 64))] * 12
    clip = [whole(frame + 6.0 * (i % 2)) for i, frame in enumerate(drifting(still, (0, 0, 0), contrast=0.02))]
    found = matched(ToFirst(), clip)
    assert score(found).flicker.brightness < 0.4 * score(clip).flicker.brightness
    own, was, now = (lab_of(each)[-1].std((0, 1)) for each in (still, clip, found))
    assert (np.abs(now - own) < 0.65 * np.abs(was - own)).all()


def test_a_cut_keeps_the_correction():
    one, other = whole(picture(64, 64, 1, 20, 90)), whole(picture(64, 64, 2, 150, 240))
    clip = drifting([one] * 6 + [other] * 6, (0.6, 0, 0))
    found = matched(ToFirst(), clip)
    assert np.abs(lab_of(found)[6:].mean((1, 2)) - lab_of([other])[0].mean((0, 1))).max() < 2.2 < 0.6 * 6


def test_the_source_gives_its_mean_and_deviation():
    frames, sources = moving(4), [whole(picture(40, 50, seed, 20, 120)) for seed in range(4)]
    found = matched(ToSource(lambda i: sources[i]), frames)
    for a, b in zip(lab_of(found), lab_of(sources)):
        assert np.abs(a.mean((0, 1)) - b.mean((0, 1))).max() < 1 and np.abs(a.std((0, 1)) - b.std((0, 1))).max() < 1
    same = matched(ToSource(lambda i: frames[i]), frames)
    assert all(np.array_equal(a, b) for a, b in zip(same, frames))


@pytest.mark.parametrize("kind", ["arrays", slow("pictures")])
def test_a_job_writes_and_measures_matched_frames(tmp_path, kind):
    settings = parse({"color_match": "first frame", "score": True})
    clip, told = drifting(moving(), (0.4, 0.5, -0.3)), []
    job = Job()
    job.begin(Clip(len(clip), ["PNG"], 8, lambda known: told.append(known) or json.dumps({}),
                   lambda taken: Target(f"{tmp_path}/", "a"), playback=range if kind == "pictures" else None,
                   score=settings.score, match=colour.of(settings, None)))
    for frame in [Image.fromarray(frame) if kind == "pictures" else frame for frame in clip]:
        job.add(frame)
    written = job.finish()
    stills = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "a").glob("*.png"))]
    assert all(np.array_equal(a, b) for a, b in zip(stills, matched(ToFirst(), clip), strict=True))
    assert written.score == told[-1].score and written.score.drift.end < 0.5 * score(clip).drift.end


def test_what_is_refused():
    assert colour.of(parse({}), None) is None
    with pytest.raises(SettingsError, match="color_match: the clip has no source"):
        colour.of(parse({"colour_match": "source"}), None)
