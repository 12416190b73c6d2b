"""The motion modules and motion LoRAs in the WebUI's folders, and whether modules fit the loaded checkpoint."""
from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from modules import paths, paths_internal, shared

from animatediff.clip import interpolation
from animatediff.clip.preflight import Checkpoint
from animatediff.errors import AnimateDiffError, ModelError
from animatediff.hosts.a1111.backend import BACKEND
from animatediff.hosts.a1111.options import FOLDER_OPTION, OWN_FOLDER
from animatediff.motion import library
from animatediff.motion.inject import check_fit
from animatediff.motion.library import Entry
from animatediff.motion.load import Description
from animatediff.unet.places import find_places

AUTOMATIC = ""  # module name that means the first module that fits
EXAMPLES = "v3_sd15_mm.ckpt for SD1.5 or hsxl_temporal_layers.safetensors for SDXL"
_known: WeakKeyDictionary[Any, Checkpoint] = WeakKeyDictionary()


def folders() -> list[Path]:
    """Return the folders searched for modules: the user's, this extension's, and those of older extensions."""
    own = str(shared.opts.data.get(FOLDER_OPTION) or "").strip()
    places = [Path(os.path.abspath(os.path.expanduser(own)))] if own else []
    places += [OWN_FOLDER, *(folder / "model" for folder in older_extensions())]
    return list(dict.fromkeys(places))


def older_extensions() -> list[Path]:
    """Return the folders of sd-webui-animatediff and its forks, recognised by their files, whether enabled or not."""
    return sorted(path.parent for path in Path(paths_internal.extensions_dir).glob("*/motion_module.py")
                  if (path.parent / "scripts" / "animatediff_mm.py").is_file())


def entries() -> list[Entry]:
    """Return all motion modules, first folder first.

    If several folders have a file of the same name, the first one is listed, which is also the one that `find` returns.
    """
    return [entry for entry in _listed(folders()) if entry.kind == library.MODULE]


def lora_entries() -> list[Entry]:
    """Return the motion LoRAs and domain adapters in the same folders and in the host's LoRA folder."""
    return [entry for entry in _listed([*folders(), hosts_folder()]) if entry.kind != library.MODULE]


def _listed(places: list[Path]) -> list[Entry]:
    first: dict[str, Entry] = {}
    for folder in places:
        try:
            listed = library.listing([folder]) if folder.is_dir() else []
        except AnimateDiffError as error:  # an unreadable folder must not hide the others
            listed = [Entry(str(folder), folder, problem=str(error))]
        for entry in listed:
            first.setdefault(entry.name, entry)
    return list(first.values())


def checkpoint() -> Checkpoint | None:
    """Return the checkpoint in memory, or None. `shared.sd_model` would load one, and block."""
    model = BACKEND.loaded()
    if model is None:
        return None
    unet = BACKEND.unet(model)
    name = getattr(getattr(model, "sd_checkpoint_info", None), "name_for_extra", "") or ""
    if unet is None:
        return Checkpoint(name, problem=_no_unet(name))
    if unet not in _known or _known[unet].name != name:
        try:
            places = find_places(unet)
            _known[unet] = Checkpoint(name, places.base, tuple(places.widths))
        except AnimateDiffError as error:
            _known[unet] = Checkpoint(name, problem=str(error))
    return _known[unet]


def find(name: str) -> Path:
    """Return the motion module of a request.

    name: a name or path inside `folders()`, with or without suffix, or "" for the first module that fits.
    Paths outside the folders are refused like unknown names, because requests come over the network.
    """
    places = folders()
    if name == AUTOMATIC:
        return _first_that_fits(places)
    path = Path(name)
    if path.is_absolute():
        inside = [folder for folder in places if library.inside(path, folder)]
        found = library.find(os.path.relpath(path, inside[0]), inside[:1]) if inside else None
    else:
        found = library.find(name, [folder for folder in places if folder.is_dir()])
    if found is None:
        raise ModelError("there is no such motion module", where=name,
                         remedy=_there_are() if entries() else missing_text())
    return found


