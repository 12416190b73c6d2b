"""`animatediff interpolate`: make a clip with more frames per second from a finished clip."""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from animatediff import settings as table
from animatediff.errors import AnimateDiffError
from animatediff.faces.cli import output, request
from animatediff.faces.cli.output import counted

if TYPE_CHECKING:
    from animatediff.media.write import ClipWriter

INTERRUPTED = 130
LOOPS = ("auto", "yes", "no")
NAMES = ("times", "fps", "from_fps", "method", "model", "format", "loop")
FLAGS = {name: f"--{name.replace('_', '-')}" for name in NAMES} | {"interp_model": "--model"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("file", metavar="FILE", help="a GIF, WebP, APNG or video, or a folder of pictures")
    parser.add_argument("--times", metavar="N", help="so many times as many frames, 2 to 64 (default: 2)")
    parser.add_argument("--fps", metavar="X", help="frames per second of the result; beside --times only how fast its "
                        "frames play, which makes the clip longer or shorter")
    parser.add_argument("--from-fps", metavar="X", help="frames per second of FILE, if it does not say (default: 8)")
    parser.add_argument("--method", default="auto", metavar="NAME",
                        help="flow, RIFE, FILM, blend, or auto: the network of --model, RIFE if its file is found, "
                        "else flow (default: auto)")
    parser.add_argument("--model", metavar="PATH", default="", help="RIFE's flownet.pkl or FILM's film_net_fp32.pt")
    parser.add_argument("--loop", choices=LOOPS, default="auto", help="whether the last frame leads to the first; "
                        "auto: as the clip's settings say (default: auto)")
    parser.add_argument("--device", metavar="NAME", default="auto", help="where the network runs (default: auto)")
    parser.add_argument("--format", action="append", metavar="LIST", help="as of render (default: as FILE)")
    parser.add_argument("--out", metavar="PATH", default="outputs", help="a file or a folder (default: outputs)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no notes")


def interpolate(arguments: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    from animatediff.clip.retime import Request, Retimed
    from animatediff.engine import models
    from animatediff.engine.device import pick_device
    from animatediff.media import write

    given = {name: getattr(arguments, name) for name in NAMES}
    device = table.BY_NAME["device"].for_people().read(arguments.device, "--device")
    try:
        asked = Request.read({name: value or None for name, value in given.items()})
        clip = request.clip(arguments.file, asked.from_fps)
        target = request.result(arguments.out, arguments.file, "interpolated")
        formats = asked.format or (write.format_of(arguments.out) or clip.format,)
        write.check(target, formats, [clip.path])
        retimed = Retimed.of(asked, clip, models.find_network)
    except AnimateDiffError as error:
        raise error.named(FLAGS) from error
    stream, interrupted = retimed.stream(pick_device(device) if retimed.interpolation.model else "cpu"), False
    if not arguments.quiet:
        output.say(str(retimed))
    track, left_out = retimed.sound(clip.sound)
    writer = write.ClipWriter(target, formats, retimed.plays, clip.loop_number, retimed.text, sound=track)
    try:
        with writer:
            for frame in _with_progress(retimed.frames(stream), retimed.count, arguments):
                writer.add(frame)
    except KeyboardInterrupt:
        interrupted = True
    _report(arguments, writer, [*stream.notes, *left_out, *writer.notes], interrupted=interrupted)
    return INTERRUPTED if interrupted else 0


def _with_progress(frames: Iterator[Any], total: int, arguments: argparse.Namespace) -> Iterable[Any]:
    from tqdm import tqdm

    return tqdm(frames, "Interpolating", total, unit="frame", file=sys.stderr, disable=arguments.quiet,
                dynamic_ncols=True)


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
        output.interrupted(writer.count)
