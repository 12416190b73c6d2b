"""Sound in the stand-in: a file of the data folder in the clip's MP4, and in a curve."""
from __future__ import annotations

import io
import wave

import numpy as np
import pytest

av = pytest.importorskip("av")
RATE = 8000
REQUEST = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 2, "seed": 70, "sampler_name": "Euler"}
CLIP = {"enable": True, "model": "moving.safetensors", "video_length": 8, "batch_size": 4, "format": ["MP4", "GIF"]}


@pytest.fixture
def host(host):
    """The stand-in with beat.wav in its data folder: two seconds, with a tone in the second half of the first."""
    samples = np.zeros(2 * RATE)
    samples[RATE // 2:RATE] = 0.5 * np.sin(np.arange(RATE // 2) / RATE * 2 * np.pi * 100)
    with wave.open(str(host.data / "beat.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return host


def ask(host, **settings):
    return host.request("txt2img", REQUEST, {"AnimateDiff": [{**CLIP, **settings}]})


def test_the_clip_has_the_sound_and_a_note_names_the_gif(host):
    answer = ask(host, audio="beat.wav", motion_effect="1 - audio(bass)")
    assert answer.status == 200, answer
    assert "GIF cannot contain sound" in answer.info["extra_generation_params"]["AnimateDiff notes"]
    assert "audio: beat.wav" in answer.info["infotexts"][0] and "1 - audio(bass)" in answer.info["infotexts"][0]
    data = next(data for data in answer.images if b"ftyp" in data[:12])
    with av.open(io.BytesIO(data)) as container:
        heard = np.concatenate([frame.to_ndarray().mean(0) for frame in container.decode(audio=0)])
    loud = np.abs(heard[:RATE]).reshape(4, -1).mean(1)
    assert loud[:2].max() < 0.01 and loud[2:].min() > 0.2


@pytest.mark.parametrize("settings, problem", [
    ({"motion_scale": "audio(bass)"}, "follows a sound, but there is none"), ({"audio": "/etc/passwd"}, "audio: "),
    ({"audio": "gone.wav"}, "gone.wav"), ({"audio": "beat.wav", "audio_start": 5}, "the sound ends before 5 s"),
    ({"format": ["WEBM"], "video_codec": "H.264"}, "WEBM cannot contain H.264"),
    ({"video_crf": 60}, "video_crf: 60 is")])
def test_what_is_wrong_is_refused(host, settings, problem):
    answer = ask(host, **settings)
    assert answer.status >= 400 and problem in f"{answer.error} {answer.errors} {answer.detail}"
