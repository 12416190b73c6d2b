"""What a request to refine a clip says about the host's own parameters and about other extensions."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules import scripts, sd_samplers

from animatediff.clip.finished import Finished, about
from animatediff.clip.infotext import by_webui_names
from animatediff.errors import SettingsError, end_of
from animatediff.hosts.a1111 import jobs
from animatediff.hosts.shared import infotext
from animatediff.parameters import Parameter
from animatediff.settings import BY_NAME, Settings

SCRIPTS = "alwayson_scripts"
# The host's own parameters: our name, the host's name in requests, its name in infotexts.
OF_HOST = (("prompt", "prompt", "Prompt"), ("negative", "negative_prompt", "Negative prompt"),
           ("seed", "seed", "Seed"), ("steps", "steps", "Steps"), ("cfg", "cfg_scale", "CFG scale"),
           ("sampler", "sampler_name", "Sampler"), ("schedule_type", "scheduler", "Schedule type"))
NAMES = {"sampler", "schedule_type"}  # the host has more choices than our table


def host_values(clip: Finished, values: Mapping[str, Any]) -> dict[str, Any]:
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
        found[theirs] = (Parameter(ours, str, "", row.label, "") if ours in NAMES else row).read(value, ours)
    sampler, scheduler = sd_samplers.get_sampler_and_scheduler(found["sampler_name"], found["scheduler"])
    if not found["sampler_name"].lower().startswith(sampler.lower()):  # the host replaces unknown ones by its first
        raise SettingsError(f"there is no sampler {end_of(found['sampler_name'])}", where="sampler",
                            remedy="Use one of the WebUI's samplers.")
    return found | {"sampler_name": sampler, "scheduler": scheduler}


def arguments(settings: Settings, others: Any) -> tuple[Any, ...]:
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
