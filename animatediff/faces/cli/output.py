"""Output of the command line: results on standard output; progress, notes and errors on standard error."""
from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from animatediff import settings as table
from animatediff.errors import AnimateDiffError, SettingsError, renamed
from animatediff.settings import Settings

if TYPE_CHECKING:
    from animatediff.clip.job import Written

ALWAYS_SHOWN = ("seed", "frames", "fps", "steps", "cfg", "sampler", "size")
FLAGS = {p.name: p.cli for p in table.PARAMETERS if p.cli}
# Control characters except line breaks and tabs, and characters that change the writing direction.
STEERING = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]")


def tell(text: str) -> None:
    """Print a result on standard output."""
    print(printable(text))


def say(line: str) -> None:
    """Print a message on standard error."""
    print(printable(line), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Return text that is safe for a terminal: control characters become escapes such as \\x1b."""
    return STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def notes(lines: Sequence[str]) -> None:
    """Print notes on standard error, with flags instead of parameter names."""
    for line in lines:
        say(f"Note: {renamed(line, FLAGS)}")


def quietly(line: str) -> None:
    """Print nothing. Used instead of `say` with --quiet; --json still reports notes."""


def interrupted(frames: int) -> None:
    """Say on standard error how many frames an interrupted run has kept."""
    kept = f"{counted(frames, 'finished frame')} {'is' if frames == 1 else 'are'} kept"
    say(f"Interrupted: {kept if frames else 'no frame was finished, nothing is kept'}")


def fail(message: str, code: int, *, as_json: bool, kept: Sequence[Path] = ()) -> int:
    """Print the error and return the exit code. kept: files that are complete nevertheless."""
    say(f"animatediff: {message}")
    if as_json:
        tell(json.dumps({"error": message, "exit_code": code, "written": [str(path) for path in kept]}))
    return code


def in_flags(error: AnimateDiffError, arguments: argparse.Namespace) -> str:
    """Return the error's message, with flags instead of parameter names."""
    # SettingsError always names parameters; other errors may name a file that happens to be called "noise".
    if isinstance(error, SettingsError) or error.where not in vars(arguments).values():
        error = error.named(FLAGS)
    return str(error)


def counted(number: int, thing: str) -> str:
    """Return text such as "1 frame" or "2 frames"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


class Progress:
    """Progress bar on standard error. It counts UNet calls while sampling, then frames while decoding."""

    def __init__(self, calls: int, *, hidden: bool):
        from tqdm import tqdm

        self.bar = tqdm(total=calls, desc="Sampling", unit="call", file=sys.stderr, disable=hidden, dynamic_ncols=True)
        self.decoding = False
        self.notes: list[str] = []

    def __call__(self, event) -> None:
        if event.kind == "note":
            self.notes.append(event.text)
            if not self.bar.disable:
                self.bar.write(printable(f"Note: {event.text}"), file=sys.stderr)
        elif event.kind == "window":
            self.bar.update()
            step = f"step {event.step} of {event.steps}"
            self.bar.set_postfix_str(", ".join(filter(None, (event.run_name, step))), refresh=False)
        elif event.kind == "frame":
            if not self.decoding:
                self.decoding = True
                self.bar.set_postfix_str("", refresh=False)
                self.bar.set_description_str("Decoding", refresh=False)
                self.bar.unit = "frame"
                self.bar.reset(total=event.total)
            self.bar.update()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()


def print_report(written: Written, settings: Settings) -> None:
    """Print the written files and the settings, as arguments of a command that makes the clip again."""
    numbered = [path for path in written.paths if path.stem.isdigit() and path.parent == written.stem]
    for path in written.paths:
        if path not in numbered:
            tell(f"Wrote {path}")
    if numbered:
        tell(f"Wrote {counted(len(numbered), 'frame')} in {numbered[0].parent}")
    if written.loop and settings.asks_for_a_loop and not written.interrupted:
        tell(f"Loop score: {written.loop}")
    if written.score and not written.interrupted:
        tell(f"Score: {written.score}")
    for line in written.notes:
        tell(f"Note: {line}")
    words = [f"{p.cli} {shlex.quote(_written(value))}" for p in table.PARAMETERS
             if p.cli and ((value := getattr(settings, p.name)) != p.default or p.name in ALWAYS_SHOWN)]
    tell(f"Settings: {shlex.quote(settings.prompt)} {' '.join(words)}")


def print_info(text: str, about: Any) -> None:
    """Print the settings in a file, or its plain text if another program wrote it. about: the text as JSON."""
    if not isinstance(about, dict) or not isinstance(about.get("settings"), dict):
        tell(text)
        return
    for key, value in about["settings"].items():
        tell(f"{key:26}{', '.join(map(str, value)) if isinstance(value, list) else value}")
    for step in about["refined"] if isinstance(about.get("refined"), list) else []:
        if isinstance(step, dict):
            tell(f"{'refined':22}{step.get('size', '?')} to {step.get('to', '?')} by {step.get('upscaler', '?')}, "
                 f"denoising strength {step.get('denoising_strength', '?')}")
    module, checkpoint = (found if isinstance(found := about.get(name), dict) else {}
                          for name in ("motion_module", "checkpoint"))
    tell(f"{'made with':26}animatediff {about.get('animatediff', '?')}, {module.get('name', 'no motion module')}"
         f"{' (' + str(module['family']) + ')' if module.get('family') else ''} on {checkpoint.get('name', '?')}")


def print_modules(entries: Sequence) -> None:
    """Print each motion module and motion LoRA with its properties, or why it cannot be used."""
    for entry in entries:
        if entry.problem:
            tell(f"{entry.name}\n    cannot be used: {entry.problem}")
        elif entry.rank:
            widths = f", channels {'/'.join(map(str, entry.widths))}" if entry.widths else ""
            tell(f"{entry.name}\n    {entry.kind}, rank {entry.rank}{widths}")
        else:
            tell(f"{entry.name}\n    {entry.family} for {entry.base}, up to {entry.max_frames} frames in a window, "
                  f"channels {'/'.join(map(str, entry.widths))}")
    if not entries:
        tell("No motion modules.")


def _written(value: Any) -> str:
    """Return a value as written on the command line."""
    if isinstance(value, tuple):
        return ",".join(value)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
