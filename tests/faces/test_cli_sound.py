"""`animatediff render` with a sound, and files with higher bit depth, read by PyAV, OpenCV and the ffmpeg program."""
from __future__ import annotations

import json
import wave

import numpy as np
import pytest
from command_line import QUICK, files, run  # noqa: F401
from PIL import Image

av = pytest.importorskip("av")
RATE = 8000


@pytest.fixture
def beat(tmp_path):
    """Two seconds of silence with a tone in the second half of the first."""
    samples = np.zeros(2 * RATE)
    samples[RATE // 2:RATE] = 0.5 * np.sin(np.arange(RATE // 2) / RATE * 2 * np.pi * 100)
    with wave.open(str(tmp_path / "beat.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return samples


def heard(path) -> np.ndarray:
    with av.open(str(path)) as container:
        blocks = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    return np.concatenate(blocks) / 2**15


def test_sound_in_the_file_and_in_a_curve(run, beat):
    code, out, err = run("render", "x", *QUICK, "--frames", 8, "--audio", "beat.wav", "--audio-start", 0.25,
                         "--motion-scale", "0.2 + audio(bass)", "--video-codec", "H.264", "--out", "a.mov", "--json")
    assert code == 0 and "Sound: beat.wav from 0.25 s" in err and "audio(bass): ▁▁██" in err
    assert np.abs(heard("a.mov") - beat[RATE // 4:RATE // 4 + RATE]).max() < 1e-3
    about = json.loads(out)["metadata"]
    assert about["settings"]["motion_scale"] == "0.2 + audio(bass)" and about["audio"]["name"] == "beat.wav"


def test_a_curve_is_its_numbers(run, beat, tmp_path):
    """The loudness is 1 in frames 4 to 7, which are shown from 0.5 s to 1 s."""
    effects = {"whole": "1", "heard": "1 - audio(loudness)", "written": "1, 1, 1, 1, 0"}
    for name, effect in effects.items():
        assert run("render", "x", *QUICK, "--frames", 8, "--audio", "beat.wav", "--motion-effect", effect,
                   "--format", "PNG", "--out", f"{name}.png")[0] == 0
    clips = {name: np.stack([np.asarray(Image.open(path)).astype(int) for path in sorted((tmp_path / name).iterdir())])
             for name in effects}
    assert np.abs(clips["heard"] - clips["written"]).max() <= 1
    assert np.abs(clips["heard"] - clips["whole"]).max() > 1


def test_a_curve_without_a_sound_is_refused(run):
    code, _, err = run("render", "x", *QUICK, "--motion-scale", "audio(onset)", "--out", "a.gif")
    assert code == 2 and "--motion-scale: audio(onset) follows a sound, but there is none. Give a sound file" in err
    code, _, err = run("render", "x", *QUICK, "--audio", "gone.wav", "--out", "a.mp4")
    assert code == 4 and "gone.wav" in err


def test_more_bits_come_from_the_vae(run, tmp_path):
    cv2 = pytest.importorskip("cv2")
    assert run("render", "x", *QUICK, "--bit-depth", 16, "--format", "PNG", "--out", "deep.png")[0] == 0
    assert run("render", "x", *QUICK, "--format", "PNG", "--out", "flat.png")[0] == 0
    for path in sorted((tmp_path / "deep").glob("*.png")):
        deep, flat = (cv2.imread(str(folder / path.name), cv2.IMREAD_UNCHANGED)
                      for folder in (tmp_path / "deep", tmp_path / "flat"))
        assert deep.dtype == np.uint16 and len(np.unique(deep)) > len(np.unique(flat))
        assert np.abs(deep / 257 - flat).max() <= 0.51


def test_a_codec_that_does_not_fit_is_refused_before_the_run(run):
    code, _, err = run("render", "x", *QUICK, "--out", "a.webm", "--video-codec", "h264")
    assert code == 4 and "--video-codec: WEBM cannot contain H.264. Use VP9 or AV1 for WEBM" in err
