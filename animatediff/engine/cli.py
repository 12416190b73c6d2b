"""The command line: render, info, models. torch and diffusers are imported only when a run needs them."""
from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import settings as table
from ..errors import AnimateDiffError, MediaError, SettingsError
from ..settings import Settings
from ..version import __version__

INTERRUPTED = 130  # as shells report SIGINT
UNEXPECTED = 70  # EX_SOFTWARE
DEBUG_VARIABLE = "ANIMATEDIFF_DEBUG"
DEFAULT_OUT = "outputs"
NOT_REPEATED = ("device", "request_id")  # the machine's and the request's own
ALWAYS_SHOWN = ("seed", "frames", "fps", "steps", "cfg", "sampler", "size")
ENGINE_PACKAGES = ("av", "diffusers", "tokenizers", "torch", "tqdm", "transformers", "yaml")
NUMBERED = re.compile(r"(\d{5,})-")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = parser().parse_args(argv)
    try:
        return arguments.command(arguments)
    except AnimateDiffError as error:
        return _fail(arguments, str(error), error.exit_code, kept=getattr(error, "kept", []))
    except KeyboardInterrupt:
        return _fail(arguments, "Interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        sys.stdout = open(os.devnull, "w")
        return 0
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        if isinstance(error, ModuleNotFoundError) and str(error.name).split(".")[0] in ENGINE_PACKAGES:
            return _fail(arguments, f"The package {error.name} is not installed. "
                         'Install the engine: pip install -e ".[engine]"', 1)
        if type(error).__name__ == "OutOfMemoryError":
            return _fail(arguments, f"The device has not enough memory ({str(error).splitlines()[0]}). "
                         "Use a smaller --size or --context, or --dtype fp16", 1)
        return _fail(arguments, f"Unexpected {type(error).__name__}: {error}. "
                     f"Set {DEBUG_VARIABLE}=1 for the traceback and report it", UNEXPECTED)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="animatediff", description="Text to animation with AnimateDiff motion modules.")
    top.add_argument("--version", action="version", version=f"animatediff {__version__}")
    commands = top.add_subparsers(dest="name", required=True, metavar="COMMAND")

    render = commands.add_parser("render", help="make a clip from a prompt", description="Make a clip from a prompt.")
    render.add_argument("prompt", nargs="?", metavar="PROMPT", help="what the clip shows")
    render.add_argument("--from", dest="source", metavar="FILE",
                        help="repeat the clip in FILE from the settings it carries; what is given beside it overrides")
    render.add_argument("--out", metavar="PATH", default=DEFAULT_OUT,
                        help="a file, whose ending sets the format unless --format does, or a folder, "
                        "in which clips are numbered (default: %(default)s)")
    render.add_argument("--quiet", action="store_true", help="no progress bar, no notes: only what was written, and errors")
    table.add_cli_arguments(render)
    render.set_defaults(command=_render)

    info = commands.add_parser("info", help="show the settings that a clip carries",
                               description="Show the settings that a clip or frame carries.")
    info.add_argument("file", metavar="FILE")
    info.set_defaults(command=_info)

    models = commands.add_parser("models", help="list the motion modules",
                                 description="List motion modules with what they are, or why they cannot be used.")
    models.add_argument("--folder", metavar="DIR", help="look here instead of in the usual folders")
    models.set_defaults(command=_models)
    for command in (render, info, models):
        command.add_argument("--json", action="store_true", help="one JSON object on standard output, for machines")
    return top


