"""The command line. torch and diffusers are imported only when a run needs them."""
from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from animatediff import settings as table
from animatediff import travel
from animatediff.errors import AnimateDiffError, MediaError, SettingsError, end_of
from animatediff.faces.cli import interpolate, output, refine, score
from animatediff.faces.cli.output import fail
from animatediff.faces.cli.streams import Interrupts, guarded
from animatediff.version import __version__

INTERRUPTED = 130  # as shells report SIGINT
UNEXPECTED = 70  # EX_SOFTWARE
DEBUG_VARIABLE = "ANIMATEDIFF_DEBUG"
DEFAULT_OUT = "outputs"
OF_THE_PROMPT = ("negative", "frames", "context_length", "closed_loop", "travel_interpolation", "travel_hold",
                 "travel_easing", "prompt_weights")  # parameters that a prompt schedule depends on
ENGINE_PACKAGES = ("av", "diffusers", "tokenizers", "torch", "tqdm", "transformers", "yaml")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    with guarded(for_good=argv is None) as (out, interrupts):
        try:
            code = _run(words, interrupts)
        except KeyboardInterrupt:  # a second Ctrl-C, while the first one is handled
            interrupts.ending = True
            code = INTERRUPTED
        except SystemExit:  # raised by --help and --version
            out.flush()
            if not out.is_full:
                raise
            code = 0
        out.flush()
        if out.is_full:
            output.say(f"animatediff: standard output cannot be written ({getattr(out.error, 'strerror', out.error)})")
            # If the clip has been written, a lost report is no failure, except for the JSON report.
            if code == 0 and (words[:1] not in (["render"], ["interpolate"], ["refine"]) or "--json" in words):
                code = MediaError.exit_code
        return code


def _run(words: list[str], interrupts: Interrupts) -> int:
    try:
        arguments = parser().parse_args(words)
    except _Misused as error:
        output.say(error.usage)
        # Parsing failed, so --json is searched among the words. argparse also accepts abbreviations such as --js.
        as_json = any(len(word) > 2 and "--json".startswith(word) for word in words)
        return fail(str(error), error.exit_code, as_json=as_json)
    as_json = arguments.json
    try:
        return arguments.command(arguments)
    except AnimateDiffError as error:
        return fail(output.in_flags(error, arguments), error.exit_code, as_json=as_json,
                    kept=getattr(error, "kept", []))
    except KeyboardInterrupt:
        interrupts.ending = True
        return fail("Interrupted", INTERRUPTED, as_json=as_json)
    except Exception as error:
        if interrupts.came:  # a library has turned KeyboardInterrupt into another error
            return fail("Interrupted", INTERRUPTED, as_json=as_json)
        return _unexpected(error, as_json)


