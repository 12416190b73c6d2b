"""What can be done with a finished clip: the buttons under the gallery, and POST /animatediff/v1/NAME.

A new operation is an entry in OPERATIONS, with a function that makes files of a `Source`.
"""
from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modules import devices, images, infotext_utils, shared
from PIL import Image

from animatediff import settings as table
from animatediff.clip import interpolation, job, retime
from animatediff.clip.finished import Finished
from animatediff.errors import AnimateDiffError, MediaError, SettingsError, end_of
from animatediff.hosts.a1111 import library, options, results, server_files
from animatediff.hosts.shared import infotext
from animatediff.media import metadata, opening, read
from animatediff.media.budget import TooMuchError
from animatediff.media.write import Target, format_of
from animatediff.settings import Settings

FILE = "file"  # the name of the clip in a request
REMEDY = "Send a clip's path in an allowed folder, or the clip in base64"
_NUMBER = re.compile(r"\d+-?")


@dataclass(frozen=True)
class Source:
    """A clip to work on. path: its file, or a folder of frames. text: its infotext. name: what its results are called
    after. samples: the host's folder of such pictures, below which they are written."""

    path: Path
    text: str = ""
    name: str = ""
    samples: str = ""

    @property
    def settings(self) -> Settings | None:
        """With which the extension has made it; None for other clips."""
        written = infotext_utils.parse_generation_parameters(self.text, []).get(infotext.KEY) if self.text else None
        try:
            return table.parse(infotext.loads(written)) if isinstance(written, str) else None
        except AnimateDiffError:
            return None

    @property
    def format(self) -> str:
        """The format of its file, as results are written in where no other is chosen."""
        if self.path.is_dir():
            return "PNG"
        found = format_of(self.path) or "MP4"
        return "APNG" if found == "PNG" else found  # one picture is no clip

    def read(self, fps: float | None = None) -> Finished:
        """Its times from the file that plays, its pixels from the PNG frames beside it, if they are all there."""
        settings = self.settings
        if fps is None and settings and settings.fps and self.path.is_dir():
            fps = float(interpolation.played_fps(settings))
        try:
            clip = Finished.read(self.path, fps)
        except MediaError as error:
            raise MediaError(error.what, where=self.path.name, remedy=error.remedy) from error
        if len(clip.seconds) < 2:
            raise MediaError("is one picture, not a clip", where=end_of(self.path.name),
                             remedy="Choose a GIF, WebP, APNG or video, or a folder of frames")
        stills = self.path.with_suffix("")
        if stills != self.path and stills.is_dir() and len(list(stills.glob("[0-9]*.png"))) == len(clip.seconds):
            clip = replace(clip, path=stills)
        return clip

    @property
    def closes(self) -> bool | None:
        """Whether its last frame leads to the first; None where its settings do not say."""
        settings = self.settings
        return None if settings is None else interpolation.closes(settings, settings.frame_count())


@dataclass(frozen=True)
class Made:
    """paths: the files that play, or all frames. first: the first frame. text: their infotext."""

    paths: list[Path]
    first: Image.Image
    frames: int
    fps: float
    text: str
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Operation:
    """symbol, help: of its button. schema: what a request may say, by name. rows: parameters whose controls the button
    reads. of_page: what they ask for, in a request's names. meant: parameters that names of a request stand for."""

    symbol: str
    help: str
    schema: Callable[[], dict[str, Any]]
    rows: tuple[str, ...]
    of_page: Callable[[Settings], dict[str, Any]]
    run: Callable[[Source, Mapping[str, Any]], Made]
    meant: Mapping[str, str]


