"""Facts about a run before it starts: the host's samplers and options, and the formats that can be written."""
from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from typing import Any

from modules import sd_samplers, sd_samplers_timesteps, shared

from animatediff import few_steps
from animatediff.clip import writing
from animatediff.clip.preflight import Preflight, Request, RunModels, preflight
from animatediff.clip.sampled import Sampled
from animatediff.clip.source import SourceFrames, mask_notices
from animatediff.errors import AnimateDiffError
from animatediff.hosts.a1111 import distilled, library, motion_loras, motion_mask, options, server_sound, source
from animatediff.hosts.shared import host_samplers
from animatediff.hosts.shared.host_samplers import Placed, Sampler
from animatediff.media.write import WRITERS, WriteOptions, probe
from animatediff.parameters import Parameter
from animatediff.sampling.from_pictures import shares
from animatediff.settings import Settings

# The host's values that a run depends on: our name -> the name in the host's requests.
REQUESTED = {"steps": "steps", "sampler": "sampler_name", "clips": "n_iter", "hires": "enable_hr",
             "scheduler": "scheduler", "cfg": "cfg_scale",
             "strength": "denoising_strength", "hires_steps": "hr_second_pass_steps",
             "hires_sampler": "hr_sampler_name", "prompt": "prompt", "negative": "negative_prompt"}
MOST = 10_000  # limit of steps and of clips
MASKS = 500  # frames whose masks are read to check the file
# Types and limits of these values, which the host itself does not check.
ROWS = {p.name: p for p in (
    Parameter("steps", int, 20, "Sampling steps", "", 1, MOST),
    Parameter("clips", int, 1, "Batch count", "", 1, MOST),
    Parameter("hires", bool, False, "Hires. fix", ""),
    Parameter("hires_steps", int, 0, "Hires steps", "", 0, MOST),
    Parameter("strength", float, 0.75, "Denoising strength", "", 0, 1),
    Parameter("cfg", float, 7.0, "CFG Scale", "", 0, 1000),
    *(Parameter(name, str, "", label, "") for name, label in (
        ("sampler", "Sampling method"), ("scheduler", "Schedule type"), ("hires_sampler", "Hires sampling method"),
        ("prompt", "Prompt"), ("negative", "Negative prompt"))))}


