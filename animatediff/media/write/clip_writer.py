"""Write a clip's frames to files of several formats at once.

    with ClipWriter("out/demo.gif", ["GIF", "MP4", "PNG"], fps=8, metadata=settings_json) as clip:
        for frame in frames:
            clip.add(frame)
    print(clip.paths)

The target `out/demo.gif` with these formats makes out/demo.gif, out/demo.mp4 and out/demo/00000.png … A target whose
ending is no format is a folder: `out` makes out/clip.gif and so on.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from animatediff import disk
from animatediff.errors import MediaError, quoted
from animatediff.media import metadata as texts
from animatediff.media.pyav import library
from animatediff.media.sound import Sound
from animatediff.media.timing import GIF_SHORTEST, rate
from animatediff.media.write.base import CORES, Clip, WriteError, WriteOptions, Writer, fitted, reason, remedy
from animatediff.media.write.interrupts import uninterrupted
from animatediff.media.write.places import Target, check_place, reserve, target_of
from animatediff.media.write.registry import WRITERS, names, probe, without_alpha, without_depth, without_sound
from animatediff.media.write.stills import PngFrames

LOOP_MAXIMUM = 65535  # limit of GIF and WebP


class ClipWriter:
    """Context manager that writes a clip's frames to all requested formats. See the module's docstring for file names.

    fps: frames per second, may be fractional.
    loop_number: how many times the clip plays, 0 for endlessly. Formats without a loop ignore it.
    metadata: text that is stored in every file.
    sound: sound for the formats that can contain it, cut to the clip's length. A note names the other formats.

    `add` takes a PIL image, or uint8 or uint16 [h w 3 or 4]. Formats without transparency get white, and formats with
    8 bits get 8 bits; a note names them.

    Frames are prepared in CORES threads and written in one thread per format, while the caller makes the next frames.
    Up to CORES frames are held, and an error may be reported this many frames later.

    If one format fails, the others continue, and `close` raises WriteError, which names lost and kept files. If an
    exception such as KeyboardInterrupt leaves the `with` block, the files are finished with the frames so far, and the
    exception is raised; `notes` names the files that could not be finished. After closing, `paths` has the files.

    A file gets its name when all of its content is on disk, and the name is on disk when `close` returns. Until then
    no other run can write files of this name. Raises NameTakenError if another run does, or if the target must be new
    and exists.
    """

    def __init__(self, target: str | Path | Target, formats: str | Iterable[str], fps: float | Fraction = 8,
                 loop_number: int = 0, metadata: str = "", *, options: WriteOptions | None = None,
                 sound: Sound | None = None):
        self.formats = names(formats)
        if not (isinstance(loop_number, int) and 0 <= loop_number <= LOOP_MAXIMUM):
            raise MediaError(f"{quoted(loop_number)} is not a possible number of plays", where="loop_number",
                             remedy=f"Give 0 (for ever) to {LOOP_MAXIMUM}")
        self.clip = Clip(rate(fps), loop_number, texts.check(metadata), options or WriteOptions(), sound)
        probe(self.formats, self.clip.options, sound=sound is not None)
        if "GIF" in self.formats and self.clip.options.gif_palette == "ffmpeg":
            library()  # has the palette filters; raises the error now if it is missing
        target = target_of(target)
        self.stem = target.stem
        self.paths: list[Path] = []
        self.notes: list[str] = []
        self.lost: dict[str, str] = {}
        self.count = 0
        self._first: tuple[tuple[int, ...], Any] | None = None  # shape and dtype of the first frame
        self._before: np.ndarray | None = None
        self._makers = ThreadPoolExecutor(CORES, "clip frame")
        self._pending: deque[dict[str, Future[None]]] = deque()  # for each unfinished frame, a future for each format
        self._closed, self._unconfirmed = False, ""
        self._errors: list[BaseException] = []
        self._kept: dict[str, list[Path]] = {}
        check_place(self.stem, self.formats, make=True)
        self._lock = reserve(target, self.formats)
        order = sorted(self.formats, key=lambda f: f not in ("PNG", "TXT"))  # complete files first
        self._writers = {f: WRITERS[f](WRITERS[f].place(self.stem), self.clip) for f in order}
        self._lanes = {name: _Lane(name) for name in order}
        said = without_sound(self.formats) if sound else "", without_depth(self.formats, self.clip.options)
        self.notes += filter(None, said)
        if "GIF" in self.formats and self.clip.fps * GIF_SHORTEST > 100:
            self.notes.append(f"The GIF plays at 50 frames per second, not {float(self.clip.fps):g}: "
                              "viewers ignore shorter delays")

    def __enter__(self) -> ClipWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if error is None:
            self.close()
            return
        if self._closed:
            return
        with uninterrupted(leaving=True):
            self._finish()
        self.notes += [f"{name} was not written: {why}" for name, why in self.lost.items()]
        self.notes += filter(None, [self._unconfirmed])

    def add(self, frame: Image.Image | np.ndarray) -> None:
        """Add the next frame to every format.

        Raises MediaError for an invalid frame, and WriteError if all formats have failed.
        """
        if self._closed:
            raise MediaError("the clip is closed already", where=str(self.stem), remedy="Open a new ClipWriter")
        pixels = self._checked(frame)
        if self.count == 0 and pixels.shape[2] == 4:
            self.notes += filter(None, [without_alpha(self.formats, self.clip.options)])
        self._settle(CORES - 1)
        if not self._writers:
            self._closed = True
            self._shut_down()
            self._release()
            raise self._error()
        with uninterrupted():  # all formats get the frame, or none
            self._pending.append({name: self._hand_over(name, pixels) for name in self._writers})
            self._before = pixels
            self.count += 1

    def _hand_over(self, name: str, pixels: np.ndarray) -> Future[None]:
        writer = self._writers[name]
        return self._lanes[name].put(writer, self._makers.submit(_ready, writer, self._before, pixels))

    def _settle(self, under_way: int = 0) -> None:
        """Wait until all frames except the last `under_way` ones are completely written in every file."""
        while len(self._pending) > under_way:
            written = self._pending[0]
            wait(written.values())
            errors = {name: error for name, future in written.items() if (error := future.exception())}
            for name in errors:
                wait(later[name] for later in self._pending)
            self._pending.popleft()
            for name, error in errors.items():
                for later in self._pending:
                    del later[name]
                if isinstance(error, Exception):
                    self._lose(name, self._writers[name], error)
            for error in errors.values():
                if not isinstance(error, Exception):
                    raise error

    def _shut_down(self, *, at_once: bool = False) -> None:
        for threads in (self._makers, *(lane.thread for lane in self._lanes.values())):
            threads.shutdown(cancel_futures=at_once)

    def describe(self, metadata: str) -> None:
        """Replace the settings text, for facts that are known only after the last frame.

        Only formats that write the text last contain the new one: GIF with one palette, WebP, TXT.
        """
        self._settle()
        self.clip = replace(self.clip, metadata=texts.check(metadata))
        for writer in self._writers.values():
            writer.clip = self.clip

    def close(self) -> list[Path]:
        """Finish all files and return their paths, in the order of the formats. Raises WriteError if any is lost."""
        if self._closed:
            return self.paths
        with uninterrupted():
            self._finish()
        if self.lost or self._unconfirmed:
            raise self._error()
        if self.count == 0:
            raise MediaError("there are no frames to write", where=str(self.stem), remedy="Add at least one frame")
        return self.paths

    def _finish(self) -> None:
        self._closed = True
        try:
            self._settle()
            self._shut_down()
            for name, writer in list(self._writers.items()):
                try:
                    self._kept[name] = writer.finish() if self.count else writer.abort()
                except Exception as error:
                    self._lose(name, writer, error)
                self.notes += [note for note in writer.notes if note not in self.notes]
                if isinstance(writer, PngFrames) and (older := writer.older()):
                    self.notes.append(f"{writer.path} holds {len(older)} older frames, from {older[0].name} on")
        except BaseException:  # a second Ctrl-C: end at once, without half-written files
            self._shut_down(at_once=True)
            for name, writer in self._writers.items():
                if name not in self._kept:
                    self._kept[name] = writer.abort()
            raise
        finally:
            self._writers.clear()
            self._release()

    def _release(self) -> None:
        """Sync the folders of the files to disk, and release the lock on the name."""
        self.paths = self._in_order()
        try:
            for folder in dict.fromkeys(path.parent for path in self.paths):
                disk.sync_folder(folder)
        except OSError as error:
            self._errors.append(error)
            self._unconfirmed = f"the disk could not confirm that the file names are stored ({reason(error)})"
        self._lock.release()

    def _in_order(self) -> list[Path]:
        return [path for name in self.formats for path in self._kept.get(name, ())]

    def _lose(self, name: str, writer: Writer, error: Exception) -> None:
        self._writers.pop(name, None)
        self._kept[name] = list(writer.abort())
        self._errors.append(error)
        self.lost[name] = reason(error)

    def _error(self) -> WriteError:
        lost = ", ".join(f"{name} ({why})" for name, why in self.lost.items())
        files = [str(path) for path in self.paths]
        if len(files) > 6:
            files = [*files[:3], f"… {len(files) - 4} more …", files[-1]]
        advice = next(filter(None, map(remedy, self._errors)), "")
        what = [f"not written: {lost}"] if lost else []
        what += filter(None, [self._unconfirmed])
        error = WriteError(f"{'; '.join(what)}; kept: {', '.join(files) or 'nothing'}", where=str(self.stem),
                           remedy=advice, lost=dict(self.lost), kept=list(self.paths))
        error.__cause__ = self._errors[0]
        return error

    def _checked(self, frame: Image.Image | np.ndarray) -> np.ndarray:
        """Return a copy of the frame as uint8 or uint16 [h w c]. Raises MediaError if it does not fit the clip."""
        where = f"frame {self.count}"
        if isinstance(frame, Image.Image):
            frame = np.asarray(frame.convert("RGBA" if frame.mode == "RGBA" else "RGB"))
        if not (isinstance(frame, np.ndarray) and frame.dtype in (np.uint8, np.uint16) and frame.ndim == 3
                and frame.shape[2] in (3, 4) and frame.size):
            what = f"{frame.dtype} {list(frame.shape)}" if isinstance(frame, np.ndarray) else type(frame).__name__
            raise MediaError(f"{what} is no picture", where=where,
                             remedy="Give a PIL image, or uint8 or uint16 [h w 3 or 4]")
        height, width, channels = frame.shape
        first = self._first or (frame.shape, frame.dtype)
        if (height, width) != first[0][:2]:
            raise MediaError(f"is {width}×{height}, but the clip is {first[0][1]}×{first[0][0]}", where=where,
                             remedy="All frames of a clip have one size")
        if (channels, frame.dtype) != (first[0][2], first[1]):
            raise MediaError(f"has {channels} channels of {frame.dtype}, but the clip has {first[0][2]} of {first[1]}",
                             where=where, remedy="All frames of a clip are of one kind")
        self._first = first
        return frame.copy()  # writers compare with the previous frame, and a caller may reuse its buffer


def _ready(writer: Writer, before: np.ndarray | None, frame: np.ndarray) -> Any:
    """Convert a frame to the writer's bit depth and channels, and prepare it."""
    def taken(pixels: np.ndarray) -> np.ndarray:
        return fitted(pixels, writer.bits, alpha=writer.has_alpha, on_white=writer.clip.options.on_white)

    return writer.ready(None if before is None else taken(before), taken(frame))


class _Lane:
    """The thread of a format, which writes frames in order. After an error it writes no more frames."""

    def __init__(self, name: str):
        self.thread = ThreadPoolExecutor(1, f"clip writer {name}")
        self._stopped = False

    def put(self, writer: Writer, ready: Future[Any]) -> Future[None]:
        return self.thread.submit(self._write, writer, ready)

    def _write(self, writer: Writer, ready: Future[Any]) -> None:
        if self._stopped:
            return
        try:
            writer.add(ready.result())
        except BaseException:
            self._stopped = True
            raise
