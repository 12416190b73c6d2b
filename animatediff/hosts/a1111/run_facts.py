"""What the host knows of a run before it starts: its samplers and options, and which formats can be written."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from modules import sd_samplers, sd_samplers_timesteps, shared

from animatediff.clip.preflight import Asked, Found, Passes, Preflight, preflight
from animatediff.errors import AnimateDiffError
from animatediff.hosts.a1111 import library, motion_loras, motion_mask
from animatediff.hosts.shared.host_samplers import Sampler, from_picture_steps
from animatediff.media.write import WRITERS, probe
from animatediff.settings import Settings

# What a run depends on beside our settings: our name for it, and its name in the host's requests.
REQUESTED = {"steps": "steps", "sampler": "sampler_name", "clips": "n_iter", "hires": "enable_hr",
             "strength": "denoising_strength", "hires_steps": "hr_second_pass_steps",
             "hires_sampler": "hr_sampler_name", "prompt": "prompt", "negative": "negative_prompt"}


def requested(body: Mapping[str, Any]) -> dict[str, Any]:
    """Of a request to the host's API, what `of_run` takes. The API has a second name for the sampler."""
    asked = {ours: body.get(theirs) for ours, theirs in REQUESTED.items()}
    return asked | {"sampler": asked["sampler"] or body.get("sampler_index")}


def defaults(*, from_picture: bool) -> dict[str, Any]:
    """The values that the host's API takes for what a request leaves out, by our names."""
    from modules.api import models

    kinds = models.StableDiffusionImg2ImgProcessingAPI, models.StableDiffusionTxt2ImgProcessingAPI
    fields = kinds[0 if from_picture else 1].__fields__
    return requested({name: field.default for name, field in fields.items()})


def of_run(settings: Settings, host: Mapping[str, Any], *, from_picture: bool, sources: int | None = None) -> Preflight:
    """What a run will do. `host`: values under the names in REQUESTED; what is missing or empty is the API's default.
    sources: number of source pictures, where they make the frames."""
    known = {name: value for name, value in host.items() if value not in (None, "")}
    host = defaults(from_picture=from_picture) | known
    module, problem = library.described(settings.motion_module)
    prompt = str(host["prompt"])
    loras, missing = motion_loras.described(settings, prompt, settings.frame_count(sources))
    steps = int(host["steps"])
    first = sampler(sd_samplers.get_sampler_and_scheduler(host["sampler"], None)[0])
    strength = float(host["strength"]) if from_picture else 1.0
    done = from_picture_steps(steps, strength, exact=steps_are_exact()) if from_picture else steps
    passes = Passes(first, done, steps, from_picture,
                    hires_steps=(int(host["hires_steps"]) or steps) if host.get("hires") else 0,
                    hires_sampler=sampler(host.get("hires_sampler"), first))
    found = Found(module, problem, library.checkpoint(), loras, missing)
    prompts = prompt, str(host["negative"])
    return preflight(Asked(settings, passes, found, int(host["clips"]), sources, prompts, probed, motion_mask.read,
                           find_rife=library.find_rife))


def sampler(name: Any, otherwise: Sampler = Sampler()) -> Sampler:
    """The host's sampler of this name; `otherwise` for none, such as "Use same sampler"."""
    config = sd_samplers.all_samplers_map.get(name)
    if config is None:
        return otherwise
    timesteps = name in {kin.name for kin in sd_samplers_timesteps.samplers_data_timesteps}
    option = "discard_next_to_last_sigma"
    spare = config.options.get(option) or shared.opts.data.get(f"always_{option}")
    return Sampler(name, bool(config.options.get("second_order")), timesteps, bool(spare))


def steps_are_exact() -> bool:
    """Whether img2img does as many steps as the slider says."""
    return bool(shared.opts.data.get("img2img_fix_steps"))


def probed(formats: Iterable[str]) -> None:
    """Refuse formats that cannot be written here, as the run does; each combination is tried once."""
    error = _probed(tuple(name for name in formats if name in WRITERS))
    if error is not None:
        raise type(error)(error.what, where=error.where, remedy=error.remedy)


@lru_cache(maxsize=None)
def _probed(formats: tuple[str, ...]) -> AnimateDiffError | None:
    try:
        if formats:
            probe(formats)
    except AnimateDiffError as error:
        return error
    return None
