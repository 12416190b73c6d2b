"""Sound in the stand-in: a file of the data folder in the clip's MP4, and in a curve."""
from __future__ import annotations

import base64
import io
import wave
from types import SimpleNamespace

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


def test_a_sound_in_the_request_is_kept_and_named(host):
    """MKV has the samples without loss. The infotext's name finds the sound again."""
    wav = (host.data / "beat.wav").read_bytes()
    (host.data / "beat.wav").unlink()
    answer = ask(host, audio=base64.b64encode(wav).decode(), format=["MKV"])
    [kept] = (host.data / "outputs" / "AnimateDiff-sounds").iterdir()
    assert kept.read_bytes() == wav and kept.suffix == ".wav" and f"audio: {kept.name}" in answer.info["infotexts"][0]
    again = ask(host, audio=kept.name, format=["MKV"])
    for each in (answer, again):
        with av.open(io.BytesIO(each.images[0])) as container:
            heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        assert np.array_equal(heard[:RATE], np.frombuffer(wav[-4 * RATE:], "<i2")[:RATE])


def test_data_above_the_limit_is_refused(host, monkeypatch):
    from animatediff.media import opening

    monkeypatch.setattr(opening, "BYTES", 2**20)
    for name in ("audio", "mask_path", "video_source"):
        answer = ask(host, **{name: base64.b64encode(bytes(2**20 + 100)).decode()})
        assert answer.status == 422 and answer.detail.startswith(f"{name}: has more than the 1 MB"), answer
    assert not list((host.data / "outputs").rglob("*.*"))


def test_an_uploaded_sound_goes_into_the_text_field(host, tmp_path, monkeypatch):
    from animatediff.hosts.a1111.server_sound import KEPT
    from animatediff.hosts.shared.upload import Upload

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    upload = tmp_path / "uploads" / "beat.wav"
    upload.parent.mkdir()
    upload.write_bytes((host.data / "beat.wav").read_bytes())
    control = Upload(SimpleNamespace(Error=ValueError), SimpleNamespace(), KEPT.uploaded)
    names = {control.values(str(upload)), control.values(SimpleNamespace(name=str(upload)))}  # gradio 4.40 and 3.41
    assert KEPT.find(*names).read_bytes() == upload.read_bytes() and control.values(None) == ""
    with pytest.raises(ValueError, match="no upload"):
        control.values(str(host.data / "beat.wav"))
    upload.write_bytes(b"GIF89a, which is no sound")
    with pytest.raises(ValueError, match="no file that can be read"):
        control.values(str(upload))


@pytest.mark.parametrize("settings, problem", [
    ({"audio": "data:audio/wav;base64,AAAA"}, "audio: is not a sound or video in base64"),
    ({"audio": base64.b64encode(bytes(6000)).decode()}, "audio: is not a sound or video in base64"),
    ({"audio": base64.b64encode(b"RIFF....WAVE" + bytes(600)).decode()}, "cannot be read"),
    ({"audio": "x" * 5000}, "audio: is not"),
    ({"motion_scale": "audio(bass)"}, "follows a sound, but there is none"), ({"audio": "/etc/passwd"}, "audio: "),
    ({"audio": "gone.wav"}, "gone.wav"), ({"audio": "beat.wav", "audio_start": 5}, "the sound ends before 5 s"),
    ({"format": ["WEBM"], "video_codec": "H.264"}, "WEBM cannot contain H.264"),
    ({"video_crf": 60}, "video_crf: 60 is")])
def test_what_is_wrong_is_refused(host, settings, problem):
    answer = ask(host, **settings)
    assert answer.status >= 400 and problem in f"{answer.error} {answer.errors} {answer.detail}"