def _render(arguments: argparse.Namespace) -> int:
    settings, source = _settings(arguments)
    if not settings.prompt:
        raise SettingsError("the prompt is empty", where="prompt",
                            remedy='Say what to show: animatediff render "a red circle moving right"')
    formats = [name for name in settings.formats if name != "Frame"]  # that one is for APIs
    if not formats:
        raise SettingsError("Frame is what an API answers with", where="formats", remedy="Name a file format")
    from ..video import write

    write.probe(formats)
    note = _quietly if arguments.quiet else _say

    from . import models

    module_file, image_file = models.find(settings.motion_module), models.find_checkpoint(settings.checkpoint)
    note("Loading …")
    from .pipeline import Pipeline, metadata_text

    _silence()
    pipeline = Pipeline.load(settings.checkpoint, settings.motion_module, device=settings.device, dtype=settings.dtype)
    settings = pipeline.resolve(settings)
    pipeline.check(settings)
    about = pipeline.metadata(settings)
    notices = pipeline.notices(settings) + _differences(source, about)
    for line in notices:
        note(f"Note: {line}")
    note(f"{settings.frames} frames of {settings.size}, {pipeline.calls(settings)} UNet calls, "
         f"{module_file.name} on {image_file.name}, {pipeline.device}, {str(pipeline.dtype).removeprefix('torch.')}")
    target, name = _target(arguments.out, settings)
    clip = write.ClipWriter(target, formats, settings.fps, settings.loop_number, metadata_text(about), name=name)
    interrupted = False
    with _Progress(pipeline, settings, hidden=arguments.quiet) as progress:
        try:
            with clip:
                for frame in pipeline.render(settings, progress):
                    clip.add(frame)
        except KeyboardInterrupt:
            interrupted = True
    report = {
        "written": [str(path) for path in clip.paths], "frames": clip.count, "interrupted": interrupted,
        "notes": notices + clip.notes, "settings": settings.to_dict(),
        "metadata": about,
    }
    if arguments.json:
        print(json.dumps(report))
    else:
        _print_report(clip, settings, pipeline)
    if interrupted:
        kept = f"{clip.count} finished frames are kept" if clip.count else "no frame was finished, nothing is kept"
        _say(f"Interrupted: {kept}")
    return INTERRUPTED if interrupted else 0


def _settings(arguments: argparse.Namespace) -> tuple[Settings, dict[str, Any]]:
    """The run's settings, and what the file of --from says of itself."""
    given = table.from_namespace(arguments)
    if arguments.prompt is not None:
        given["prompt"] = arguments.prompt
    about: dict[str, Any] = {}
    base = None
    if arguments.source:
        about = _carried(arguments.source)
        values = {key: value for key, value in about["settings"].items() if key not in NOT_REPEATED}
        base = table.parse(values)
    settings = table.parse({**given, "enable": True}, base)
    from ..video.write import format_of

    suffix = format_of(arguments.out) if not arguments.out.endswith(("/", "\\")) else None
    if suffix and "formats" not in given:
        settings = table.parse({"formats": [suffix]}, settings)
    return settings, about


def _carried(path: str) -> dict[str, Any]:
    """The settings in a file of ours."""
    from ..video import metadata

    text = metadata.read(path)
    try:
        about = json.loads(text or "")
        if not isinstance(about["settings"], dict):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise MediaError("carries no AnimateDiff settings", where=path,
                         remedy="Take a file that this program wrote; editors and chats often strip them") from None
    return about


def _differences(source: dict[str, Any], about: dict[str, Any]) -> list[str]:
    """Where a repeated clip may differ though its settings are the same."""
    if not source:
        return []
    before, now = source.get("motion_module") or {}, about.get("motion_module") or {}
    if before.get("sha256") and now.get("sha256") and before["sha256"] != now["sha256"]:
        return [f"the clip was made with another motion module, {before.get('name')}; this run uses {now.get('name')}"]
    return []


def _target(out: str, settings: Settings) -> tuple[Path | str, str]:
    """Where ClipWriter puts the files, and their name where `out` is a folder: NUMBER-SEED[-REQUEST]."""
    from ..video.write import format_of

    if format_of(out) and not out.endswith(("/", "\\")):
        return out, ""
    folder = Path(out)
    try:
        taken = [int(match[1]) for path in folder.iterdir() if (match := NUMBERED.match(path.name))]
    except OSError:
        taken = []  # not there yet; whether it can be written to is ClipWriter's question
    parts = [f"{max(taken, default=0) + 1:05d}", str(settings.seed), settings.request_id]
    return out if out.endswith(("/", "\\")) else f"{out}/", "-".join(filter(None, parts))


