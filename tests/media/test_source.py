"""Source videos: frames and times of unusual files against PyAV used directly, selections against ffmpeg's filters."""
from __future__ import annotations

import gc
import os
import re
from fractions import Fraction

import numpy as np
import pytest
from odd_videos import FRAMES, MAKE, QUICK, Maker, number_of
from PIL import Image
from video_helpers import NEEDS_VIDEO

from animatediff.errors import AnimateDiffError, MediaError, SettingsError
from animatediff.media.budget import Budget
from animatediff.media.opening import HEAD, kind
from animatediff.media.selection import Selection, Timeline
from animatediff.media.source import Source
from animatediff.media.video_index import VideoIndex

pytestmark = NEEDS_VIDEO
DAMAGED = ("cut off",)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    program = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    return Maker(program, tmp_path_factory.mktemp("odd"))


def by_hand(path):
    """Return the times from the first frame, and the pictures, of the first video stream that is no cover."""
    import av

    with av.open(str(path)) as container:
        stream = next(s for s in container.streams.video if s.codec_context.name != "png")
        frames = list(container.decode(stream))
    return [(f.pts - frames[0].pts) * f.time_base for f in frames], frames


def read(source, selection=Selection()):
    return list(source.pictures(source.chosen(selection).indices))


def by_itself(name):
    return pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)


@pytest.mark.parametrize("name", [by_itself(name) for name in MAKE if name not in DAMAGED])
def test_frames_and_times_of_odd_videos(made, name):
    source = Source.open(made(name))
    times, frames = by_hand(made(name))
    assert list(source.timeline.times) == times and source.damaged is None
    pictures = read(source)
    numbers = [number_of(frame.to_ndarray(format="rgb24")) for frame in frames]
    if "alpha" in name:
        assert {picture.getpixel((5, 5)) for picture in pictures} == {(255, 255, 255)}
    else:
        assert list(map(number_of, pictures)) == numbers
    whole = source.timeline.seconds
    assert times[-1] < whole <= times[-1] + Fraction(1, 5)
    if len(times) > 1:
        start = float(whole * 2 / 3)
        later = read(source, Selection(start=start))
        kept = [number for time, number in zip(times, numbers) if time >= Fraction(str(start))]
        assert len(later) == len(kept) and ("alpha" in name or list(map(number_of, later)) == kept)


@pytest.mark.parametrize("name, numbers", [
    ("B-frames", range(FRAMES)), ("VFR", range(FRAMES)), ("cover art", range(FRAMES)),
    ("edit list", range(19, FRAMES))])
def test_which_frames_there_are(made, name, numbers):
    """Depends on how the file was made. A file cut at 0.61 s begins with the next frame, number 19 at 30 fps."""
    assert list(map(number_of, read(Source.open(made(name))))) == list(numbers)


def test_how_a_picture_is_shown(made):
    """Rotated by 90 degrees, with pixels twice as wide as high, and of an odd size."""
    sizes = {"rotated": (64, 96), "wide pixels": (192, 64), "odd size": (97, 63)}
    for name in sizes if "RUN_SLOW" in os.environ else ("rotated",):
        assert {picture.size for picture in read(Source.open(made(name)))} == {sizes[name]}, name


@pytest.mark.parametrize("name", [by_itself(name) for name in ("B-frames", "VFR", "29.97", "VP9", "late start", "TS")])
@pytest.mark.parametrize("fps", [Fraction(7), Fraction(24000, 1001), Fraction(50)])
def test_a_target_rate_chooses_what_ffmpegs_filter_does(made, name, fps):
    source = Source.open(made(name))
    chosen = source.chosen(Selection(fps=float(fps)))
    expected = made.numbers(made(name), f"setpts=PTS-STARTPTS,fps={fps.numerator}/{fps.denominator}")
    assert list(map(number_of, source.pictures(chosen.indices))) == expected


def test_a_range_with_a_target_rate_is_ffmpegs_trim(made):
    source = Source.open(made("VFR"))
    for start, end in ((0.5, 1.5), (1, 3.25), (0, 0.4)):
        found = [number_of(each) for each in read(source, Selection(start=start, end=end, fps=5))]
        assert found == made.numbers(made("VFR"), f"fps=1000,trim={start}:{end},setpts=PTS-STARTPTS,fps=5")


def test_every_nth_and_at_most(made):
    source = Source.open(made("B-frames"))
    chosen = source.chosen(Selection(start=0.5, every=4, most=5))
    assert [number_of(each) for each in source.pictures(chosen.indices)] == [15, 19, 23, 27, 31]
    assert chosen.fps == Fraction(30, 4) and chosen.description == "60 frames of 2 s → 5 at 7.5 fps"
    assert source.chosen(Selection(fps=10, every=2)).fps == 5
    halves = [source.chosen(Selection(start=a, end=b)).indices for a, b in ((0, 0.7), (0.7, 0))]
    assert halves[0] + halves[1] == tuple(range(FRAMES)) and len(halves[0]) == 21


def test_a_seek_decodes_from_the_key_frame_before(made):
    """Frame 50 is 2 frames after a key frame. The decoder may read a few more."""
    with open(made("B-frames"), "rb") as file:
        found = kind(file.read(HEAD))
        index = VideoIndex.of(file, found, Budget())
        assert [number_of(make()) for make in index.read(file, found, [50], Budget(frames=12))] == [50]
        assert [number_of(make()) for make in index.read(file, found, [1, 50], Budget(frames=20))] == [1, 50]
        assert [number_of(make()) for make in index.read(file, found, [9, 9, 14, 59], Budget())] == [9, 9, 14, 59]


