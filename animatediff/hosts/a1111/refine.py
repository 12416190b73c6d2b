"""Refining a finished clip in the host: the host's upscalers enlarge its frames, then img2img samples them in windows.

This runs inside a job of the host's queue, which the caller has begun. The request is an ordinary img2img request, so
other extensions take part. `alwayson_scripts` holds their arguments, as in the host's API.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from modules import images, processing, scripts, sd_samplers, shared
from PIL import Image

from animatediff.clip import job
from animatediff.clip.enlargement import sized
from animatediff.clip.finished import Finished, about
from animatediff.clip.infotext import by_webui_names
from animatediff.clip.refine import DENOISING, ROWS, annotated, resampled, sound_kept
from animatediff.errors import MediaError, SettingsError, end_of
from animatediff.hosts.a1111 import jobs, options, results
from animatediff.hosts.shared import infotext
from animatediff.hosts.shared.stop import AnimateDiffStopped
from animatediff.media.write import WRITERS, Target
from animatediff.parameters import Parameter
from animatediff.settings import BY_NAME, PARAMETERS, Settings

LANCZOS, LATENT, LATENT_UPSCALE = "Lanczos", "Latent", 3  # the host's names, and its resize mode for latents
REFINED = f"{infotext.KEY} refined"  # in the infotext
SCRIPTS = "alwayson_scripts"
UPSCALER = replace(ROWS["upscaler"], help="How frames are enlarged, by the WebUI's name: Lanczos, an upscaler model "
                   "such as R-ESRGAN 4x+, or Latent.")
# The host's own parameters: our name, the host's name in requests, its name in infotexts.
OF_HOST = (("prompt", "prompt", "Prompt"), ("negative", "negative_prompt", "Negative prompt"),
           ("seed", "seed", "Seed"), ("steps", "steps", "Steps"), ("cfg", "cfg_scale", "CFG scale"),
           ("sampler", "sampler_name", "Sampler"), ("schedule_type", "scheduler", "Schedule type"))
_NAMES = {"sampler", "schedule_type"}  # the host has more choices than our table
Place = Callable[[int], Target]
Progress = Callable[[int, int, str], bool]  # (frames done, total, text) -> whether the user has interrupted


@dataclass(frozen=True)
class Refined:
    """The result of an operation on a clip."""

    paths: list[Path]  # the files that play, or all frames
    first: Image.Image  # the first frame
    frames: int  # number of frames
    fps: float
    text: str  # the infotext
    notes: list[str] = field(default_factory=list)


def schema() -> dict[str, Any]:
    """Return the properties of a request as JSON schemas, including every parameter of a clip by its name."""
    rows = ROWS | {"upscaler": UPSCALER}
    own = {name: row.json_schema() for name, row in rows.items()}
    image = {name: BY_NAME[name].json_schema() for name in ("size", *(ours for ours, _, _ in OF_HOST))}
    for name in (*image, *_NAMES):
        image[name].pop("default", None)  # the clip's value is the default
        image[name].pop("enum", None) if name in _NAMES else None
    clip = {p.name: p.json_schema() for p in PARAMETERS if p.group == "clip" and p.name not in ("enable", "frames")}
    other = {SCRIPTS: {"type": "object", "title": "Other extensions", "description": "Their arguments, as in "
                       "/sdapi/v1/img2img."}}
    return own | image | clip | other


def refine(clip: Finished, values: Mapping[str, Any], samples: str, place: Place, progress: Progress) -> Refined:
    """Return the clip, refined. AnimateDiffError for an unusable clip or value.

    values: the requested values. All others are taken from the clip's infotext.
    samples: the host's folder for such pictures.
    place: returns the folder and file name of the result.
    """
    own = {name: row.read(values[name], name) for name, row in (ROWS | {"upscaler": UPSCALER}).items()
           if values.get(name) is not None}
    strength, upscaler = own.get("denoising_strength", DENOISING), _upscaler(own.get("upscaler", LANCZOS))
    host = _host_values(clip, values)
    apart = {*ROWS, SCRIPTS, *(name for ours, theirs, _ in OF_HOST for name in (ours, theirs))}
    given = {name: value for name, value in values.items() if name not in apart and value is not None}
    if not given.keys() & {"formats", *BY_NAME["formats"].aliases}:
        given["formats"] = [clip.format]
    settings, order = resampled(clip, given | {"denoising_strength": strength})
    arguments = _arguments(settings, values.get(SCRIPTS))
    size = clip.size
    width, height = _size(settings, size, own.get("scale", ROWS["scale"].default), exact=not strength)
    if not strength and (upscaler.startswith(LATENT) or ((width, height) == size and upscaler == LANCZOS)):
        raise SettingsError("without sampling, this leaves nothing to do", where="denoising_strength",
                            remedy="Use more than 0, or enlarge with an upscaler of pictures")
    note = {"from": {"name": clip.path.name}, "size": "x".join(map(str, size)), "to": f"{width}x{height}",
            "upscaler": upscaler, "denoising_strength": strength}
    order = order if strength else range(len(clip.seconds))
    frames = _enlarged(clip, order, (width, height), upscaler, progress)
    if not strength:
        return _written(clip, settings, frames, annotated(clip.text, note), place)
    p = _request(host, list(frames), (width, height), strength, samples)
    p.resize_mode = LATENT_UPSCALE if upscaler.startswith(LATENT) else 0
    p.extra_generation_params[REFINED] = f"{clip.path.name} {note['size']} to {note['to']} by {upscaler}"
    setattr(p, jobs.SOUND, sound_kept(clip, settings))
    with closing(p):
        p.script_args = arguments
        return _result(p, _processed(p))


def _size(settings: Settings, size: tuple[int, int], scale: float, *, exact: bool) -> tuple[int, int]:
    """Return width and height of the result. exact: allow sizes that are not multiples of the image model's."""
    if not settings.size:
        wanted = [max(1, round(side * scale)) for side in size]
        if exact:
            return wanted[0], wanted[1]
        settings = replace(settings, size=sized(*wanted))
    return settings.width, settings.height