def _info(arguments: argparse.Namespace) -> int:
    from ..video import metadata

    text = metadata.read(arguments.file)
    if text is None:
        raise MediaError("carries no settings", where=arguments.file,
                         remedy="Take the file as it was written; editors and chats often strip them")
    try:
        about = json.loads(text)
    except ValueError:
        about = None
    if arguments.json:
        print(json.dumps({"file": arguments.file, "metadata": text if about is None else about}))
    elif isinstance(about, dict) and isinstance(about.get("settings"), dict):
        for key, value in about["settings"].items():
            print(f"{key:17}{', '.join(value) if isinstance(value, list) else value}")
        module = about.get("motion_module") or {}
        print(f"{'made with':17}animatediff {about.get('animatediff', '?')}, {module.get('name', 'no motion module')}"
              f"{' (' + module['family'] + ')' if module.get('family') else ''} on "
              f"{(about.get('checkpoint') or {}).get('name', '?')}")
    else:
        print(text)
    return 0


def _models(arguments: argparse.Namespace) -> int:
    from . import models

    folder = Path(arguments.folder) if arguments.folder else None
    entries = models.listing(folder)
    places = [folder] if folder else models.folders()
    if arguments.json:
        print(json.dumps({"folders": [str(place) for place in places], "models": [e.to_dict() for e in entries]}))
        return 0
    for entry in entries:
        if entry.problem:
            print(f"{entry.name}\n    cannot be used: {entry.problem}")
        else:
            print(f"{entry.name}\n    {entry.family} for {entry.base}, up to {entry.max_frames} frames in a window, "
                  f"channels {'/'.join(map(str, entry.widths))}")
    if not entries:
        print("No motion modules.")
    _say(f"Folders: {', '.join(map(str, places))}")
    return 0


class _Progress:
    """Events to one bar on standard error: a tick for each UNet call, then one for each frame."""

    def __init__(self, pipeline, settings: Settings, *, hidden: bool):
        from tqdm import tqdm

        self.calls = pipeline.calls(settings)
        self.bar = tqdm(total=self.calls, desc="Sampling", unit="call", file=sys.stderr, disable=hidden,
                        dynamic_ncols=True)
        self.decoding = False

    def __call__(self, event) -> None:
        if event.kind == "window":
            self.bar.update()
            self.bar.set_postfix_str(f"step {event.step}/{event.steps}", refresh=False)
        elif event.kind == "frame":
            if not self.decoding:
                self.decoding = True
                self.bar.set_postfix_str("", refresh=False)
                self.bar.set_description_str("Decoding", refresh=False)
                self.bar.unit = "frame"
                self.bar.reset(total=event.total)
            self.bar.update()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()


def _print_report(clip, settings: Settings, pipeline) -> None:
    """What was written and what it was made with, as the command that makes it again."""
    numbered = [path for path in clip.paths if path.stem.isdigit() and path.parent == clip.stem]
    for path in clip.paths:
        if path not in numbered:
            print(f"Wrote {path}")
    if numbered:
        print(f"Wrote {len(numbered)} frames in {numbered[0].parent}")
    for line in clip.notes:
        print(f"Note: {line}")
    words = [f"{p.cli} {shlex.quote(_written(value))}" for p in table.PARAMETERS
             if p.cli and ((value := getattr(settings, p.name)) != p.default or p.name in ALWAYS_SHOWN)]
    print(f"Settings: {shlex.quote(settings.prompt)} {' '.join(words)}")


def _written(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, tuple):
        return ",".join(value)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _fail(arguments: argparse.Namespace, message: str, code: int, kept: Sequence[Path] = ()) -> int:
    _say(f"animatediff: {message}")
    if arguments.json:
        print(json.dumps({"error": message, "exit_code": code, "written": [str(path) for path in kept]}))
    return code


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _quietly(line: str) -> None:
    """Said nowhere; --json still reports it."""


def _silence() -> None:
    """Libraries' warnings about their own future are not the user's."""
    import logging
    import warnings

    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    for name in ("diffusers", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    raise SystemExit(main())
