"""The moving live preview: its files, read by other decoders, and its changes to the host's state."""
from __future__ import annotations

import copy
import io
import logging
import pickle
import struct
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from animatediff.hosts.shared import preview as module
from animatediff.hosts.shared.preview import MovingPicture, moving_preview, pick, preview


def decode(latents: torch.Tensor, index: int) -> Image.Image:
    """Return a grey picture of eight times the size. Its brightness is the first number of that latent."""
    grey = int(latents[index, 0, 0, 0])
    return Image.new("RGB", (latents.shape[3] * 8, latents.shape[2] * 8), (grey, grey, grey))


def latents(frames: int, height: int = 4, width: int = 6, first: int = 0) -> torch.Tensor:
    """Return latents [f c h w]. Frame i is filled with 10·i + first."""
    return (torch.arange(frames, dtype=torch.float32) * 10 + first)[:, None, None, None].expand(-1, 4, height, width)


def durations(data: bytes) -> list[int]:
    """Return the milliseconds of each frame of an animated WebP (RFC 9649, 2.7.1.2: bytes 12 to 14 of an ANMF chunk).
    """
    assert data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    found, at = [], 12
    while at < len(data):
        kind, size = struct.unpack("<4sI", data[at:at + 8])
        if kind == b"ANMF":
            found.append(int.from_bytes(data[at + 8 + 12:at + 8 + 15], "little"))
        if kind == b"ANIM":
            assert struct.unpack("<H", data[at + 12:at + 14]) == (0,), "plays for ever"
        at += 8 + size + size % 2
    return found


def greys(data: bytes) -> list[int]:
    """Return the brightness in the middle of each frame, decoded by OpenCV."""
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2, "imdecodeanimation"):
        pytest.skip("this OpenCV cannot decode animations")
    good, animation = cv2.imdecodeanimation(np.frombuffer(data, np.uint8))
    assert good
    return [int(frame[frame.shape[0] // 2, frame.shape[1] // 2, 0]) for frame in animation.frames]


def written(picture: Image.Image, format: str = "png", **params) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=format, **params)
    return buffer.getvalue()


# ---- the picture ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format, params", [  # as modules/progress.py and modules/api/api.py call it
    ("png", {"optimize": True}), ("png", {"optimize": False, "compress_level": 1}), ("jpeg", {}), ("webp", {}),
    ("PNG", {"pnginfo": None, "quality": 80}), ("JPEG", {"exif": b"", "quality": 80}),
])
def test_every_format_is_the_animation(format, params):
    data = written(preview(latents(16), 8, decode), format, **params)
    assert durations(data) == [125] * 16
    np.testing.assert_allclose(greys(data), range(0, 160, 10), atol=3)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.n_frames, image.size) == ("WEBP", 16, (48, 32))


def test_it_is_its_first_frame_otherwise(tmp_path):
    picture = preview(latents(8, first=40), 8, decode)
    assert isinstance(picture, Image.Image) and picture.mode == "RGB" and picture.size == (48, 32)
    assert picture.getpixel((5, 5)) == (40, 40, 40) and np.asarray(picture).mean() == 40
    assert picture.info == {} and not isinstance(picture.resize((8, 8)), MovingPicture)
    for still in (copy.copy(picture), pickle.loads(pickle.dumps(picture)), picture.copy()):
        with Image.open(io.BytesIO(written(still))) as image:
            assert image.format == "PNG" and image.getpixel((5, 5)) == (40, 40, 40)
    picture.save(tmp_path / "preview.png")
    assert durations((tmp_path / "preview.png").read_bytes()) == [125] * 8


def test_without_webp_it_is_an_apng(monkeypatch):
    av = pytest.importorskip("av")
    real = Image.Image.save

    def save(self, fp, format=None, **params):
        if format == "WEBP":
            raise KeyError("WEBP")  # Pillow's error for a format that it was built without
        return real(self, fp, format, **params)

    monkeypatch.setattr(Image.Image, "save", save)
    data = written(preview(latents(6), 4, decode), "jpeg")
    with av.open(io.BytesIO(data), format="apng") as file:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")[10, 10, 0]) for frame in file.decode(video=0)]
    assert [grey for _, grey in frames] == [0, 10, 20, 30, 40, 50]
    assert [time for time, _ in frames] == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1.25])


