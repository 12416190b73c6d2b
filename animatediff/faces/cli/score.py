"""`animatediff score`: measure a clip's flicker, temporal error, colour drift and loop score."""
from __future__ import annotations

import argparse
import json
import sys

from animatediff.faces.cli import output, request
from animatediff.faces.cli.output import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("file", metavar="FILE", help="a GIF, WebP, APNG or video, or a folder of pictures")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def score(arguments: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    from tqdm import tqdm

    clip = request.clip(arguments.file)
    found = clip.measured(lambda frames: tqdm(frames, "Measuring", len(clip.seconds), unit="frame", file=sys.stderr,
                                              disable=arguments.quiet, dynamic_ncols=True))
    if arguments.json:
        output.tell(json.dumps({"file": arguments.file, "fps": float(clip.fps), **found.to_dict(),
                                "notes": found.notes}))
        return 0
    output.tell(f"{counted(found.frames, 'frame')} at {float(clip.fps):g} fps")
    for line in found.lines():
        output.tell(line)
    output.notes(found.notes)
    return 0
