"""Sound in a real WebUI: a file of the data folder in the clip's MP4, and in a curve."""
from __future__ import annotations

import base64
import io
import wave

import numpy as np
import pytest
from test_webui_generation import EULER, FRAMES

RATE = 8000
SHORT = {"enable": True, "video_length": 8, "overlap": 2, "fps": 8, "returns": "clip", "format": ["MP4", "GIF"]}
FIELDS = {**EULER, "prompt": "a red circle", "steps": 2}


@pytest.fixture
def beat(host):
    """Two seconds, with a tone in the second half of the first."""
    samples = np.zeros(2 * RATE)
    samples[RATE // 2:RATE] = 0.5 * np.sin(np.arange(RATE // 2) / RATE * 2 * np.pi * 100)
    path = host.data / "beat.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def test_the_mp4_has_the_sound_and_a_note_names_the_gif(host, beat):
    av = pytest.importorskip("av")
    settings = {**FRAMES, **SHORT, "audio": "beat.wav", "motion_scale": "0.5 + audio(bass)"}
    answer = host.txt2img(settings, **FIELDS).expect()
    assert "GIF cannot contain sound" in answer.info["extra_generation_params"]["AnimateDiff notes"]
    assert "audio: beat.wav" in answer.info["infotexts"][0] and "audio(bass)" in answer.info["infotexts"][0]
    data = next(data for data in map(base64.b64decode, answer.body["images"]) if b"ftyp" in data[:12])
    with av.open(io.BytesIO(data)) as container:
        blocks = [frame.to_ndarray().mean(0) for frame in container.decode(audio=0)]
    heard = np.abs(np.concatenate(blocks)[:RATE]).reshape(4, -1).mean(1)
    assert heard[:2].max() < 0.01 and heard[2:].min() > 0.2


@pytest.mark.parametrize("settings, problem", [
    ({"motion_scale": "audio(bass)"}, "follows a sound, but there is none"), ({"audio": "/etc/passwd"}, "audio"),
    ({"audio": "beat.wav", "audio_start": 5}, "the sound ends before 5 s"),
    ({"format": ["WEBM"], "video_codec": "H.264"}, "WEBM cannot contain H.264")])
def test_what_is_wrong_is_said_before_and_by_the_run(host, beat, settings, problem):
    settings = {**FRAMES, **SHORT, **settings}
    told = host.post("/animatediff/v1/preflight", {"alwayson_scripts": {"AnimateDiff": {"args": [settings]}}}).expect()
    assert any(problem in each for each in told.body["problems"]), told.body
    answer = host.txt2img(settings, **FIELDS)
    assert answer.status >= 400 and problem in str(answer.body)


def test_the_preflight_plots_the_sound(host, beat):
    settings = {**SHORT, "audio": "beat.wav", "motion_scale": "audio(bass)"}
    told = host.post("/animatediff/v1/preflight", {"alwayson_scripts": {"AnimateDiff": {"args": [settings]}}}).expect()
    assert "Sound: beat.wav" in told.body["lines"]
    assert any(line.startswith("audio(bass): ▁▁▁▁█") for line in told.body["lines"])


def test_a_sound_in_the_request_is_kept_and_named(host, beat):
    av = pytest.importorskip("av")
    sent = base64.b64encode(beat.read_bytes()).decode()
    settings = {**FRAMES, **SHORT, "format": ["MKV"], "bit_depth": "16", "audio": f"data:audio/wav;base64,{sent}"}
    answer = host.txt2img(settings, **FIELDS).expect()
    [kept] = (host.outputs / "AnimateDiff-sounds").iterdir()
    assert kept.read_bytes() == beat.read_bytes() and f"audio: {kept.name}" in answer.info["infotexts"][0]
    data = base64.b64decode(answer.body["images"][0])
    with av.open(io.BytesIO(data)) as container:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    samples = np.frombuffer(beat.read_bytes()[-4 * RATE:], "<i2")
    assert np.array_equal(heard[:RATE], samples[:RATE])
    with av.open(io.BytesIO(data)) as container:  # the decoder's precision
        first = next(container.decode(video=0)).to_ndarray(format="gbrp16le")
    assert len(np.unique(first % 257)) > 100 and "8 bits per channel" not in str(answer.info)
    for wrong in ("data:audio/wav;base64,AAAA", "x" * 5000):
        answer = host.txt2img({**settings, "audio": wrong}, **FIELDS)
        assert answer.status == 422 and "audio" in str(answer.body), answer