@pytest.mark.parametrize("frames, fps, shown, first", [
    (16, 8, 16, [125] * 16), (2, 1, 2, [1000] * 2), (100, 8, 16, [750, 750, 750, 875]), (17, 8, 16, [125] * 15),
    (24, 30, 16, None), (33, 12.5, 16, None), (1000, 24, 16, None), (8, 200, 2, None), (4, 1000, 1, None),
])
def test_long_clips_lose_frames_not_seconds(frames, fps, shown, first):
    indices, times = pick(frames, fps)
    assert len(indices) == len(times) == shown <= 16
    assert sum(times) == pytest.approx(1000 * frames / fps, abs=1)
    assert min(times) >= 20 or shown == 1
    starts = np.cumsum([0, *times[:-1]]) / 1000  # the time at which each frame appears
    np.testing.assert_allclose(starts, np.array(indices) / fps, atol=0.001)
    gaps = np.diff([*indices, frames])
    assert indices[0] == 0 and gaps.max() - gaps.min() <= 1
    if first:
        assert times[:len(first)] == first


def test_a_long_clip_as_written():
    data = written(preview(latents(20), 10, decode, most=4))
    assert durations(data) == [500] * 4
    np.testing.assert_allclose(greys(data), [0, 50, 100, 150], atol=3)


@pytest.mark.parametrize("height, width, size", [(64, 64, (256, 256)), (64, 96, (256, 171)), (96, 64, (171, 256)),
                                                 (32, 32, (256, 256)), (8, 8, (64, 64)), (2, 400, (256, 1))])
def test_no_larger_than_it_must_be(height, width, size):
    assert preview(latents(2, height, width), 8, decode).size == size


@pytest.mark.parametrize("nothing", [None, torch.zeros(1, 4, 8, 8), torch.zeros(4, 8, 8), torch.zeros(0, 4, 8, 8)])
def test_what_is_no_clip_has_no_moving_preview(nothing):
    assert preview(nothing, 8, decode) is None


def test_pictures_of_other_modes():
    picture = preview(latents(3), 8, lambda *which: decode(*which).convert("P"))
    assert picture.mode == "RGB" and len(durations(written(picture))) == 3


def test_gradients_are_off_in_the_decoder():
    seen = []
    preview(latents(2), 8, lambda *which: seen.append(torch.is_grad_enabled()) or decode(*which))
    assert seen == [False, False]


# ---- the host's state -----------------------------------------------------------------------------------------------


class State:
    """The relevant part of modules/shared_state.py: class attributes, methods, and exceptions that are swallowed."""

    current_latent = None
    current_image = None
    current_image_sampling_step = 0
    sampling_step = 0
    id_live_preview = 0
    every = 1

    def __init__(self):
        self.host_previews = 0
        self.host_fails = False

    def set_current_image(self):
        if self.sampling_step - self.current_image_sampling_step >= self.every:
            self.do_set_current_image()

    def do_set_current_image(self):
        if self.current_latent is None:
            return
        try:
            if self.host_fails:
                raise RuntimeError("no VAE")
            self.host_previews += 1
            self.assign_current_image(Image.new("RGB", (8, 8)))
            self.current_image_sampling_step = self.sampling_step
        except RuntimeError:
            pass

    def assign_current_image(self, image):
        self.current_image = image
        self.id_live_preview += 1

    def step(self, number: int, latent: torch.Tensor) -> None:
        self.sampling_step, self.current_latent = number, latent


class Counter:
    def __init__(self):
        self.frames = 0

    def __call__(self, latents: torch.Tensor, index: int) -> Image.Image:
        self.frames += 1
        return decode(latents, index)


def test_preview_follows_the_steps_and_decodes_each_once():
    state, count = State(), Counter()
    with moving_preview(state, count, 8):
        state.set_current_image()
        assert state.current_image is None and count.frames == 0  # nothing yet
        for number in (1, 2, 3):
            state.step(number, latents(8, first=number * 20))
            for _ in range(3):
                state.set_current_image()
                state.do_set_current_image()  # requested without a new step
            assert (state.id_live_preview, count.frames) == (number, 8 * number)
            assert state.current_image_sampling_step == number
            assert isinstance(state.current_image, MovingPicture)
            assert greys(written(state.current_image))[0] == pytest.approx(number * 20, abs=3)
        state.step(3, latents(8, first=100))  # second-order samplers: new latents within a step
        state.do_set_current_image()
        assert count.frames == 32
        state.step(4, state.current_latent)  # the same tensor may have changed in place
        state.do_set_current_image()
        assert count.frames == 40
        state.sampling_step = 4.5  # the next window of the same step
        state.do_set_current_image()
        assert count.frames == 40
    assert state.host_previews == 0


def test_nothing_is_left_on_the_state():
    state = State()
    before = dict(vars(state))
    with moving_preview(state, decode, 8, direct=True):
        assert set(vars(state)) - set(before) == {"do_set_current_image", "assign_current_image"}
    assert vars(state) == before and list(vars(state)) == list(before)
    with pytest.raises(ZeroDivisionError), moving_preview(state, decode, 8):
        raise ZeroDivisionError
    assert vars(state) == before
    state.step(1, latents(4))
    state.set_current_image()
    assert state.host_previews == 1 and not isinstance(state.current_image, MovingPicture)