def rows() -> tuple[Parameter, ...]:
    """Return the parameters that have controls on the page."""
    return tuple((ROWS | {"upscaler": replace(UPSCALER, choices=tuple(upscalers()))}).values())


def upscalers() -> list[str]:
    """Return the names of the host's upscalers."""
    known = [upscaler.name for upscaler in shared.sd_upscalers]
    return list(dict.fromkeys([LANCZOS, *(each for each in known if each != "None"), LATENT]))


def _upscaler(name: str) -> str:
    """Return the host's spelling of an upscaler's name. SettingsError for an unknown one."""
    names = upscalers()
    found = next((each for each in names if each.lower() == name.lower()), None)
    if found is None:
        raise SettingsError(f"there is no upscaler {name}", where="upscaler",
                            remedy=f"Use one of {', '.join(names)}.")
    return found


def _host_values(clip: Finished, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the host's own parameters by its names, from the request or else from the clip's infotext."""
    made = about(clip.text).get("settings")
    if not isinstance(made, dict):
        written = by_webui_names(clip.text)
        made = {ours: written[name] for ours, _, name in OF_HOST if name in written}
    found = {}
    for ours, theirs, _ in OF_HOST:
        row = BY_NAME[ours]
        value = next((values[name] for name in (ours, theirs) if values.get(name) is not None), None)
        if value is None:
            value = made.get(ours, row.default)
        found[theirs] = (Parameter(ours, str, "", row.label, "") if ours in _NAMES else row).read(value, ours)
    sampler, scheduler = sd_samplers.get_sampler_and_scheduler(found["sampler_name"], found["scheduler"])
    if not found["sampler_name"].lower().startswith(sampler.lower()):  # the host replaces unknown ones by its first
        raise SettingsError(f"there is no sampler {end_of(found['sampler_name'])}", where="sampler",
                            remedy="Use one of the WebUI's samplers.")
    return found | {"sampler_name": sampler, "scheduler": scheduler}


def _enlarged(clip: Finished, order: range, size: tuple[int, int], upscaler: str, progress: Progress
              ) -> Iterator[Image.Image]:
    """Yield the clip's frames in the given order and size.

    For latent upscaling, the size is the clip's own, rounded for the image model.
    """
    for number, picture in zip(order, clip.pictures()):
        if upscaler.startswith(LATENT):
            width, height = (int(side) for side in sized(*picture.size).split("x"))
            yield images.resize_image(1, picture, width, height, LANCZOS)
        else:
            yield images.resize_image(1, picture, *size, upscaler)
        if progress(number + 1, len(order), f"AnimateDiff: frame {number + 1} of {len(order)} enlarged"):
            raise MediaError(f"interrupted after {number + 1} of {len(order)} enlarged frames", where=clip.path.name)


def _request(host: Mapping[str, Any], frames: list[Image.Image], size: tuple[int, int], strength: float,
             samples: str) -> Any:
    """Return the host's img2img request."""
    p = processing.StableDiffusionProcessingImg2Img(
        sd_model=shared.sd_model, outpath_samples=samples, outpath_grids=samples, width=size[0], height=size[1],
        init_images=frames, denoising_strength=strength, do_not_save_grid=True, override_settings={}, **host)
    p.is_api = True  # otherwise the host's own scripts would use the page's steps and seed
    p.scripts = scripts.scripts_img2img
    return p


def _arguments(settings: Settings, others: Any) -> tuple[Any, ...]:
    """Return the arguments of all scripts: ours, those in the request for other extensions, and the page's defaults.

    others: the request's `alwayson_scripts`. SettingsError for an unusable one.
    """
    runner: Any = scripts.scripts_img2img
    found = [0, *(getattr(component, "value", None) for component in getattr(runner, "inputs", [None])[1:])]
    named = _of_others(others)
    for script in runner.alwayson_scripts:
        if isinstance(script, jobs.OurScript):
            given = [settings.to_dict(groups=("clip",))]
        else:
            given = named.pop(script.title().lower(), [])
        found += [None] * (script.args_to - len(found))
        given = given[: script.args_to - script.args_from]
        found[script.args_from : script.args_from + len(given)] = given
    if named:
        raise SettingsError(f"there is no extension {min(named)}", where=SCRIPTS, remedy="Leave it out.")
    return tuple(found)


def _of_others(scripts: Any) -> dict[str, list[Any]]:
    """Return the arguments in a request's `alwayson_scripts`, by the extensions' names in lower case."""
    entries = {} if scripts is None else scripts
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) and isinstance(entry.get("args", []), list)
                                                for entry in entries.values()):
        raise SettingsError("is no object with a list of arguments for each extension", where=SCRIPTS,
                            remedy='Send {"NAME": {"args": […]}}.')
    found = {name.lower(): entry.get("args", []) for name, entry in entries.items()}
    if infotext.KEY.lower() in found:
        raise SettingsError("has arguments for AnimateDiff itself", where=SCRIPTS,
                            remedy="Send its parameters beside alwayson_scripts.")
    return found


