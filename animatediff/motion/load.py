"""Load a motion module from a file or state dict: detect the family, rename the keys, check every tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from animatediff import few_steps
from animatediff.errors import ModelError
from animatediff.few_steps import Distilled
from animatediff.motion.families import Family, detect_shapes
from animatediff.motion.layers import GROUPS
from animatediff.motion.module import MotionModule
from animatediff.motion.naming import to_original
from animatediff.weights import numbers
from animatediff.weights.boundary import name_of, reading
from animatediff.weights.evidence import Evidence
from animatediff.weights.files import WeightFile, read_config
from animatediff.weights.naming import site_of, unwrap

_SITE_NORM = "temporal_transformer.norm.weight"
# Limits far above published modules. A file's claims are checked before anything of that size is allocated.
_MOST_POSITIONS, _MOST_CHANNELS, _MOST_HEADS = 4_096, 16_384, 1_024
_OTHER_DOWNLOAD = "The file is damaged or of a kind that is not supported: try another download."


@dataclass(frozen=True)
class Description:
    """The properties of a motion module that its file's shapes, config and name show."""

    name: str
    family: Family
    widths: tuple[int, ...]  # channels per level, outermost first
    max_frames: int
    heads: int = 8  # from a diffusers folder's config; tensors do not show it
    distilled: Distilled | None = None  # few-step distillation, from the file's name or title


def describe(path: Path | str) -> Description:
    """Return the Description of a file without reading its weights. Raises ModelError if it cannot be used."""
    path, name = Path(path), name_of(path)
    with reading(path):
        file = WeightFile(path)
        return _described(file, path, name)


def load(source: Path | str | Mapping[str, Any], *, name: str = "", dtype: torch.dtype | None = None) -> MotionModule:
    """Return a motion module from a file, a diffusers folder or a state dict, in any naming.

    The module is on the CPU, in eval mode and frozen. Raises ModelError if it cannot be used.

    name: name of the module in messages.
    dtype: dtype of the weights; None keeps the file's.
    """
    if isinstance(source, Mapping):
        name = name or "the motion module"
        with reading(name):
            tensors = unwrap(source)
            about = _describe({key: tuple(t.shape) for key, t in tensors.items()}, name, {})
            tensors = {key: tensor for key, tensor in tensors.items() if site_of(key)}
            numbers.check(name, tensors)
            # A module built from a state dict owns its tensors: training it must not change the caller's.
            return _filled(about, {key: tensor.clone() for key, tensor in tensors.items()}, dtype)
    path, name = Path(source), name or name_of(source)
    with reading(path):
        file = WeightFile(path)
        about = _described(file, path, name)
        tensors = file.tensors(filter(site_of, file.shapes), dtype)
        numbers.check(name, tensors, lambda key: file.read_some([key])[key])
        return _filled(about, tensors, dtype)


def _filled(about: Description, tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> MotionModule:
    with torch.device("meta"):
        module = skeleton(about)
    module.load_state_dict(to_original(tensors), assign=True)
    module.requires_grad_(False).eval()
    module.distilled = about.distilled
    return module.to(dtype) if dtype else module


def _described(file: WeightFile, path: Path, name: str) -> Description:
    about = _describe(file.shapes, name, read_config(path))
    numbers.check_formats(name, ((key, dtype) for key, dtype in file.dtypes.items() if site_of(key)))
    distilled = few_steps.recognised(path.name, *file.titles)
    if distilled is None and about.family.betas.lcm_steps:
        distilled = few_steps.ANIMATE_LCM
    return replace(about, distilled=distilled)


def _describe(shapes: Mapping[str, tuple[int, ...]], name: str, config: Mapping[str, Any]) -> Description:
    family = detect_shapes(shapes, name)
    original = to_original(shapes)
    widths = tuple(_width(original, level, name) for level in range(family.levels))
    positions = Evidence(shapes).positions or family.max_frames
    if positions > _MOST_POSITIONS:
        raise ModelError(f"{name} claims to have positions for {positions} frames, more than any motion module",
                         remedy=_OTHER_DOWNLOAD)
    heads, groups = config.get("motion_num_attention_heads", 8), config.get("motion_norm_num_groups", GROUPS)
    if type(heads) is not int or not 0 < heads <= _MOST_HEADS or groups != GROUPS:
        raise ModelError(
            f"{name} has {heads} heads and {groups} norm groups by its config.json: every family so far has one "
            f"number of heads for all levels and {GROUPS} groups",
            remedy="If the download is complete, report it with a link to the file.",
        )
    about = Description(name, family, widths, positions, heads)
    _check(original, about)
    return about


def _width(shapes: Mapping[str, tuple[int, ...]], level: int, name: str) -> int:
    """Return the number of channels in a level of the UNet."""
    key = f"down_blocks.{level}.motion_modules.0.{_SITE_NORM}"
    if key not in shapes:
        raise _incomplete(name, key, 1)
    shape = shapes[key]
    if len(shape) != 1 or not 0 < shape[0] <= _MOST_CHANNELS:
        raise ModelError(f"{name} has {key} of shape {list(shape)}, which is not a possible number of channels",
                         remedy=_OTHER_DOWNLOAD)
    return shape[0]


def skeleton(about: Description) -> MotionModule:
    """Return a module with uninitialised weights. On the meta device it takes no memory."""
    return MotionModule(about.family, about.widths, max_frames=about.max_frames, heads=about.heads, name=about.name)


@lru_cache(maxsize=16)
def _shapes(about: Description) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a module's tensors."""
    with torch.device("meta"):
        return {key: tuple(t.shape) for key, t in skeleton(about).state_dict().items()}


def _check(found: Mapping[str, tuple[int, ...]], about: Description) -> None:
    """Raise ModelError unless `found` has exactly the network's tensors, with the right shapes."""
    expected = _shapes(replace(about, name="", distilled=None))
    missing = [key for key in expected if key not in found]
    if missing:
        raise _incomplete(about.name, missing[0], len(missing))
    extra = [key for key in found if key not in expected]
    if extra:
        raise ModelError(
            f"{about.name} has {len(extra)} temporal tensors that a module of the {about.family.name} family does not "
            f"have, such as {extra[0]}",
            remedy="It may be of a kind that is not supported yet: report it with a link to the file.",
        )
    for key, shape in expected.items():
        if found[key] != shape:
            raise ModelError(
                f"{about.name} has {key} of shape {list(found[key])}, but {list(shape)} fits its other tensors",
                remedy=_OTHER_DOWNLOAD,
            )


def _incomplete(name: str, key: str, count: int) -> ModelError:
    others = f" and {count - 1} more" if count > 1 else ""
    return ModelError(
        f"{name} is an incomplete motion module: it lacks {key}{others}", remedy="Download it again, or from elsewhere."
    )
