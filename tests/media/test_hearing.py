"""Levels of synthesized sounds, and of noise against scipy's filters."""
from __future__ import annotations

import wave
from fractions import Fraction

import numpy as np
import pytest

from animatediff.clip import sounds
from animatediff.media import hearing, sound
from animatediff.media.timing import rate
from animatediff.settings import Settings
from animatediff.travel.expressions import LEVELS, Follow

pytest.importorskip("av")
RATE = 44100
RNG = np.random.default_rng(0)


def write(path, samples, hertz=RATE):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(hertz)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return sound.find(path)


def levels(path, samples, fps=8, frames=16, hertz=RATE, **part):
    found = write(path, samples, hertz)
    heard = hearing.of(found.part(**part) if part else found, fps, frames)
    return {name: np.array(heard(Follow(name))) for name in LEVELS}


def tone(frequency, seconds=2.0, hertz=RATE):
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * hertz)) / hertz)


def clicks(times, seconds=2.0, loudness=0.4):
    samples = np.zeros(round(seconds * RATE))
    for time in times:
        at = round(time * RATE)
        length = len(samples[at:at + 400])
        samples[at:at + 400] += loudness * RNG.normal(size=length) * np.exp(-np.arange(length) / 100)
    return samples


@pytest.mark.parametrize("hertz", [8000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("frequency, band", [(60, "bass"), (1000, "mid"), (8000, "treble")])
def test_a_tone_is_in_its_band_alone(tmp_path, frequency, band, hertz):
    if frequency >= hertz / 2:
        return
    found = levels(tmp_path / "a.wav", tone(frequency, hertz=hertz), hertz=hertz)
    for name in ("bass", "mid", "treble"):
        inside = found[name][1:-1]  # its abrupt ends are in all bands
        assert inside.min() > 0.98 if name == band else inside.max() < 0.02
    assert found["loudness"].min() > 0.98 and found["onset"].argmax() == 0 and found["onset"][1:].max() < 0.05


@pytest.mark.parametrize("fps", [8, 12.5, 23.976, 60])
def test_onsets_are_in_the_frames_of_the_clicks(tmp_path, fps):
    times = (0.0, 0.25, 0.5 + 1e-3, 0.8, 1.0, 1.37, 1.75)  # some exactly at the start of a frame
    for more in (0, tone(60), 0.01 * RNG.normal(size=2 * RATE)):
        onset = levels(tmp_path / "a.wav", clicks(times) + more, fps, round(2 * fps))["onset"]
        due = [{int(time * rate(fps)), int((time + hearing.ONSET_HOP) * rate(fps))} for time in times]  # or a hop later
        found = {int(i) for i in np.flatnonzero(onset > 0.5)}
        assert len(found) == len(times) and all(found & each for each in due)


def test_bands_are_those_of_scipys_filters(tmp_path):
    signal = pytest.importorskip("scipy.signal")
    samples = np.clip(RNG.normal(size=2 * RATE) * 0.1 * np.linspace(0.2, 1, 2 * RATE), -1, 1)
    found = levels(tmp_path / "a.wav", samples, 10, 20)
    for name, band in (("bass", (None, 250)), ("mid", (250, 4000)), ("treble", (4000, None))):
        kind = {(None, 250): "lowpass", (250, 4000): "bandpass", (4000, None): "highpass"}[band]
        edges = [each for each in band if each]
        sos = signal.butter(10, edges if len(edges) > 1 else edges[0], kind, fs=RATE, output="sos")
        filtered = signal.sosfiltfilt(sos, samples).reshape(20, -1)
        expected = np.sqrt((filtered**2).mean(1))
        assert found[name] == pytest.approx(expected / expected.max(), abs=0.1)
    expected = np.sqrt((samples.reshape(20, -1)**2).mean(1))
    assert found["loudness"] == pytest.approx(expected / expected.max(), abs=1e-3)


def test_silence_and_what_is_behind_the_end_have_no_level(tmp_path):
    assert not any(values.any() for values in levels(tmp_path / "a.wav", RNG.normal(size=RATE) * 1e-5).values())
    found = levels(tmp_path / "b.wav", tone(60, 1.0))
    assert found["bass"][1:7].min() > 0.98 and found["loudness"][9:].max() == 0 and found["onset"][9:].max() < 0.01


def test_a_part_and_its_repetition_are_what_is_heard(tmp_path):
    samples = np.concatenate([tone(60, 1.0), np.zeros(RATE)])
    found = levels(tmp_path / "a.wav", samples, begin=0.5, loop=True, frames=24)
    loud = np.round(found["loudness"]).astype(int)
    assert loud.tolist() == [1] * 4 + [0] * 8 + [1] * 4 + [0] * 8


def test_attack_and_decay(tmp_path):
    heard = hearing.Hearing(write(tmp_path / "a.wav", clicks([0.5])), Fraction(10), 20)
    decayed = np.array(heard(Follow("onset", decay=0.2)))
    assert decayed[5:] == pytest.approx(np.exp(-np.arange(15) * 0.1 / 0.2), abs=1e-6) and decayed[:5].max() < 0.01
    step = hearing.Hearing(write(tmp_path / "b.wav", tone(1000)), Fraction(10), 20)
    assert step(Follow("loudness", attack=0.3)) == pytest.approx(1 - np.exp(-np.arange(1, 21) * 0.1 / 0.3), abs=0.01)


def test_a_plot(tmp_path):
    found = write(tmp_path / "a.wav", clicks([0.5, 1.5]))
    settings = sounds.heard(Settings(motion_scale="0: 1, 8: audio(onset)", motion_lora="zoom: audio(bass)"), found, 16)
    assert [name for name, _ in sounds.plots(settings)] == ["audio(onset)", "audio(bass)"]
    assert sounds.plots(settings)[0][1] == "▁▁▁▁█▁▁▁▁▁▁▁█▁▁▁"
    assert len(sounds.plot([0.5] * 1000)) == sounds.PLOTTED
