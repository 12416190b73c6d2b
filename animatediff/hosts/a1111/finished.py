"""Operations on a finished clip: the buttons under the gallery, and POST /animatediff/v1/NAME.

To add an operation, add an entry to OPERATIONS with a function that plans it for a `Source`.
"""
from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from modules import devices, images, shared

from animatediff import settings as table
from animatediff import user_paths
from animatediff.clip import interpolation, job, retime
from animatediff.clip.finished import Finished
from animatediff.clip.preflight import Preflight
from animatediff.errors import MediaError, SettingsError, end_of
from animatediff.hosts.a1111 import library, options, refine, results, server_files
from animatediff.hosts.a1111.refine import Refined
from animatediff.media import opening, read
from animatediff.media.write import Target
from animatediff.parameters import Parameter
from animatediff.settings import Settings

FILE = "file"  # the name of the clip in a request
REMEDY = "Send a clip's path in an allowed folder, or the clip in base64"
_NUMBER = re.compile(r"\d+-?")


@dataclass(frozen=True)
class Source:
    """A clip to work on."""

    path: Path  # the clip's file, or a folder of frames
    text: str = ""  # its infotext, used if the file has none
    name: str = ""  # the name for the results
    samples: str = ""  # the host's folder for such pictures; the results are written below it

    def read(self, fps: float | None = None) -> Finished:
        """Return the clip. MediaError if there is none."""
        try:
            clip = _clip(self.path, fps)
            clip = clip if clip.settings or not self.text else replace(clip, text=self.text)
            if fps is None and self.path.is_dir() and clip.settings and clip.settings.fps:  # pictures have no times
                clip = replace(_clip(self.path, float(interpolation.played_fps(clip.settings))), text=clip.text)
        except MediaError as error:
            raise MediaError(error.what, where=self.path.name, remedy=error.remedy) from error
        if len(clip.seconds) < 2:
            raise MediaError("is one picture, not a clip", where=end_of(self.path.name),
                             remedy="Choose a GIF, WebP, APNG or video, or a folder of frames")
        return clip

    def place(self, what: str, taken: int) -> Target:
        """Return the folder AnimateDiff/DATE and a file name of the next free number, the source's name and `what`."""
        folder = results.folder(self.samples)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            number = images.get_next_sequence_number(str(folder), "") + taken
        except OSError as error:
            raise MediaError(f"the clip was not written ({error})", where=str(folder)) from error
        own = _NUMBER.sub("", self.name, count=1)[:100]
        return Target(f"{folder}/", "-".join(filter(None, (f"{number:05}", own, what))), new=True)