def find_lora(name: str) -> Path:
    """Return the motion LoRA of a request, by a name or path inside `folders()` or the host's LoRA folder."""
    found = library.find(name, [folder for folder in folders() if folder.is_dir()]) or _of_host(name)
    if found is None:
        there = ", ".join(entry.name for entry in lora_entries()[:12])
        raise ModelError("there is no such motion LoRA", where=name,
                         remedy=f"There are {there or 'none'}; put one into {folders()[0]} or {hosts_folder()}.")
    return found


def find_network(name: str, method: str) -> Path | None:
    """Return the model file of a frame interpolation, by its name in `folders()`.

    For "", return the first file there of the method's network, or None.
    """
    found = interpolation.find_in(name, folders(), method)
    if name and found is None:
        raise ModelError("there is no such file of a network for frame interpolation", where=name,
                         remedy=f"Put it into {folders()[0]}.")
    return found


def tagged_lora(name: str) -> Path | None:
    """Return the file that <lora:name:…> names, if it is a motion LoRA or a domain adapter.

    Other LoRAs and unknown names are left to the host.
    """
    path = _of_host(name) or library.find(name, [folder for folder in folders() if folder.is_dir()])
    try:
        return path if path and library.describe_lora(path) else None
    except AnimateDiffError:
        return None


def hosts_folder() -> Path:
    """Return the host's folder of LoRAs."""
    return Path(getattr(shared.cmd_opts, "lora_dir", None) or Path(paths.models_path) / "Lora")


def _of_host(name: str) -> Path | None:
    """Return the file of a name in the host's LoRA folder. The host's Lora extension also knows names stored in files.
    """
    known = getattr(sys.modules.get("networks"), "available_network_aliases", {}).get(name)
    path = Path(known.filename) if known else library.find(name, [hosts_folder()])
    return path if path and path.is_file() else None


def described(name: str) -> tuple[Description | None, AnimateDiffError | None]:
    """Return the description of the module that `find` finds, or the error."""
    try:
        return library.describe(find(name)), None
    except AnimateDiffError as error:
        return None, error


def misfit(entry: Entry, image: Checkpoint | None) -> str:
    """Return why the loaded checkpoint cannot use this module, or "" if it can or if that is unknown."""
    if entry.problem:
        return entry.problem
    if image is None:
        return ""
    if image.problem:
        return image.problem
    try:
        check_fit(image, library.describe(entry.path))
    except AnimateDiffError as error:
        return str(error)
    return ""


def label(entry: Entry, image: Checkpoint | None) -> str:
    """Return the entry's label in a list, such as `mm_v3.ckpt (v3, 16 frames)`."""
    if entry.problem:
        return f"{entry.name} (cannot be used)"
    fit = "; does not fit the checkpoint" if misfit(entry, image) else ""
    return f"{entry.name} ({entry.family}, {entry.trained_frames} frames{fit})"


def missing_text() -> str:
    """Return what to do if there is no motion module at all."""
    return f"Put one, such as {EXAMPLES}, into {folders()[0]} and press the refresh button beside Motion module."


def _first_that_fits(places: list[Path]) -> Path:
    image, listed = checkpoint(), entries()
    for entry in listed:
        if not misfit(entry, image):
            return entry.path
    where = ", ".join(map(str, places))
    if not listed:
        raise ModelError("there is no motion module", where=where, remedy=missing_text())
    if len(listed) == 1:
        raise ModelError(misfit(listed[0], image))
    reason = "can be used" if image is None or image.problem else f"fits the checkpoint {image.name} ({image.base})"
    raise ModelError(f"none of the {len(listed)} motion modules {reason}", where=where,
                     remedy=f"Put one that fits there, such as {EXAMPLES}, or change the checkpoint.")


def _there_are() -> str:
    names = [entry.name for entry in entries() if not entry.problem]
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"There are {shown or 'none that can be used'}, in {', '.join(map(str, folders()))}."


def _no_unet(name: str) -> str:
    return str(ModelError("this kind of checkpoint has no UNet", where=name or "checkpoint",
                          remedy="Choose an SD1.5 or SDXL checkpoint."))