def test_a_frame_is_freed_when_it_has_been_shown(made):
    """Without waiting for Python's cycle collector, which runs too rarely for frames of megabytes."""
    import av

    source = Source.open(made("rotated"))
    gc.collect()
    gc.disable()
    try:
        assert len(read(source)) == FRAMES
        assert sum(isinstance(each, av.VideoFrame) for each in gc.get_objects()) <= 2
    finally:
        gc.enable()


def test_what_is_cut_off_is_said(made):
    source = Source.open(made("cut off"))
    with pytest.raises(MediaError, match=r"is incomplete or damaged: \d+ of its frames can be read, [01]\.\d+ s"):
        source.chosen(Selection())
    assert [number_of(each) for each in read(source, Selection(end=0.5))] == list(range(15))
    if "RUN_SLOW" in os.environ:
        assert "says that it lasts 2 s, but its frames end after" in Source.open(made("cut WebM")).notices[0]


@pytest.mark.parametrize("selection, where, said", [
    (Selection(start=2), "video_start", "2 s is not before the source's end: it has 2 s. Use less than 2"),
    (Selection(end=2.5), "video_end", "2.5 s is behind the source's end: it has 2 s. Use at most 2, or 0"),
    (Selection(start=1, end=0.5), "video_end", "0.5 s is not after video_start, 1 s"),
    (Selection(start=0.51, end=0.52), "video_end", "no frame begins between 0.51 s and 0.52 s"),
    (Selection(fps=1000), "", "")])
def test_ranges_outside_of_the_source(made, selection, where, said):
    source = Source.open(made("B-frames"))
    if not said:
        assert len(source.chosen(selection).indices) == 2000
        return
    with pytest.raises(SettingsError, match=re.escape(said)) as caught:
        source.chosen(selection)
    assert caught.value.where == where


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_animated_pictures_with_unequal_delays(tmp_path, ending):
    delays = [40, 200, 80, 120]
    frames = [Image.new("RGB", (32, 24), (60 * i, 0, 255 - 60 * i)) for i in range(4)]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:], duration=delays,
                   **({"lossless": True} if ending == "webp" else {}))
    source = Source.open(tmp_path / f"a.{ending}")
    assert [float(time) for time in source.timeline.times] == pytest.approx([0, 0.04, 0.24, 0.32])
    assert source.timeline.seconds == Fraction(440, 1000) and source.timeline.steady is None
    chosen = source.chosen(Selection(fps=25))
    assert chosen.indices == (0, 1, 1, 1, 1, 1, 2, 2, 3, 3, 3)
    assert [picture.getpixel((0, 0))[0] for picture in source.pictures((1, 3))] == [60, 180]


def test_a_rate_of_more_frames_than_a_clip_has():
    """Two frames a month apart, as in files with damaged times."""
    timeline = Timeline((Fraction(0), Fraction(2_600_000)), Fraction(2_600_001))
    with pytest.raises(SettingsError, match="at most 100,000 frames, and 2600001 s of the source have more at 1000"):
        Selection(fps=1000).of(timeline)
    assert Selection(fps=1000, most=3).of(timeline).indices == (0, 0, 0)
    assert Selection(end=3).of(timeline).indices == (0,)


def test_a_part_has_the_pace_of_its_own_frames(made):
    """20 frames at 30 fps, then 40 at 10 fps. The file gives the last one 1/30 s."""
    timeline = Source.open(made("VFR")).timeline
    assert timeline.steady is None and float(Selection().of(timeline).fps) == pytest.approx(60 / 4.6, rel=1e-3)
    assert Selection(end=0.6).of(timeline).fps == 30 and Selection(start=0.7, end=2.7, every=2).of(timeline).fps == 5


def test_a_folder_has_no_times(tmp_path):
    for number in (10, 9, 1):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    source = Source.open(tmp_path)
    chosen = source.chosen(Selection(every=2))
    assert [picture.getpixel((0, 0))[0] for picture in source.pictures(chosen.indices)] == [1, 10]
    assert chosen.fps is None and chosen.description == "3 pictures → 2"
    for more in ({"start": 1}, {"end": 1}, {"fps": 4}):
        with pytest.raises(SettingsError, match="pictures without times"):
            source.chosen(Selection(**more))


@pytest.mark.slow
def test_mutated_videos_are_read_or_refused(made):
    """Bytes are changed, removed or added: 300 files, or 5,000 with RUN_FUZZ."""
    random = np.random.default_rng(0)
    for number in range(5000 if "RUN_FUZZ" in os.environ else 300):
        original = made(("B-frames", "VP9", "TS", "AVI", "edit list", "piped")[number % 6])
        data = bytearray(original.read_bytes())
        for _ in range(random.integers(1, 20)):
            at = int(random.integers(len(data)))
            data[at:at + int(random.integers(1, 9))] = random.bytes(int(random.integers(0, 9)))
        path = made.folder / f"mutated{original.suffix}"
        path.write_bytes(data)
        try:
            assert len(read(Source.open(path), Selection(fps=5, most=20))) <= 20
        except AnimateDiffError as error:
            assert str(path.name) in str(error) or error.where.startswith("video_")
