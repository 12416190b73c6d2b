"""What a run is: for the file that carries its clip, and for a run that goes on with it."""
from __future__ import annotations

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from animatediff import loras
from animatediff.engine import models, pictures
from animatediff.clip.resume import content
from animatediff.media import masks
from animatediff.settings import BY_NAME, Settings
from animatediff.travel import Schedule
from animatediff.version import __version__

if TYPE_CHECKING:
    from animatediff.engine.pipeline import Pipeline


def identity(pipeline: Pipeline, settings: Settings) -> dict:
    """What a run must have in common with one that it goes on with. `settings` as `Pipeline.resolve` returned them."""
    files = {"checkpoint": pipeline.components.path, "motion module": pipeline.module_path}
    named = {f"motion LoRA {wish.name}": models.find_lora(wish.name) for wish in pipeline.wishes(settings)}
    sources = {BY_NAME[name].label: {"name": about["name"], "content": about["sha256"]}
               for name, about in pictures.metadata(settings).items()}
    ours = (models.DEMO_CHECKPOINT, models.DEMO_MODULE)
    own = settings.to_dict() | {name.replace(" ", "_"): "" if path in ours else str(path.resolve())
                                for name, path in files.items() if path}
    return {"animatediff": __version__, "torch": torch.__version__.split("+")[0],
            "diffusers": importlib.metadata.version("diffusers"), "device": pipeline.device.type,
            "precision": str(pipeline.dtype).removeprefix("torch."), "settings": own,
            **{name: {"name": path.name, "content": content(path)} for name, path in (files | named).items() if path},
            **sources}


def metadata(pipeline: Pipeline, settings: Settings) -> dict:
    """What a file must carry so that its clip can be made again. `settings` as `Pipeline.resolve` returned them.

    Models are named without their folders, which are nobody else's business.
    """
    values = settings.to_dict() | pictures.named(settings)
    for key, path, demo in (("motion_module", pipeline.module_path, models.DEMO_MODULE),
                            ("checkpoint", pipeline.components.path, models.DEMO_CHECKPOINT)):
        values[key] = "" if path == demo else (path or Path(values[key])).name
    values["motion_lora"] = loras.without_folders(settings.motion_lora)
    about: dict = {"animatediff": __version__, "settings": values, "prompts": _prompts(pipeline.schedules(settings)[0]),
                   "seed": settings.seed, "checkpoint": {"name": pipeline.components.name}}
    if sources := pictures.metadata(settings):
        about["pictures"] = sources
    if settings.enable and pipeline.module is not None:
        about["motion_module"] = {"name": pipeline.module.name, "family": pipeline.module.family.name}
        if pipeline.module_path is not None and pipeline.module_path.is_file():
            about["motion_module"]["sha256"] = sha256(pipeline.module_path)
        if settings.motion_mask:
            path = Path(settings.motion_mask).expanduser()
            values["motion_mask"] = masks.without_home(settings.motion_mask)
            about["motion_mask"] = {"name": path.name, "sha256": sha256(path)}
    return about


def metadata_text(about: dict) -> str:
    """The one string that writers put into every format."""
    return json.dumps(about, ensure_ascii=True, separators=(", ", ": "))


def _prompts(schedule: Schedule) -> dict[str, str]:
    """Where the nearest prompt changes: number of the frame and prompt."""
    nearest = schedule.nearest
    return {str(i): text for i, text in enumerate(nearest) if not i or text != nearest[i - 1]}


def sha256(path: Path) -> str:
    """Of the file's bytes, so that a clip names the very module it was made with."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