def interpolate(source: Source, values: Mapping[str, Any]) -> Made:
    """The clip at another rate. AnimateDiffError says what is wrong with it or with the request."""
    request = retime.Request.read(values)
    if request.loop == retime.AUTO and source.closes is not None:
        request = replace(request, loop=retime.YES if source.closes else retime.NO)
    clip = source.read(request.from_fps)
    retimed = retime.Retimed.of(request, clip, library.find_rife)
    stream = retimed.interpolation.on(devices.device).stream()
    loops = settings.loop_number if (settings := source.settings) else 0
    track, notes = retimed.sound(source.path)
    files = job.Job()
    files.begin(job.Clip(retimed.count, request.format or (source.format,), float(retimed.plays),
                         lambda known: retimed.text, lambda taken: _place(source, "interpolated", taken), loops,
                         options=options.write_options(), sound=track))
    first: Image.Image | None = None
    try:
        for done, frame in enumerate(retimed.frames(stream), 1):
            first = first or Image.fromarray(frame)
            files.add(frame)
            if progress(done, retimed.count, f"AnimateDiff: frame {done} of {retimed.count}"):
                notes.append(f"interrupted after {done} of {retimed.count} frames")
                break
        written = files.finish()
    except BaseException as error:
        files.fail(error)
        raise
    assert written is not None and first is not None, "a clip has frames"
    return Made(results.clips(written) or written.paths, first, written.frames, float(retimed.plays), written.text,
                [*notes, *stream.notes, *written.notes])


OPERATIONS: dict[str, Operation] = {
    "interpolate": Operation(
        "\N{FILM FRAMES}\N{VARIATION SELECTOR-16}", "Interpolate the selected clip: more frames per second, by Frame "
        "interpolation and Interpolation factor under More AnimateDiff settings",
        retime.schema, ("interp", "interp_x", "interp_model"),
        lambda s: {"method": retime.AUTO if s.interp == interpolation.OFF else s.interp, "times": s.interp_x,
                   "model": s.interp_model},
        interpolate, retime.ROWS),
}


def progress(done: int, total: int, text: str) -> bool:
    """Show how far a job of the host is; true where the user has interrupted it."""
    state = shared.state
    state.job_count, state.job_no = 1, 0
    state.sampling_steps, state.sampling_step, state.textinfo = total, done, text
    return bool(state.interrupted or state.skipped or getattr(state, "stopping_generation", False))


def of_gallery(path: Path, text: str, samples: str) -> Source:
    """What the gallery shows: a clip's file, or a frame in the folder of a clip's frames."""
    if path.suffix.lower() == ".png" and path.stem.isdigit() and len(list(path.parent.glob("[0-9]*.png"))) > 1:
        return Source(path.parent, text, path.parent.name, samples)
    return Source(path, text, path.stem, samples)


@contextmanager
def of_request(value: Any) -> Iterator[Source]:
    """The clip that a request names or contains, for the length of the block. SettingsError or MediaError where there
    is none."""
    if not isinstance(value, str) or not value:
        raise SettingsError("is missing" if value in (None, "") else "is not text", where=FILE, remedy=REMEDY)
    samples = shared.opts.outdir_samples or shared.opts.outdir_txt2img_samples
    if data := _decoded(value):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"clip.{opening.ending(data)}"
            file.write_bytes(data)
            yield Source(file, _text(file), file.stem, samples)
        return
    path = server_files.find(value, FILE, REMEDY)
    if not path.exists():
        raise MediaError("there is no such file", where=FILE, remedy=REMEDY)
    if path.is_dir() and not all(map(server_files.allowed, read.in_folder(path))):
        raise MediaError("this server does not read files there", where=FILE, remedy=REMEDY)
    yield Source(path, _text(read.in_folder(path)[0] if path.is_dir() else path), path.stem, samples)


def _decoded(value: str) -> bytes | None:
    """None for a path."""
    try:
        data = opening.from_base64(value)
    except TooMuchError as error:
        raise MediaError(str(error), where=FILE, remedy="Make it smaller") from None
    if data and opening.kind(data[:opening.HEAD]):
        return data
    if value.startswith("data:"):
        raise SettingsError("is not a clip in base64", where=FILE, remedy=REMEDY)
    return None


def _text(path: Path) -> str:
    try:
        return metadata.read(path) or ""
    except AnimateDiffError:  # whatever is wrong with it is said when its frames are read
        return ""


def _place(source: Source, what: str, taken: int) -> Target:
    """AnimateDiff/DATE, and the next number there with the source's name."""
    folder = results.folder(source.samples)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        number = images.get_next_sequence_number(str(folder), "") + taken
    except OSError as error:
        raise MediaError(f"the clip was not written ({error})", where=str(folder)) from error
    own = _NUMBER.sub("", source.name, count=1)[:100]
    return Target(f"{folder}/", "-".join(filter(None, (f"{number:05}", own, what))), new=True)
