"""Sound in video files. The ffmpeg program makes the sounds and decodes the written files."""
from __future__ import annotations

import random
import subprocess
import wave
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from animatediff.errors import MediaError
from animatediff.media import sound
from animatediff.media.write import ClipWriter, probe, soundtrack

pytest.importorskip("av")
RATE, CLICKS = 44100, (0.5, 1.5, 2.5)
AUDIO_FRAME = 1024 / RATE


@pytest.fixture(scope="module")
def files(tmp_path_factory, ffmpeg):
    """files(name): three seconds with a click in the middle of each, in the format of the suffix.

    With `video`, the file also has ten pictures per second.
    """
    folder = tmp_path_factory.mktemp("sounds")
    samples = np.zeros((3 * RATE, 2))
    for seconds in CLICKS:
        samples[int(seconds * RATE):][:40] = 0.8 * np.hanning(40)[:, None]
    with wave.open(str(folder / "click.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())

    def made(name: str, *options: str):
        path = folder / name
        if not path.exists():
            video = ["-f", "lavfi", "-i", "testsrc=s=32x32:r=10:d=3"] if "video" in name else []
            command = [ffmpeg.program, "-v", "error", *video, "-i", str(folder / "click.wav"), *options, str(path)]
            subprocess.run(command, check=True)
        return path

    return made


def write(target, found, count=25, formats=("MP4",)):
    with ClipWriter(target, formats, 10, sound=found) as clip:
        for index in range(count):
            clip.add(np.full((32, 32, 3), index * 5, np.uint8))
    return clip


def heard(path, ffmpeg) -> np.ndarray:
    """Return mono samples, 48000 per second, at their playback times."""
    command = [ffmpeg.program, "-v", "error", "-i", str(path), "-map", "0:a", "-af", "aresample=async=1:first_pts=0",
               "-f", "f32le", "-ac", "1", "-ar", "48000", "-"]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.float32)


def clicks(samples: np.ndarray, rate: int = 48000) -> list[float]:
    loud, found = np.abs(samples).copy(), []
    while loud.size and loud.max() > 0.15:
        at = int(loud.argmax())
        found.append(at / rate)
        loud[max(0, at - 4000):at + 4000] = 0
    return sorted(found)


def streams(path, ffmpeg) -> list[str]:
    return [line.split("Audio: ")[1].split()[0].strip(",") for line in ffmpeg.describe(path).splitlines()
            if "Audio: " in line]


@pytest.mark.parametrize("name, mp4, webm", [
    ("a.wav", "aac", "opus"), ("a.mp3", "mp3", "opus"), ("a.flac", "aac", "opus"), ("a.m4a", "aac", "opus"),
    ("a.opus", "aac", "opus"), ("video.mp4", "aac", "opus"), ("video.mkv", "aac", "vorbis")])
def test_clicks_stay_where_they_were(tmp_path, files, ffmpeg, name, mp4, webm):
    clip = write(tmp_path / "a.mp4", sound.find(files(name)), formats=("MP4", "WEBM"))
    assert not clip.notes
    for path, codec in zip(clip.paths, (mp4, webm)):
        assert streams(path, ffmpeg) == [codec]
        samples = heard(path, ffmpeg)
        assert clicks(samples)[:2] == pytest.approx(CLICKS[:2], abs=0.004)
        assert len(samples) / 48000 == pytest.approx(2.5, abs=AUDIO_FRAME if path.suffix == ".webm" else 0.001)


@pytest.mark.parametrize("ending", ["mp4", "webm"])
def test_a_part_and_its_repetition_are_exact_to_the_sample(tmp_path, files, ffmpeg, ending):
    found = sound.find(files("a.wav"))
    [path] = write(tmp_path / f"cut.{ending}", found.part(1.25), formats=(ending,)).paths
    samples = heard(path, ffmpeg)
    assert len(samples) == round(1.75 * 48000) and clicks(samples) == pytest.approx([0.25, 1.25], abs=0.001)
    [path] = write(tmp_path / f"loop.{ending}", found.part(0.25, 1.25, loop=True), formats=(ending,)).paths
    samples = heard(path, ffmpeg)
    assert len(samples) == 120_000 and clicks(samples) == pytest.approx([0.25, 1.25, 2.25], abs=0.001)


def test_samples_are_those_of_the_file(files):
    with wave.open(str(files("a.wav"))) as file:
        true = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2) / 32768
    found = sound.find(files("a.wav"))
    assert (found.codec, found.rate, found.channels, found.seconds) == ("pcm_s16le", RATE, 2, 3)
    assert np.array_equal(np.concatenate(list(found.samples())), true.astype(np.float32))
    part = np.concatenate(list(found.part(Fraction(1, 3), Fraction(7, 3)).samples()))
    assert np.array_equal(part, true[RATE // 3:RATE * 7 // 3].astype(np.float32))


def test_sound_that_begins_late_is_late(tmp_path, files, ffmpeg):
    """A video whose sound is shifted against its pictures by 0.7 seconds."""
    video, late = files("video.mp4"), tmp_path / "late.mkv"
    subprocess.run([ffmpeg.program, "-v", "error", "-i", str(video), "-itsoffset", "0.7", "-i", str(video),
                    "-map", "0:v", "-map", "1:a", "-c", "copy", str(late)], check=True)
    found = sound.find(late)
    assert float(found.offset) == pytest.approx(0.7, abs=0.025)
    for container in ("mp4", "webm"):  # copied and encoded
        [path] = write(tmp_path / f"a.{container}", found, formats=(container,)).paths
        assert clicks(heard(path, ffmpeg)) == pytest.approx([1.2, 2.2], abs=0.025)
    [path] = write(tmp_path / "part.mp4", found.part(0.5), formats=("MP4",)).paths
    assert clicks(heard(path, ffmpeg)) == pytest.approx([0.7, 1.7], abs=0.025)


def test_formats_without_sound_are_named(tmp_path, files):
    clip = write(tmp_path, sound.find(files("a.wav")), 3, ("GIF", "WEBP", "APNG", "PNG", "MP4", "TXT"))
    [note] = clip.notes
    assert note.startswith("GIF, WEBP, APNG and PNG cannot contain sound")


def test_what_has_no_sound(tmp_path, ffmpeg):
    silent, text = tmp_path / "silent.mp4", tmp_path / "a.wav"
    subprocess.run([ffmpeg.program, "-v", "error", "-f", "lavfi", "-i", "testsrc=s=32x32:d=1", str(silent)], check=True)
    assert sound.find(silent) is None
    text.write_text("no sound")
    for path in (text, tmp_path, tmp_path / "missing.wav"):
        with pytest.raises(MediaError):
            sound.find(path)


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.flac", "a.m4a", "a.opus", "video.mkv"])
def test_damaged_sounds_never_cost_the_clip(tmp_path, files, name):
    whole, draw = files(name).read_bytes(), random.Random(name)
    for number in range(12):
        data = bytearray(whole[:draw.randrange(40, len(whole))] if number % 3 else whole)
        for _ in range(draw.randrange(20)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path = tmp_path / f"{number}.{name}"
        path.write_bytes(data)
        try:
            found = sound.find(path)
        except MediaError:
            continue
        clip = write(tmp_path / f"{number}.mp4", found, 4)
        assert clip.count == 4 and len(clip.paths) == 1


def test_an_encoder_of_sound_that_is_not_there_is_found_before_the_run(tmp_path, files, monkeypatch):
    monkeypatch.setitem(soundtrack.ENCODINGS, "mp4", replace(soundtrack.ENCODINGS["mp4"], codec="nothing"))
    probe(["MP4"])
    with pytest.raises(MediaError, match="the encoder nothing is not there"):
        probe(["MP4"], sound=True)