def _clip(path: Path, fps: float | None) -> Finished:
    """Return the clip. A file is read again only if it has changed, since the page's lines need it often."""
    if not path.is_file():
        return Finished.read(path, fps)
    state = path.stat()
    return _read(path, fps, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _read(path: Path, fps: float | None, *state: int) -> Finished:
    return Finished.read(path, fps)


class Planned(Protocol):
    """An operation on a clip, checked and not yet run. As text, it is a line on what it does."""

    def preflight(self) -> Preflight:
        """Return the number of frames and of UNet calls, and what is wrong."""
        ...

    def run(self) -> Refined: ...


@dataclass(frozen=True)
class Operation:
    """An operation on a finished clip."""

    symbol: str  # of its button
    help: str  # the button's tooltip
    schema: Callable[[], dict[str, Any]]  # properties of a request, by name
    rows: tuple[str, ...]  # parameters whose controls the button reads
    of_page: Callable[[Settings], dict[str, Any]]  # the values of a request, from those controls
    plan: Callable[[Source, Mapping[str, Any]], Planned]  # AnimateDiffError for an unusable clip or request
    meant: Mapping[str, str]  # name in a request -> the parameter that it stands for, for error messages
    own: Callable[[], tuple[Parameter, ...]] = tuple  # parameters that have controls of their own on the page

    def values(self, controls: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a request from those of the page's controls, by name. SettingsError for a wrong one."""
        settings = table.parse({row: controls[row] for row in self.rows})
        own = {name: value for name, value in controls.items() if name not in self.rows}
        return self.of_page(settings) | own


@dataclass(frozen=True)
class Interpolating:
    """A clip at another frame rate."""

    source: Source
    request: retime.Request
    clip: Finished
    retimed: retime.Retimed  # of the clip, or of its PNG frames

    @classmethod
    def plan(cls, source: Source, values: Mapping[str, Any]) -> Interpolating:
        request = retime.Request.read(values)
        clip = source.read(request.from_fps)
        return cls(source, request, clip, retime.Retimed.of(request, without_loss(clip), library.find_network))

    def __str__(self) -> str:
        return f"{self.clip.path.name}: {self.retimed}"

    def preflight(self) -> Preflight:
        count = self.retimed.count
        return Preflight(count, count, count / float(self.retimed.plays), calls=0,
                         notices=self.retimed.interpolation.notes)

    def run(self) -> Refined:
        retimed, clip = self.retimed, self.clip
        stream = retimed.stream(devices.device)
        sound, notes = retimed.sound(clip.sound)

        def frames() -> Iterator[np.ndarray]:
            for done, frame in enumerate(retimed.frames(stream), 1):
                yield frame
                if progress(done, retimed.count, f"AnimateDiff: frame {done} of {retimed.count}"):
                    notes.append(f"interrupted after {done} of {retimed.count} frames")
                    return

        written, first = results.write(frames(), job.Clip(
            retimed.count, self.request.format or (clip.format,), float(retimed.plays), lambda known: retimed.text,
            lambda taken: self.source.place("interpolated", taken), clip.loop_number, options=options.write_options(),
            sound=sound))
        return Refined.of(written, first, float(retimed.plays), [*notes, *stream.notes, *written.notes])


@dataclass(frozen=True)
class Refining:
    """A clip, enlarged and sampled again."""

    source: Source
    refinement: refine.Refinement

    @classmethod
    def plan(cls, source: Source, values: Mapping[str, Any]) -> Refining:
        clip = source.read()
        formats = {"formats": [clip.format]}  # the file's format, even if the frames are read from a folder
        if not {"formats", *table.BY_NAME["formats"].aliases} & values.keys():
            values = formats | dict(values)
        return cls(source, refine.Refinement.of(clip if clip.sound else without_loss(clip), values))

    def __str__(self) -> str:
        return str(self.refinement)

    def preflight(self) -> Preflight:
        return self.refinement.preflight()

    def run(self) -> Refined:
        return self.refinement.run(self.source.samples, lambda taken: self.source.place("refined", taken), progress)


def without_loss(clip: Finished) -> Finished:
    """Return the clip with the lossless pixels of its PNG frames, if all of them are in the folder beside its file."""
    stills = clip.path.with_suffix("")
    if stills != clip.path and stills.is_dir() and len(list(stills.glob("[0-9]*.png"))) == len(clip.seconds):
        return replace(clip, path=stills)
    return clip


OPERATIONS: dict[str, Operation] = {
    "interpolate": Operation(
        "\N{FILM FRAMES}\N{VARIATION SELECTOR-16}", "Interpolate the selected clip: more frames per second, by Frame "
        "interpolation and Interpolation factor under More AnimateDiff settings",
        retime.schema, ("interp", "interp_x", "interp_model"),
        lambda s: {"method": retime.AUTO if s.interp == interpolation.OFF else s.interp, "times": s.interp_x,
                   "model": s.interp_model},
        Interpolating.plan, retime.ROWS),
    "refine": Operation(
        "\N{LEFT-POINTING MAGNIFYING GLASS}", "Refine the selected clip: enlarge it and sample it again, by the "
        "settings under Refine",
        refine.schema, (), lambda s: {}, Refining.plan, {}, refine.rows),
}


def progress(done: int, total: int, text: str) -> bool:
    """Show the progress of a job of the host. Return whether the user has interrupted it."""
    state = shared.state
    state.job_count, state.job_no = 1, 0
    state.sampling_steps, state.sampling_step, state.textinfo = total, done, text
    return bool(state.interrupted or state.skipped or getattr(state, "stopping_generation", False))


def description(planned: Planned) -> dict[str, Any]:
    """Return what an operation will do, as the route /animatediff/v1/preflight does for a request."""
    found = planned.preflight()
    return found.to_dict() | {"lines": [str(planned), *found.lines]}


def of_gallery(path: Path, text: str, samples: str) -> Source:
    """Return the source of an item in the gallery: a clip's file, or the folder that holds a clip's frame."""
    if path.suffix.lower() == ".png" and path.stem.isdigit() and len(list(path.parent.glob("[0-9]*.png"))) > 1:
        return Source(path.parent, text, path.parent.name, samples)
    return Source(path, text, path.stem, samples)


@contextmanager
def of_request(value: Any) -> Iterator[Source]:
    """Yield the clip that a request names or contains. SettingsError or MediaError if there is none."""
    if not isinstance(value, str) or not value:
        raise SettingsError("is missing" if value in (None, "") else "is not text", where=FILE, remedy=REMEDY)
    samples = shared.opts.outdir_samples or shared.opts.outdir_txt2img_samples
    if data := read.embedded(value, FILE, REMEDY):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"clip.{opening.ending(data)}"
            file.write_bytes(data)
            yield Source(file, "", file.stem, samples)
        return
    path = server_files.find(value, FILE, REMEDY)
    if not user_paths.there(path):
        raise MediaError("there is no such file", where=FILE, remedy=REMEDY)
    if path.is_dir():
        try:
            files = read.in_folder(path)
        except MediaError as error:
            raise MediaError(error.what, where=path.name, remedy=error.remedy) from error
        if not all(map(server_files.allowed, files)):
            raise MediaError("this server does not read files there", where=FILE, remedy=REMEDY)
    yield Source(path, "", path.stem, samples)
