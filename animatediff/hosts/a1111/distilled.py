"""Models that are distilled to few steps: the host's sampler and schedule type for `few_steps`, and the preset.

The preset works on the page and in the API.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules import sd_samplers, sd_samplers_timesteps

from animatediff import few_steps
from animatediff.errors import AnimateDiffError
from animatediff.hosts.a1111 import library
from animatediff.settings import Settings

# What the preset sets: our name -> (the host's name in requests, elem_id of its control on the page).
HOSTS_OWN = {"sampler": ("sampler_name", "{tab}_sampling"), "schedule_type": ("scheduler", "{tab}_scheduler"),
             "steps": ("steps", "{tab}_steps"), "cfg": ("cfg_scale", "{tab}_cfg_scale")}


def grid(sampler: Any, scheduler: Any) -> str:
    """Return the effective schedule type. sampler, scheduler: the host's names."""
    config = sd_samplers.all_samplers_map.get(sampler)
    if config is not None and sampler in {kin.name for kin in sd_samplers_timesteps.samplers_data_timesteps}:
        return "its own"  # DDIM and related samplers begin at a low timestep
    chosen = scheduler
    if chosen in (None, "", few_steps.AUTOMATIC):
        chosen = config.options.get("scheduler") if config is not None else None
    return _label(chosen) if chosen else "Uniform"


def _label(scheduler: str) -> str:
    """Return the label of a schedule type. Hosts before 1.9 have no labels; the name is returned then."""
    try:
        from modules import sd_schedulers
    except ImportError:
        return scheduler
    found = sd_schedulers.schedulers_map.get(scheduler)
    return found.label if found is not None else scheduler


def values(module: Any, prompt: Any) -> dict[str, Any]:
    """Return the preset's values by our names. module, prompt: the motion module and the prompt of the page or request.
    """
    image = library.checkpoint()
    try:
        name = library.find(str(module or "")).name
    except AnimateDiffError:
        name = str(module or "")
    return few_steps.preset(name, str(prompt or ""), image.name if image else "")


def filled(p: Any, settings: Settings, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of `p` that the preset sets for an API request.

    A value is set only if the request left it at the API's default. On the page the controls already have the preset's
    values.
    defaults: the API's defaults by our names.
    """
    if settings.preset != few_steps.FEW_STEPS or not getattr(p, "is_api", False):
        return {}
    left = (None, "", few_steps.AUTOMATIC)
    wanted = {HOSTS_OWN[name][0]: (value, (*left, defaults.get(name)))
              for name, value in values(settings.motion_module, p.prompt).items()}
    return {name: value for name, (value, given) in wanted.items() if hasattr(p, name) and getattr(p, name) in given}


def on_page(gr: Any, tab: str, page: Mapping[str, Any], preset: Any, module: Any, quiet: Mapping[str, Any]) -> None:
    """Connect the preset to the host's controls of its tab.

    The preset sets them when the user picks it, but not when it is pasted.
    page: components by their elem_id.
    """
    ids = {name: elem_id.format(tab=tab) for name, (_, elem_id) in HOSTS_OWN.items()}
    controls = {name: page[elem_id] for name, elem_id in ids.items() if elem_id in page}
    prompt = page.get(f"{tab}_prompt")

    def picked(choice: Any, name: Any, text: Any = "") -> list[Any]:
        wanted = values(name, text) if choice == few_steps.FEW_STEPS else {}
        return [gr.update(value=wanted[name]) if name in wanted else gr.update() for name in controls]

    if controls:
        preset.input(fn=picked, inputs=[preset, module, *([prompt] if prompt is not None else [])],
                      outputs=list(controls.values()), **quiet)
