"""Axes of the X/Y/Z plot script, one for each parameter of a clip.

An axis stores its value on the cell's own `p`, as `p.animatediff_xyz = {name: value}`. These values override the page's
controls when the request is read. The script copies `p` shallowly for each cell, so the dict is replaced and never
modified.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from modules import scripts

from animatediff.errors import SettingsError
from animatediff.parameters import Parameter
from animatediff.settings import PARAMETERS, Settings

ATTRIBUTE = "animatediff_xyz"
PREFIX = "[AnimateDiff] "
MODULES = ("xyz_grid.py", "xy_grid.py", "scripts.xyz_grid", "scripts.xy_grid")


def add() -> None:
    """Add the axes, before the page is built.

    The host may build the page again; axes whose label already exists are left as they are. The preset has no axis: it
    sets controls of the page, which a plot does not have.
    """
    grid = _script()
    if grid is None:
        return
    there = {option.label for option in grid.axis_options}
    for p in PARAMETERS:
        label = PREFIX + p.label
        if p.group == "clip" and p.form != "picture" and p.name != "preset" and label not in there:
            # Loading another motion module is slow. The cost makes that axis change least often.
            cost = 0.5 if p.name == "motion_module" else 0.0
            grid.axis_options.append(grid.AxisOption(
                label, _type(p), _apply(p), confirm=_confirm(p), choices=choices(p), cost=cost))


def _script() -> ModuleType | None:
    return next((data.module for data in scripts.scripts_data
                 if data.script_class.__module__ in MODULES and hasattr(data.module, "axis_options")), None)


def _type(p: Parameter) -> Callable[[Any], Any]:
    """Return int or float, for which the script reads ranges such as 8-32 (+8), or str for everything else."""
    return p.type if p.type in (int, float) else str


def _apply(p: Parameter) -> Callable[[Any, Any, Sequence[Any]], None]:
    def apply(processing: Any, value: Any, values: Sequence[Any]) -> None:
        setattr(processing, ATTRIBUTE, {**(getattr(processing, ATTRIBUTE, None) or {}), p.name: _read(p, value)})

    return apply


def _confirm(p: Parameter) -> Callable[[Any, Sequence[Any]], None]:
    """Return a function that reads all values before the first picture is made, so that no plot fails halfway."""
    def confirm(processing: Any, values: Sequence[Any]) -> None:
        for value in values:
            _read(p, value)

    return confirm


def _read(p: Parameter, value: Any) -> Any:
    """Return the parsed value, or raise a SettingsError with the attributes that the host's API needs to answer 422."""
    try:
        read = p.read(value)
        if p.name != "overlap":  # its range depends on the context length
            Settings(**{p.name: read})
        return read
    except SettingsError as error:
        vars(error).update(status_code=error.http_status, detail=str(error))
        raise


def choices(p: Parameter) -> Callable[[], list[str]] | None:
    """Return a function that lists the choices for the script, or None.

    A list of formats has no choices; the user types it, as "GIF, MP4".
    """
    if p.name == "motion_module":
        def modules() -> list[str]:
            from animatediff.hosts.a1111 import library

            return [entry.name for entry in library.entries() if not entry.problem]

        return modules
    if p.name == "motion_lora":
        def motion_loras() -> list[str]:
            from animatediff.hosts.a1111 import library

            return ["", *(entry.name for entry in library.lora_entries())]

        return motion_loras
    if p.type is bool:
        return lambda: ["True", "False"]
    if p.type is str and p.choices:
        return lambda: list(p.choices)
    return None