def requested(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments `host` of `of_run` from a request to the host's API, which has two names for the sampler."""
    asked = {ours: body.get(theirs) for ours, theirs in REQUESTED.items()}
    return asked | {"sampler": asked["sampler"] or body.get("sampler_index")}


def check_numbers(p: Any) -> None:
    """Raise a SettingsError if a number of the host's job is out of range. The host does not check them."""
    for name in ("steps", "clips", "hires_steps"):
        if (value := getattr(p, REQUESTED[name], None)) is not None:
            ROWS[name].read(value, REQUESTED[name])


def defaults(*, from_picture: bool) -> dict[str, Any]:
    """Return the API's default values, by our names."""
    from modules.api import models

    kinds = models.StableDiffusionImg2ImgProcessingAPI, models.StableDiffusionTxt2ImgProcessingAPI
    fields = kinds[0 if from_picture else 1].__fields__
    return requested({name: field.default for name, field in fields.items()})


def of_run(settings: Settings, host: Mapping[str, Any], *, from_picture: bool, sources: int | None = None,
           anywhere: bool = False) -> Preflight:
    """Return what a run will do. SettingsError for an unusable value.

    host: values by the names in REQUESTED. Missing and empty values are the API's defaults.
    sources: number of source pictures, if they determine the frames.
    anywhere: whether a path may lead to any file; see server_files.
    """
    known = {name: ROWS[name].read(value, REQUESTED[name]) for name, value in host.items() if value not in (None, "")}
    preset = {}
    if settings.preset == few_steps.FEW_STEPS:  # it sets the values that the request does not
        preset = distilled.values(settings.motion_module, known.get("prompt"))
        preset["scheduler"] = preset.pop("schedule_type")
    host = defaults(from_picture=from_picture) | preset | known
    module, problem = library.described(settings.motion_module)
    settings, video, problems, said = _source(settings, anywhere=anywhere)
    steps, cfg = int(host["steps"]), float(host.get("cfg") or 1)
    name = sd_samplers.get_sampler_and_scheduler(host["sampler"], None)[0]
    strength = float(host["strength"]) if from_picture else None
    second = None
    if host.get("hires"):
        second = Sampled(_second(host.get("hires_sampler"), name), steps=int(host["hires_steps"]) or steps, cfg=cfg,
                         strength=1.0, exact=True)
    if strength is not None:
        with suppress(AnimateDiffError):  # the preflight itself reports this curve
            strength *= float(shares(settings, settings.frame_count(video.count if video else sources)).max())
    sampled = Sampled(name, str(host.get("scheduler") or ""), steps, cfg, strength, steps_are_exact(), second)
    models = RunModels(module, problem, library.checkpoint())
    prompts = str(host["prompt"]), str(host["negative"])

    def read_mask(value: str, count: int) -> Any:
        return motion_mask.read(value, min(count, MASKS), anywhere=anywhere)

    return preflight(Request(settings, sampled, placed, distilled.grid(name, host.get("scheduler")), models,
                           int(host["clips"]), sources, prompts, probed, read_mask,
                           partial(motion_loras.described, settings), library.find_network,
                           partial(server_sound.of, anywhere=anywhere), video, problems, said))


def _source(settings: Settings, *, anywhere: bool
            ) -> tuple[Settings, SourceFrames | None, tuple[AnimateDiffError, ...], tuple[str, ...]]:
    """Return the settings for infotexts, the frames of the source video, the errors of the files that the settings name
    or contain, and notices of the source's mask.
    """
    errors: tuple[AnimateDiffError, ...] = ()
    try:
        settings = server_sound.named(settings)
    except AnimateDiffError as error:
        settings, errors = replace(settings, audio=""), (error,)
    try:
        settings = source.named(settings)
        video = source.SourceVideo.read(settings, anywhere=anywhere)
        said = mask_notices(str(video.mask), video.frames) if video and video.mask else ()
        return settings, video and video.frames, errors, said
    except AnimateDiffError as error:
        return replace(settings, video_source="", video_path="", mask_path=""), None, (*errors, error), ()


def sampled_of(p: Any) -> Sampled:
    """Return how a job of the host samples its clips."""
    name = sd_samplers.get_sampler_and_scheduler(p.sampler_name, None)[0]
    steps, cfg, second = int(p.steps), float(p.cfg_scale), None
    if getattr(p, "enable_hr", False):
        second = Sampled(_second(p.hr_sampler_name, name), steps=int(p.hr_second_pass_steps or steps), cfg=cfg,
                         strength=p.denoising_strength, exact=True)
    strength = p.denoising_strength if getattr(p, "init_images", None) else None
    return Sampled(name, getattr(p, "scheduler", None) or "", steps, cfg, strength, steps_are_exact(), second)


def placed(sampled: Sampled) -> Placed:
    """Return a run of the host's sampler with the step of each call."""
    return host_samplers.placed(sampler(sampled.sampler), sampled)


def _second(name: Any, first: str) -> str:
    """Return the sampler of Hires. fix, which may be named "Use same sampler"."""
    return name if name in sd_samplers.all_samplers_map else first


def sampler(name: str) -> Sampler:
    """Return the host's sampler of this name."""
    config = sd_samplers.all_samplers_map.get(name)
    if config is None:
        return Sampler()
    timesteps = name in {kin.name for kin in sd_samplers_timesteps.samplers_data_timesteps}
    option = "discard_next_to_last_sigma"
    spare = config.options.get(option) or shared.opts.data.get(f"always_{option}")
    return Sampler(name, bool(config.options.get("second_order")), timesteps, bool(spare))


def steps_are_exact() -> bool:
    """Whether img2img does as many steps as the slider says."""
    return bool(shared.opts.data.get("img2img_fix_steps"))


def probed(settings: Settings) -> None:
    """Raise an error if the files cannot be written here. Each combination of formats and options is tried once."""
    formats = tuple(name for name in settings.formats if name in WRITERS)
    error = _probed(formats, writing.options(settings, options.write_options()), bool(settings.sound_file))
    if error is not None:
        raise type(error)(error.what, where=error.where, remedy=error.remedy)


@cache
def _probed(formats: tuple[str, ...], how: WriteOptions, sound: bool) -> AnimateDiffError | None:
    try:
        if formats:
            probe(formats, how, sound=sound)
    except AnimateDiffError as error:
        return error
    return None