def _unexpected(error: Exception, as_json: bool) -> int:
    if os.environ.get(DEBUG_VARIABLE):
        raise error
    if isinstance(error, ModuleNotFoundError) and str(error.name).split(".")[0] in ENGINE_PACKAGES:
        return fail(f"The package {error.name} is not installed. "
                    'Install the engine: pip install -e ".[engine]"', 1, as_json=as_json)
    if any("torchvision::" in str(each) for each in _chain(error)):
        return fail("torchvision is of another build than torch, so other packages cannot be imported. "
                    "Install one of the same build, or remove it: pip uninstall torchvision", 1, as_json=as_json)
    if type(error).__name__ == "OutOfMemoryError":
        return fail(f"The device has not enough memory ({str(error).splitlines()[0]}). "
                    "Use a smaller --size or --context, or --dtype fp16", 1, as_json=as_json)
    if isinstance(error, OSError) and error.strerror:  # such as a name that is too long or a missing permission
        return fail(f"{end_of(error.filename or 'a file')}: {error.strerror}. Use another place or name", 4,
                    as_json=as_json)
    return fail(f"Unexpected {type(error).__name__}: {error}. "
                f"Set {DEBUG_VARIABLE}=1 for the traceback and report it", UNEXPECTED, as_json=as_json)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and the chain of its causes."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class _Misused(SettingsError):
    """Error for a command line that cannot be parsed."""

    def __init__(self, what: str, usage: str, remedy: str):
        super().__init__(what, remedy=remedy)
        self.usage = usage


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises an error instead of exiting. Each command reports its unknown flags itself."""

    def parse_known_args(self, args=None, namespace=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        raise _Misused(message, self.format_usage().rstrip(), f"See {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = _Parser(prog="animatediff", description="Text to animation with AnimateDiff motion modules.")
    top.add_argument("--version", action="version", version=f"animatediff {__version__}")
    commands = top.add_subparsers(dest="name", required=True, metavar="COMMAND")

    render, schedule = _render_parser(commands), _schedule_parser(commands)
    between = commands.add_parser("interpolate", help="make frames between the frames of a clip",
                                  description="Make frames between the frames of a finished clip.")
    interpolate.add_arguments(between)
    between.set_defaults(command=interpolate.interpolate)

    again = commands.add_parser("refine", help="enlarge a clip and sample it again",
                                description="Enlarge a finished clip, and sample it again with the motion module.")
    refine.add_arguments(again)
    again.set_defaults(command=refine.refine)

    measured = commands.add_parser("score", help="measure the flicker and colour drift of a clip",
                                   description="Measure flicker, temporal error, colour drift and loop of a clip.")
    score.add_arguments(measured)
    measured.set_defaults(command=score.score)

    info = commands.add_parser("info", help="show the settings inside a clip",
                               description="Show the settings inside a clip or a frame.")
    info.add_argument("file", metavar="FILE")
    info.set_defaults(command=_info)

    models = commands.add_parser("models", help="list the motion modules and motion LoRAs",
                                 description="List the motion modules and motion LoRAs, or why a file cannot "
                                 "be used.")
    models.add_argument("--folder", metavar="DIR", help="search this folder instead of the usual ones")
    models.set_defaults(command=_models)
    for command in (render, schedule, between, again, measured, info, models):
        command.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    return top


def _render_parser(commands: Any) -> argparse.ArgumentParser:
    render = commands.add_parser("render", help="make a clip from a prompt", description="Make a clip from a prompt.")
    render.add_argument("prompt", nargs="?", metavar="PROMPT", help="what the clip shows")
    render.add_argument("--from", dest="source", metavar="FILE",
                        help="repeat the clip in FILE with the settings inside it; a prompt and flags have priority")
    render.add_argument("--out", metavar="PATH", default=DEFAULT_OUT,
                        help="a file, whose ending chooses the format unless --format is given; or a folder, "
                        "in which clips are numbered (default: %(default)s)")
    render.add_argument("--resume", action="store_true",
                        help="continue an interrupted run from the state beside its files; its settings need not be "
                        "given again, and must be the same if they are")
    render.add_argument("--save-state", type=int, metavar="N", default=1,
                        help="save the run's state beside its files every N steps until it is finished, for --resume; "
                        "0 means never (default: %(default)s)")
    render.add_argument("--quiet", action="store_true",
                        help="print no progress bar and no notes; the report and errors are still printed")
    table.add_cli_arguments(render)
    render.set_defaults(command=_render)
    return render


def _schedule_parser(commands: Any) -> argparse.ArgumentParser:
    schedule = commands.add_parser("schedule", help="show the prompts of each frame",
                                   description="Show the prompts of each frame, without making the clip.")
    schedule.add_argument("prompt", metavar="PROMPT", help="a travelling prompt, in any syntax")
    schedule.add_argument("--to", choices=travel.SYNTAXES, help="print the prompt in another syntax instead")
    table.add_cli_arguments(schedule, ("clip", "image"), OF_THE_PROMPT)
    schedule.set_defaults(command=_schedule)
    return schedule


def _render(arguments: argparse.Namespace) -> int:
    from animatediff.faces.cli.render import render

    return render(arguments)


def _schedule(arguments: argparse.Namespace) -> int:
    settings = table.parse(table.from_namespace(arguments))
    if arguments.to:
        asked = {"prompt": settings.prompt, "negative prompt": settings.negative}
        texts, notes = settings.converted({where: text for where, text in asked.items() if text}, arguments.to)
        output.tell(json.dumps(texts | {"notes": notes}) if arguments.json else "\n\n".join(texts.values()))
        output.notes([] if arguments.json else notes)
        return 0
    frames = settings.frame_count()
    prompt, negative = settings.schedules(settings.prompt, settings.negative, frames)
    notes = [*prompt.notes, *negative.notes]
    if arguments.json:
        output.tell(json.dumps({"frames": frames, "prompt": prompt.to_dict(),
                          "negative": negative.to_dict(), "notes": notes}))
        return 0
    output.tell(travel.table(prompt))
    if negative.texts != ("",):
        output.tell(f"\nNegative prompt\n{travel.table(negative)}")
    output.notes(notes)
    return 0


def _info(arguments: argparse.Namespace) -> int:
    from animatediff.media import metadata

    text = metadata.read(arguments.file)
    if text is None:
        raise MediaError("carries no settings", where=arguments.file,
                         remedy="Use the file as it was written; editors and chats often remove them")
    try:
        about = json.loads(text)
    except (ValueError, RecursionError):
        about = None
    if arguments.json:
        output.tell(json.dumps({"file": arguments.file, "metadata": text if about is None else about}))
    else:
        output.print_info(text, about)
    return 0


def _models(arguments: argparse.Namespace) -> int:
    from animatediff.engine import models

    folder = Path(arguments.folder) if arguments.folder else None
    entries = models.listing(folder)
    places = [folder] if folder else models.folders()
    if arguments.json:
        output.tell(json.dumps({"folders": [str(place) for place in places], "models": [e.to_dict() for e in entries]}))
        return 0
    output.print_modules(entries)
    output.say(f"Folders: {', '.join(map(str, places))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