def _processed(p: Any) -> Any:
    try:
        return p.scripts.run(p, *p.script_args) or processing.process_images(p)
    except AnimateDiffStopped as stopped:
        raise stopped.error from stopped
    finally:
        shared.total_tqdm.clear()


def _result(p: Any, processed: Any) -> Refined:
    made = jobs.of(p)
    if made is None or not made.files.written:
        raise MediaError("no clip was made", remedy="See the log.")
    written = made.files.written[-1]
    return Refined(results.clips(written) or written.paths, written.held[0], written.frames, made.settings.fps,
                   written.text, made.notes)


def _written(clip: Finished, settings: Settings, frames: Iterator[Image.Image], text: str, place: Place) -> Refined:
    """Write the frames as files, without using a model."""
    files, first = job.Job(), None
    files.begin(job.Clip(len(clip.seconds), [name for name in settings.formats if name in WRITERS], settings.fps,
                         lambda known: text, place, settings.loop_number, options=options.write_options(),
                         sound=sound_kept(clip, settings)))
    try:
        for frame in frames:
            first = first or frame
            files.add(np.asarray(frame.convert("RGB")))
        written = files.finish()
    except BaseException as error:
        files.fail(error)
        raise
    assert written is not None and first is not None, "a clip has frames"
    return Refined(results.clips(written) or written.paths, first, written.frames, settings.fps, written.text,
                   written.notes)
