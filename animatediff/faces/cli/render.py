"""`animatediff render`: make a clip from the command line's arguments, write its files, and print a report."""
from __future__ import annotations

import argparse
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from animatediff.errors import SettingsError
from animatediff.faces.cli import output, request
from animatediff.faces.cli.output import counted
from animatediff.settings import Settings

if TYPE_CHECKING:
    from animatediff.clip.job import Clip, Written
    from animatediff.clip.plan import Plan
    from animatediff.engine.pipeline import Pipeline
    from animatediff.media.write import Target

INTERRUPTED = 130  # as shells report SIGINT


def render(arguments: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    begun, found = resumed(arguments)
    settings, source = request.settings_of(arguments, found and found["about"]["settings"])
    from animatediff.media.write import Target

    place = Target(f"{begun.parent}/", begun.stem) if begun else None
    inputs = request.inputs(settings, arguments, place)
    files = request.model_files(settings, arguments)
    between = request.interpolation(inputs)
    note = output.quietly if arguments.quiet else output.say
    note("Loading …")
    pipeline = loaded(settings)
    from animatediff.clip import job, provenance, resume

    plan = pipeline.plan(inputs)
    settings, calls = plan.settings, plan.calls(found) or 0
    identity, about = provenance.identity(plan, pipeline), provenance.metadata(plan, pipeline)
    if begun and found:
        resume.refuse_differences(found, identity, begun)
        note(f"Continuing after {counted(found['step'], 'step')} of {found['stage']}")
    notices = [*plan.notices, *request.differences(source, about)]
    for line in (*_inputs_described(plan), *(f"Note: {notice}" for notice in notices)):
        note(line)
    note(f"{counted(settings.frames, 'frame')} of {settings.size}, {counted(calls, 'UNet call')}, "
         f"{files[0].name} on {files[1].name}, {pipeline.device}, {str(pipeline.dtype).removeprefix('torch.')}")
    keeper = resume.Keeper(None, identity, every=arguments.save_state, found=found)
    clip = clip_of(plan, about, arguments.out, place)
    if between is not None:
        about["interpolation"] = [between.note()]
        clip = replace(clip, interpolation=between.on(pipeline.device))
        played = len(plan.playback)
        note(f"Interpolation: {played} frames to {played * settings.interp_x}, {float(between.fps):g} fps, "
             f"{between.description}")
    with output.Progress(calls, hidden=arguments.quiet) as progress:
        written = job.run(partial(pipeline.render, plan), clip, keeper, progress)
    resumable = keeper.path is not None and keeper.path.exists()
    report(arguments, settings, written, notices + progress.notes, resumable=resumable)
    return INTERRUPTED if written.interrupted else 0


def _inputs_described(plan: Plan) -> Iterator[str]:
    """Yield the lines on the source and the sound that are printed before the run."""
    from animatediff.clip import sounds

    if plan.inputs.source and plan.inputs.source.count > 1:
        yield f"Source: {plan.inputs.source.chosen.description}"
    if plan.inputs.sound:
        yield f"Sound: {sounds.description(plan.inputs.sound)}"
        for name, bars in sounds.plots(plan.settings):
            yield f"{name}: {bars}"


def resumed(arguments: argparse.Namespace, *, refines: bool = False) -> tuple[Path, dict[str, Any]] | tuple[None, None]:
    """Return the file and the state of the run to resume.

    Returns None for both without --resume, and if there is no state but enough is given to begin a new run. Without
    either, raises SettingsError.
    refines: whether the command is `refine`.
    """
    if arguments.save_state < 0:
        raise SettingsError(f"{arguments.save_state} is below 0", where="--save-state", remedy="Use 0 (never) or more")
    if not arguments.resume:
        return None, None
    from animatediff.clip import resume

    path = resume.newest(arguments.out, request.is_folder(arguments.out))
    if path is None:
        if not (getattr(arguments, "prompt", None) or arguments.source):
            raise SettingsError("there is no run here to continue", where=arguments.out,
                                remedy="Give its --out, or a prompt for a new run")
        output.say("Note: there is no run to continue; a new one begins")
        return None, None
    found = resume.load(path)
    if (resume.REFINED in found["about"]) != refines:
        command = "render" if refines else "refine"
        raise SettingsError(f"this is the state of a run of {command}", where=str(path),
                            remedy=f"Continue it with animatediff {command} --resume")
    return path, found


def loaded(settings: Settings) -> Pipeline:
    """Load the pipeline of these settings, with the warnings of libraries switched off."""
    from animatediff.engine.pipeline import Pipeline

    # Deprecation warnings of libraries do not concern users.
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    for name in ("diffusers", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return Pipeline.load(settings.checkpoint, settings.motion_module, device=settings.device, dtype=settings.dtype)


def clip_of(plan: Plan, about: dict[str, Any], out: str, place: Target | None) -> Clip:
    """Return the clip to write. place: target of a resumed run, None for a new one."""
    from animatediff.clip import colour, writing
    from animatediff.clip.job import Clip, Known
    from animatediff.clip.provenance import metadata_text

    def text(known: Known) -> str:
        more: dict[str, Any] = {"memory": list(known.shortages)} if known.shortages else {}
        if known.loop:
            more["loop"] = known.loop.to_dict()
        if known.score:
            more["score"] = known.score.to_dict()
        return metadata_text(about | more)

    settings, pictures = plan.settings, plan.inputs.pictures
    first = None if pictures is None else pictures.first
    reference = None if first is None else lambda index: first[min(plan.playback[index], len(first) - 1)]
    return Clip(len(plan.playback), settings.formats, settings.fps, text,
                lambda taken: place or request.target(out, settings, taken),  # `settings` has the seed that was drawn
                settings.loop_number, options=writing.options(settings), sound=plan.inputs.sound, score=settings.score,
                match=colour.of(settings, reference), alpha=pictures and pictures.alpha_of(plan.playback))


def report(arguments: argparse.Namespace, settings: Settings, written: Written, notes: list[str], *,
           resumable: bool) -> None:
    """Print the report on a clip. resumable: whether the run's state was kept."""
    about = json.loads(written.text)
    if arguments.json:
        output.tell(json.dumps({
            "written": [str(path) for path in written.paths], "frames": written.frames,
            "interrupted": written.interrupted, "loop": about.get("loop"),
            "score": about.get("score"), "notes": notes + written.notes,
            "settings": settings.to_dict(), "metadata": about}))
    else:
        output.print_report(written, settings)
    if written.interrupted:
        output.interrupted(written.frames)
        if resumable:
            output.say("The same command with --resume continues from here")