def test_a_patch_that_was_there_is_there_again():
    state, calls = State(), []
    patch = state.do_set_current_image = lambda: calls.append("patch")
    with moving_preview(state, decode, 8):
        with moving_preview(state, decode, 4):
            state.step(1, latents(4))
            state.do_set_current_image()
            assert durations(written(state.current_image)) == [250] * 4
        state.step(2, latents(4))
        state.do_set_current_image()
        assert durations(written(state.current_image)) == [125] * 4
        state.step(3, latents(1))
        state.do_set_current_image()
        assert calls == ["patch"]  # other pictures go to the previous function
    assert vars(state)["do_set_current_image"] is patch


def test_a_wrapper_put_on_meanwhile_stays_and_reaches_the_host():
    state, calls = State(), []
    with moving_preview(state, decode, 8):
        inner = state.do_set_current_image

        def wrapper():
            calls.append("wrapper")
            inner()

        state.do_set_current_image = wrapper
    state.step(1, latents(4))
    state.do_set_current_image()
    assert vars(state)["do_set_current_image"] is wrapper
    assert calls == ["wrapper"] and state.host_previews == 1


@pytest.mark.parametrize("broken", ["decode", "encode", "fps"])
def test_on_any_error_the_host_shows_its_own(broken, caplog, monkeypatch):
    state, fps, tries = State(), 8, []

    def decoder(latents, index):
        tries.append(1)
        if broken == "decode":
            raise RuntimeError("VAE is on another device")
        return decode(latents, index)

    if broken == "encode":
        monkeypatch.setattr(MovingPicture, "_encode", lambda *_, **__: 1 / 0)
    if broken == "fps":
        fps = 0
    with caplog.at_level(logging.WARNING, module.__name__), moving_preview(state, decoder, fps):
        for number in (1, 2):
            state.step(number, latents(4))
            state.set_current_image()
            state.set_current_image()
            assert (state.host_previews, state.id_live_preview) == (number, number)
        assert len(caplog.records) == 1 and "moving preview" in caplog.text  # logged once, not at each step
        state.host_fails, before = True, len(tries)
        state.step(3, latents(4))
        for _ in range(3):
            state.set_current_image()
        assert len(tries) - before <= 4, "decoded once, although the host fails too and will be asked again"


def test_a_host_without_these_methods_is_left_alone():
    class Bare:
        current_latent = None

    state = Bare()
    with moving_preview(state, decode, 8, direct=True):
        assert vars(state) == {}


def test_a_single_picture_is_the_hosts():
    state = State()
    with moving_preview(state, decode, 8):
        state.step(1, latents(1))
        state.set_current_image()
    assert state.host_previews == 1 and state.current_image.size == (8, 8)


def test_direct_mode_moves_what_the_sampler_hands_over():
    """Without parallel processing, the sampler calls assign_current_image with a still, in its own thread."""
    state, count = State(), Counter()
    with moving_preview(state, count, 8, direct=True):
        state.step(1, latents(4))
        state.assign_current_image(Image.new("RGB", (8, 8)))
        assert isinstance(state.current_image, MovingPicture) and (state.id_live_preview, count.frames) == (1, 4)
        state.step(2, latents(1))
        still = Image.new("RGB", (8, 8))
        state.assign_current_image(still)
        assert state.current_image is still and state.id_live_preview == 2
        state.do_set_current_image()
        assert state.host_previews == 1 and state.current_image.size == (8, 8)


# ---- threads --------------------------------------------------------------------------------------------------------


def test_many_ask_at_once_one_decodes():
    state, count = State(), Counter()
    gate = threading.Barrier(8)

    def ask():
        gate.wait()
        state.do_set_current_image()
        images.append(written(state.current_image))

    images: list[bytes] = []
    with moving_preview(state, count, 8):
        state.step(1, latents(8))
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert (count.frames, state.id_live_preview, len(set(images)), len(images)) == (8, 1, 1, 8)


def test_the_end_stops_a_preview_that_is_being_made():
    """After the scope, no frame is decoded and nothing of ours is assigned, since the job continues with other work."""
    state, entered, proceed = State(), threading.Event(), threading.Event()
    frames = []

    def slow(latents, index):
        frames.append(1)
        entered.set()
        assert proceed.wait(20)
        return decode(latents, index)

    with moving_preview(state, slow, 8):
        state.step(1, latents(8))
        thread = threading.Thread(target=state.do_set_current_image)
        thread.start()
        assert entered.wait(20)
        threading.Timer(0.2, proceed.set).start()
    assert proceed.is_set(), "the end waits for the frame at work"
    thread.join(20)
    assert len(frames) == 1 and not isinstance(state.current_image, MovingPicture) and state.host_previews == 1
