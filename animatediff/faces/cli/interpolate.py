"""`animatediff interpolate`: a finished clip in, the same clip at more frames per second out."""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from animatediff import settings as table
from animatediff.errors import SettingsError
from animatediff.faces.cli import output, request
from animatediff.faces.cli.output import counted

if TYPE_CHECKING:
    from animatediff.clip.finished import Finished
    from animatediff.clip.interpolation import Interpolation
    from animatediff.media.write import ClipWriter, Target

INTERRUPTED = 130
LOOPS = ("auto", "yes", "no")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a GIF, WebP, APNG or video, or a folder of pictures")
    parser.add_argument("--times", metavar="N", help="so many times as many frames, 2 to 64 (default: 2)")
    parser.add_argument("--fps", metavar="X", help="frames per second of the result; beside --times only how fast its "
                        "frames play, which makes the clip longer or shorter")
    parser.add_argument("--from-fps", metavar="X", help="frames per second of FILE, if it does not say (default: 8)")
    parser.add_argument("--method", default="auto", metavar="NAME",
                        help="flow, RIFE, blend, or auto: RIFE if its file is there, else flow (default: auto)")
    parser.add_argument("--model", metavar="PATH", default="", help="RIFE's flownet.pkl")
    parser.add_argument("--loop", choices=LOOPS, default="auto", help="whether the last frame leads to the first; "
                        "auto: as the clip's settings say (default: auto)")
    parser.add_argument("--device", metavar="NAME", default="auto", help="where RIFE runs (default: auto)")
    parser.add_argument("--format", action="append", metavar="LIST", help="as of render (default: as FILE)")
    parser.add_argument("--out", metavar="PATH", default="outputs", help="a file or a folder (default: outputs)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no notes")


def interpolate(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from animatediff.clip.finished import Finished
    from animatediff.media import write

    values = _values(arguments)
    target, formats = _target(arguments, values)
    write.check(target, formats)
    clip = Finished.read(Path(arguments.file), values.get("from_fps"))
    asked, plays = _asked(values, clip, arguments)
    stream, interrupted, transparent = asked.stream(), False, clip.alpha((1, 1)) is not None
    if not arguments.quiet:
        output.say(f"{counted(len(clip.seconds), 'frame')} at {float(clip.fps):g} fps to {float(asked.fps):g} fps by "
                   f"{asked.told}{', as a loop' if asked.closed else ''}")
    loops = clip.settings.loop_number if clip.settings else 0
    writer = write.ClipWriter(target, formats, plays, loops, clip.described(asked, plays))
    try:
        with writer:
            for frame in _with_progress(clip.frames(stream), clip.count(asked.fps), arguments):
                writer.add(frame)
    except KeyboardInterrupt:
        interrupted = True
    opaque = [f"{clip.path.name} is transparent in places; interpolated frames are opaque"] if transparent else []
    _report(arguments, writer, [*opaque, *stream.notes, *writer.notes], interrupted=interrupted)
    return INTERRUPTED if interrupted else 0


def _with_progress(frames: Iterator[Any], total: int, arguments: argparse.Namespace) -> Iterable[Any]:
    from tqdm import tqdm

    return tqdm(frames, "Interpolating", total, unit="frame", file=sys.stderr, disable=arguments.quiet,
                dynamic_ncols=True)


def _values(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given, read by the rows of the table of settings."""
    rows = {"times": "interp_x", "fps": "fps", "from_fps": "fps", "method": "interp", "format": "formats",
            "device": "device"}
    given = {name: getattr(arguments, name) for name in rows}
    values = {name: table.BY_NAME[rows[name]].for_people().read(value, f"--{name.replace('_', '-')}")
              for name, value in given.items() if value is not None}
    if values["method"] == "off" or values.get("times") == 1:
        raise SettingsError("leaves nothing to do", where="--times" if values.get("times") == 1 else "--method",
                            remedy="Use --times 2 or more, and one of auto, flow, RIFE, blend")
    return values


def _asked(values: dict[str, Any], clip: Finished, arguments: argparse.Namespace) -> tuple[Interpolation, Fraction]:
    """What is made, and the frames per second at which it plays."""
    from animatediff.clip import interpolation
    from animatediff.engine import models
    from animatediff.engine.device import pick_device
    from animatediff.media.timing import FPS_MAXIMUM, rate

    given = rate(values["fps"]) if "fps" in values else None
    fps = given if given is not None and "times" not in values else clip.fps * values.get("times", 2)
    if fps > FPS_MAXIMUM:
        raise SettingsError(f"{float(fps):g} frames per second are more than {FPS_MAXIMUM}", where="--times",
                            remedy="Use a smaller number")
    closed = clip.closes if arguments.loop == "auto" else arguments.loop == "yes"
    plan = interpolation.Interpolation("", clip.fps, fps, closed)
    found = interpolation.chosen(values["method"], arguments.model, plan, models.find_rife)
    return found.on(pick_device(values["device"]) if found.model else "cpu"), given or fps


def _target(arguments: argparse.Namespace, values: dict[str, Any]) -> tuple[Target, list[str]]:
    from animatediff.media.write import Target, format_of

    file = Path(arguments.file)
    own = "PNG" if file.is_dir() else format_of(file) or "MP4"
    whole = Target(arguments.out)
    if not request.is_folder(arguments.out) or not whole.stem:  # which refuses the ending of another kind of file
        return whole, list(values.get("format") or [format_of(arguments.out) or own])
    out = arguments.out if arguments.out.endswith(("/", "\\")) else f"{arguments.out}/"
    return Target(out, f"{file.name if file.is_dir() else file.stem}-interpolated"), list(values.get("format") or [own])


def _report(arguments: argparse.Namespace, writer: ClipWriter, notes: list[str], *, interrupted: bool) -> None:
    if arguments.json:
        output.tell(json.dumps({"written": [str(path) for path in writer.paths], "frames": writer.count,
                                "fps": float(writer.clip.fps), "interrupted": interrupted, "notes": notes}))
        return
    for path in writer.paths[:1] if len(writer.paths) > 6 else writer.paths:
        output.tell(f"Wrote {path}")
    output.tell(f"{counted(writer.count, 'frame')} at {float(writer.clip.fps):g} fps")
    output.notes([] if arguments.quiet else notes)
    if interrupted:
        output.say("Interrupted: the frames so far are kept")
