"""`animatediff refine`: enlarge a finished clip and sample it again with the motion module."""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from animatediff import settings as table
from animatediff.errors import SettingsError, renamed
from animatediff.faces.cli import output, render, request
from animatediff.faces.cli.output import counted

if TYPE_CHECKING:
    from animatediff.clip.job import Clip, Known, Written
    from animatediff.clip.refine import Refinement
    from animatediff.clip.resume import Keeper
    from animatediff.media.sound import Sound
    from animatediff.media.write import Target

    FramesOf = Callable[[Any, Keeper], Iterator[Any]]

INTERRUPTED = 130
OWN = ("scale", "upscaler", "denoising_strength", "size", "prompt")  # flags that differ from those of `render`
# Flags of `render` that concern the start of a clip, or further processing of the finished clip.
NOT_HERE = ("init", "last_frame", "frame_lock", "latent_power", "latent_scale", "latent_power_last",
            "latent_scale_last", "frames", "request_id", "interp", "interp_x", "interp_model")
NAMES = tuple(p.name for p in table.PARAMETERS
              if p.cli and p.name not in (*OWN, *NOT_HERE) and not p.name.startswith("video_"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    def add(flag: str, metavar: str, help: str) -> None:
        parser.add_argument(flag, default=argparse.SUPPRESS, metavar=metavar, help=help)

    parser.add_argument("file", nargs="?", metavar="FILE",
                        help="a GIF, WebP, APNG or video, or a folder of pictures; --resume needs none")
    add("--scale", "X", "how many times as wide and as high, 0.25 to 8; 1 keeps the size (default: 2)")
    add("--size", "WxH", "width and height in pixels in place of --scale, multiples of 8")
    add("--upscaler", "NAME", "Lanczos, latent, or the file of an upscaler model, such as Real-ESRGAN: a path, or a "
        "name in a folder of motion modules (default: Lanczos)")
    add("--denoising-strength", "X", "how far the clip may differ from the enlarged frames, 0 to 1; with 0, frames "
        "are only enlarged and no image model is needed (default: 0.4)")
    add("--prompt", "TEXT", "what the clip shows (default: as FILE says)")
    add("--from-fps", "X", "frames per second of FILE, if it does not say (default: 8)")
    parser.add_argument("--out", metavar="PATH", default="outputs", help="a file or a folder (default: outputs)")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run from the state beside its "
                        "files; FILE and flags need not be given again")
    parser.add_argument("--save-state", type=int, metavar="N", default=1, help="as of render (default: %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no notes")
    table.add_cli_arguments(parser, names=NAMES, otherwise="as FILE says")


def refine(arguments: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    arguments.source = arguments.file  # the file that messages name as the settings' origin, as with `render --from`
    begun, found = render.resumed(arguments, refines=True)
    from animatediff.clip import refine
    from animatediff.engine import models
    from animatediff.media import write

    values = _given(arguments)
    if begun and found:
        values = refine.of_state(found["about"]) | values
        arguments.source = arguments.file = arguments.file or values["init"]
    clip = request.clip(arguments.file, values.pop("from_fps", None))
    target = (write.Target(f"{begun.parent}/", begun.stem) if begun
              else request.result(arguments.out, arguments.file, "refined"))
    values.setdefault("formats", [write.format_of(arguments.out) or clip.format])
    asked = refine.Refinement.of(clip, values, models.find_upscaler)
    write.check(target, asked.settings.formats, [clip.path])
    write.probe(asked.settings.formats)
    say = output.quietly if arguments.quiet else output.say
    say(str(asked))
    run = _Run(arguments, asked, target)
    if asked.samples:
        return run.sampled(found, begun)
    return run.enlarged()


class _Run:
    """One run of the command."""

    def __init__(self, arguments: argparse.Namespace, asked: Refinement, target: Target):
        from animatediff.media.measure.before_after import BeforeAfter

        self.arguments, self.asked, self.target = arguments, asked, target
        self.say = output.quietly if arguments.quiet else output.say
        self.notes: list[str] = []
        self.meter = BeforeAfter(asked.own_frames)

    def enlarged(self) -> int:
        """Enlarge the frames one by one, without an image model."""
        from animatediff.clip import sounds
        from animatediff.clip.resume import Keeper
        from animatediff.engine.device import pick_device

        asked, count = self.asked, len(self.asked.clip.seconds)
        self.note(asked.notices())
        text = asked.text()

        def frames(*_: Any) -> Iterator[Any]:
            device = pick_device(asked.settings.device)
            yield from self.meter.watched(self._with_progress(asked.frames(device), count))

        clip = self._clip(count, lambda known: text, sounds.of(asked.settings) or asked.sound)
        alpha = asked.clip.alpha((asked.enlargement.width, asked.enlargement.height), asked.enlargement.fit)
        clip = replace(clip, alpha=alpha and alpha.__getitem__)
        return self._written(frames, clip, Keeper(), output.quietly)

    def sampled(self, found: dict[str, Any] | None, begun: Path | None) -> int:
        """Enlarge the frames and sample them again. found, begun: a state to resume from, and its file."""
        from animatediff.clip import provenance, resume
        from animatediff.engine import models
        from animatediff.engine.device import pick_device
        from animatediff.engine.estimate import estimate

        asked = self.asked
        settings = request.with_files(asked.settings, self.arguments)
        files = request.model_files(settings, self.arguments)
        inputs = asked.inputs(settings, models.find_lora, pick_device(settings.device))
        self.say("Loading …")
        pipeline = render.loaded(settings)
        plan = pipeline.plan(inputs)
        identity = provenance.identity(plan, pipeline) | asked.identity()
        if begun and found:
            resume.refuse_differences(found, identity, begun)
            self.say(f"Continuing after {counted(found['step'], 'step')} of {found['stage']}")
        self.note([*asked.notices(), *plan.notices])
        calls = plan.calls(found) or 0
        self.say(f"{counted(plan.settings.frames, 'frame')} of {plan.settings.size}, {counted(calls, 'UNet call')}, "
                 f"{files[0].name} on {files[1].name}, {pipeline.device}, "
                 f"{str(pipeline.dtype).removeprefix('torch.')}")
        self.say(f"Estimate: {estimate(pipeline, plan, calls)}")
        about = provenance.metadata(plan, pipeline)

        def text(known: Known) -> str:
            return asked.text(about | ({"memory": list(known.shortages)} if known.shortages else {}))

        keeper = resume.Keeper(None, identity, every=self.arguments.save_state, found=found)
        with output.Progress(calls, hidden=self.arguments.quiet) as progress:
            def frames(on_event: Any, keeper: Keeper) -> Iterator[Any]:
                yield from self.meter.watched(pipeline.render(plan, on_event, keeper))

            clip = self._clip(len(plan.playback), text, plan.inputs.sound or asked.sound)
            given = plan.inputs.pictures
            clip = replace(clip, alpha=given and given.alpha_of(plan.playback))
            return self._written(frames, clip, keeper, progress)

    def note(self, lines: Sequence[str]) -> None:
        """Print notes before the run, and keep them for the report."""
        self.notes += lines
        for line in lines:
            self.say(f"Note: {renamed(line, output.FLAGS)}")

    def _with_progress(self, frames: Iterator[Any], total: int) -> Iterator[Any]:
        from tqdm import tqdm

        yield from tqdm(frames, "Enlarging", total, unit="frame", file=sys.stderr, disable=self.arguments.quiet,
                        dynamic_ncols=True)

    def _clip(self, count: int, text: Callable[[Known], str], sound: Sound | None) -> Clip:
        """Return the clip to write. count: number of frames."""
        from animatediff.clip import writing
        from animatediff.clip.job import Clip

        settings, target = self.asked.settings, self.target
        return Clip(count, settings.formats, settings.fps, text, lambda taken: target, settings.loop_number,
                    options=writing.options(settings), sound=sound)

    def _written(self, frames: FramesOf, clip: Clip, keeper: Keeper, on_event: Any) -> int:
        """Make and write the clip, print the report, and return the exit code."""
        from animatediff.clip import job

        written = job.run(frames, clip, keeper, on_event)
        self._report(written, [*self.notes, *getattr(on_event, "notes", []), *self.meter.notes])
        if written.interrupted:
            output.interrupted(written.frames)
            if keeper.path is not None and keeper.path.exists():
                output.say("animatediff refine --resume with the same --out continues from here")
        return INTERRUPTED if written.interrupted else 0

    def _report(self, written: Written, notes: list[str]) -> None:
        before, after = self.meter.before, self.meter.after
        if self.arguments.json:
            try:
                metadata = json.loads(written.text)
            except ValueError:  # text in the WebUI's format
                metadata = written.text
            output.tell(json.dumps({
                "written": [str(path) for path in written.paths], "frames": written.frames,
                "fps": float(written.clip.fps), "size": self.asked.enlargement.size,
                "temporal_error": self.meter.to_dict(),
                "loop": written.loop and written.loop.to_dict(), "interrupted": written.interrupted,
                "notes": notes + written.notes, "metadata": metadata}))
            return
        for path in written.paths[:1] if len(written.paths) > 6 else written.paths:
            output.tell(f"Wrote {path}")
        output.tell(f"{counted(written.frames, 'frame')} of {self.asked.enlargement.size} at "
                    f"{float(written.clip.fps):g} fps")
        if before and after:
            output.tell(f"Temporal error: {after}; {self.asked.clip.path.name} had {before}")
        if written.loop and self.asked.clip.closes:
            output.tell(f"Loop score: {written.loop}")
        output.notes([] if self.arguments.quiet else [*self.meter.notes, *written.notes])


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the given values, as `Refinement.of` takes them. Raises SettingsError, which names the flag."""
    from animatediff.clip.refine import ROWS

    rows = {**ROWS, "from_fps": table.BY_NAME["fps"]}
    given = vars(arguments)
    values = table.from_namespace(argparse.Namespace(**{name: given[name] for name in given if name not in rows}))
    values |= {name: row.read(given[name], f"--{name.replace('_', '-')}")
               for name, row in rows.items() if name in given}
    if "scale" in values and values.get("size"):
        raise SettingsError("a size is given as well", where="--scale", remedy="Give one of the two")
    return values
