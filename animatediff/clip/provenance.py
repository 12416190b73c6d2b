"""Describe a run: as metadata in the clip's file, and as identity to check a resumed run against."""
from __future__ import annotations

import hashlib
import json
from pathlib import Path

from animatediff import loras, user_paths
from animatediff.clip import pictures
from animatediff.clip.backend import Backend
from animatediff.clip.plan import Plan
from animatediff.clip.resume import content
from animatediff.media import masks
from animatediff.settings import BY_NAME
from animatediff.travel import Schedule
from animatediff.version import __version__


def identity(plan: Plan, backend: Backend) -> dict:
    """Return the values that a run must share with the run that it resumes."""
    models, settings = backend.models, plan.settings
    files = {"checkpoint": models.checkpoint_file, "motion module": models.module_file}
    named = {f"motion LoRA {each.name}": each.path for each in plan.inputs.loras}
    sources = {BY_NAME[name].label: {"name": about["name"], "content": about["sha256"]}
               for name, about in pictures.metadata(settings, plan.inputs.pictures).items()}
    own = settings.to_dict() | {name.replace(" ", "_"): "" if path in models.shipped else str(path.resolve())
                                for name, path in files.items() if path}
    if settings.sound_file and plan.inputs.sound:
        named["sound"] = plan.inputs.sound.path
    return {"animatediff": __version__, **models.libraries, "device": backend.device.type,
            "precision": str(backend.dtype).removeprefix("torch."), "settings": own,
            **{name: {"name": path.name, "content": content(path)} for name, path in (files | named).items() if path},
            **sources}


def metadata(plan: Plan, backend: Backend) -> dict:
    """Return the metadata with which the clip in a file can be made again.

    Models are named without their folders, for privacy.
    """
    models, settings, module = backend.models, plan.settings, backend.module
    values = settings.to_dict() | pictures.named(settings)
    for key, path in (("motion_module", models.module_file), ("checkpoint", models.checkpoint_file)):
        values[key] = "" if path in models.shipped else (path or Path(values[key])).name
    values["motion_lora"] = loras.without_folders(settings.motion_lora)
    about: dict = {"animatediff": __version__, "settings": values, "prompts": _prompts(plan.inputs.prompt),
                   "seed": settings.seed, "checkpoint": {"name": models.checkpoint}}
    if sources := pictures.metadata(settings, plan.inputs.pictures):
        about["pictures"] = sources
    if settings.enable and module is not None:
        about["motion_module"] = {"name": module.name, "family": module.family.name}
        if models.module_file is not None and models.module_file.is_file():
            about["motion_module"]["sha256"] = sha256(models.module_file)
        if settings.motion_mask:
            path = user_paths.named(settings.motion_mask)
            values["motion_mask"] = masks.without_home(settings.motion_mask)
            about["motion_mask"] = {"name": path.name, "sha256": sha256(path)}
    if settings.sound_file and plan.inputs.sound:
        values["audio"] = masks.without_home(settings.audio)
        about["audio"] = {"name": plan.inputs.sound.path.name, "sha256": sha256(plan.inputs.sound.path)}
    return about


def metadata_text(about: dict) -> str:
    """Return the metadata as the text that is stored in every file format."""
    return json.dumps(about, ensure_ascii=True, separators=(", ", ": "))


def _prompts(schedule: Schedule) -> dict[str, str]:
    """Return the prompt for each frame number at which the nearest prompt changes."""
    nearest = schedule.nearest
    return {str(i): text for i, text in enumerate(nearest) if not i or text != nearest[i - 1]}


def sha256(path: Path) -> str:
    """Return the SHA-256 of the file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
