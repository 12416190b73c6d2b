"""Paths of a clip's files: check that they can be written, and lock them against other runs."""
from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from animatediff import disk
from animatediff.errors import FormatError, MediaError, end_of
from animatediff.media.write.base import reason, remedy
from animatediff.media.write.registry import WRITERS, format_of, names

# Endings of other kinds of files. A target with such an ending is probably a mistake.
_FOREIGN = """
264 265 3g2 3gp 7z aac ai aif aiff amv apk arw asf ass au av1 avchd avi avif avifs bik bin bmp bpg bz2 caf cin ckpt
cr2 cr3 csv cur dcr dds dib divx dng doc docx dpx dv eps erf exe exr f4v fit fits flac flc fli flif flv gifv gz h261
h263 h264 h265 hdr heic heics heif heifs hevc htm html icns ico ini ivf j2k jfif jng jp2 jpe jpeg jpg jpx json jsonl
jxl jxr kdc kra log m1v m2p m2t m2ts m2v m3u m3u8 m4a m4p m4v md mid midi mj2 mjpeg mjpg mk3d mka mng mp2 mp3
mp4v mpe mpeg mpeg4 mpg mpg4 mpv mrw mts mxf nef nut obu odt oga ogg ogm ogv opus orf pbm pcx pdf pef pfm pgm pic pkl
pnm ppm psb psd pt pth py qoi qt ra raf rar ras raw rgb rm rmvb rw2 safetensors sgi smk snd sr2 srf srt srw svg swf
tar tga tgz tif tiff toml trp ts vob vtt wav wdp weba webmv wma wmv wtv x3f xbm xcf xml xpm xvid xwd y4m yaml yml yuv
zip
"""


@dataclass(frozen=True)
class Target:
    """The target of a clip: a file, or a folder and a name."""

    path: str | Path
    name: str = "clip"  # name of the files if `path` is a folder
    new: bool = False  # whether no files of this name may exist yet

    @property
    def stem(self) -> Path:
        """Folder and name of the files, without ending. Raises FormatError for the ending of another kind of file."""
        path = Path(self.path)
        # "demo.gif" and "out/demo.GIF" are files; "out", "out/" and "clips.v2" are folders.
        if str(self.path).endswith(("/", "\\")):
            return path / self.name
        if format_of(path) is not None:
            return path.with_suffix("")
        if (what := _slip(path.name)) and not os.path.isdir(path):
            raise FormatError(what, where=end_of(path),
                              remedy=f"Choose from {', '.join('.' + w.extension for w in WRITERS.values())}; "
                                     "a folder of this name ends in /")
        return path / self.name


def _slip(name: str) -> str:
    """Return why a name is probably a mistake: it is no file of ours and hardly a folder. Returns "" if it is fine."""
    endings = [*_FOREIGN.split(), *(writer.extension for writer in WRITERS.values())]
    stem, _, ending = name.rstrip(" .").rpartition(".")
    if ending.lower() not in endings or "." not in name:
        return ""
    if not stem:
        return f"{name} is an ending without a name"
    return "the name ends in a blank or a dot" if name != name.rstrip(" .") else f".{ending} files cannot be written"


def target_of(place: str | Path | Target) -> Target:
    """Return `place` as a Target."""
    return place if isinstance(place, Target) else Target(place)


class NameTakenError(MediaError):
    """Another run writes files of this name, or they exist although they must be new."""


def check(target: str | Path | Target, formats: str | Iterable[str]) -> None:
    """Raise MediaError if the clip's files cannot be written. For use before a run; leaves no files."""
    check_place(target_of(target).stem, names(formats), make=False)


def check_free(target: str | Path | Target) -> None:
    """Raise NameTakenError if another run is writing files of this name. For use before a run."""
    stem = target_of(target).stem
    if disk.is_locked(stem):
        raise _taken(stem, "another run is writing it")


def check_apart(target: str | Path | Target, formats: str | Iterable[str], inputs: Iterable[str | Path]) -> None:
    """Raise MediaError if the clip's files would replace a file from which it is made. For use before a run.

    inputs: paths of files and folders; those that do not exist are ignored.
    """
    stem = target_of(target).stem
    places = [WRITERS[name].place(stem) for name in names(formats)]
    for path in map(Path, inputs):
        replaced = (path, path.parent) if path.suffix.lower() == ".png" else (path,)  # PNG writes a folder
        for place in places:
            with suppress(OSError, ValueError):  # one of the two does not exist
                if any(os.path.samefile(place, each) for each in replaced):
                    raise MediaError(f"the clip would replace {end_of(path)}, from which it is made",
                                     where=end_of(place), remedy="Choose another folder or name")


def check_place(stem: Path, formats: Iterable[str], *, make: bool) -> None:
    """Raise MediaError if the files cannot be written, so that a run does not fail at its end.

    make: create their folder. Otherwise the nearest existing folder is checked.
    """
    folder = stem.parent
    try:
        for name in formats:
            WRITERS[name].check(WRITERS[name].place(stem))
        if make:
            disk.make_folder(folder)
        else:
            folder = next(place for place in stem.absolute().parents if place.exists())
        for name in formats:  # with names like their own, which the system may refuse
            trial = disk.Part(folder / WRITERS[name].place(stem).name)
            try:
                trial.file.close()
            finally:
                trial.drop()
    except (OSError, ValueError) as error:
        raise _refused(stem.parent, error) from error


def reserve(target: Target, formats: Iterable[str]) -> disk.Lock:
    """Return a lock on the clip's files. Half-written files of a killed process are deleted.

    Raises NameTakenError if another run has the lock, or if the target must be new and files exist.
    """
    stem = target.stem
    try:
        lock = disk.Lock(stem)
    except disk.LockedError:
        raise _taken(stem, "another run is writing it") from None
    except OSError as error:
        raise _refused(stem.parent, error) from error
    if target.new and (stem.exists() or any(stem.parent.glob(f"{glob.escape(stem.name)}.*"))):
        lock.release()
        raise _taken(stem, "there is a clip of this name")
    for form in formats:
        place = WRITERS[form].place(stem)
        for path in place.glob(".*.part") if place.is_dir() else disk.leftovers(place):
            path.unlink(missing_ok=True)
    return lock


def _taken(stem: Path, what: str) -> NameTakenError:
    return NameTakenError(what, where=end_of(stem), remedy="Wait until that has ended, or choose another name")


def _refused(folder: Path, error: OSError | ValueError) -> MediaError:
    return MediaError(f"cannot write here ({reason(error)})", where=end_of(folder),
                      remedy=remedy(error) or "Choose another folder or name")
