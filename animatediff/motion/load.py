"""From a file or state dict to a motion module: detect, rename, check every tensor, take it over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from animatediff.errors import ModelError
from animatediff.motion.families import Family, detect_shapes
from animatediff.motion.layers import GROUPS
from animatediff.motion.module import MotionModule
from animatediff.motion.naming import to_original
from animatediff.weights.evidence import Evidence
from animatediff.weights.files import read_config, read_shapes, read_tensors
from animatediff.weights.naming import unwrap

_SITE_NORM = "temporal_transformer.norm.weight"


@dataclass(frozen=True)
class Description:
    """What a motion module is, as far as shapes tell."""

    name: str
    family: Family
    widths: tuple[int, ...]  # channels per level, outermost first
    max_frames: int
    heads: int = 8  # no tensor tells; a diffusers folder's config does


def describe(path: Path | str) -> Description:
    """Detect a file without reading its weights; ModelError says why it cannot be used."""
    path = Path(path)
    return _describe(read_shapes(path), path.name, read_config(path))


def load(source: Path | str | Mapping[str, Any], *, name: str = "", dtype: torch.dtype | None = None) -> MotionModule:
    """A motion module from a file, a diffusers folder or a state dict, in any naming; on the CPU, in eval mode, frozen.

    Weights keep the dtype they have in the file unless `dtype` is given. `name` is what messages call it.
    """
    config: dict[str, Any] = {}
    if isinstance(source, Mapping):
        tensors, name = unwrap(source), name or "the motion module"
    else:
        path = Path(source)
        tensors, config, name = read_tensors(path, dtype), read_config(path), name or path.name
    about = _describe({key: tuple(t.shape) for key, t in tensors.items()}, name, config)
    with torch.device("meta"):
        module = skeleton(about)
    # A module built from a state dict owns its tensors: training it must not change the caller's.
    wanted = {
        key: tensor.clone() if isinstance(source, Mapping) else tensor for key, tensor in to_original(tensors).items()
    }
    module.load_state_dict(wanted, assign=True)
    module.requires_grad_(False).eval()
    return module.to(dtype) if dtype else module


def _describe(shapes: Mapping[str, tuple[int, ...]], name: str, config: Mapping[str, Any]) -> Description:
    family = detect_shapes(shapes, name)
    original = to_original(shapes)
    norms = [original.get(f"down_blocks.{n}.motion_modules.0.{_SITE_NORM}") for n in range(family.levels)]
    widths = tuple(norm[0] for norm in norms if norm)
    if len(widths) < family.levels:
        raise _incomplete(name, f"down_blocks.{norms.index(None)}.motion_modules.0.{_SITE_NORM}", 1)
    heads, groups = config.get("motion_num_attention_heads", 8), config.get("motion_norm_num_groups", GROUPS)
    if not isinstance(heads, int) or groups != GROUPS:
        raise ModelError(
            f"{name} has {heads} heads and {groups} norm groups by its config.json: every family so far has one "
            f"number of heads for all levels and {GROUPS} groups"
        )
    about = Description(name, family, widths, Evidence(shapes).positions or family.max_frames, heads)
    _check(original, about)
    return about


def skeleton(about: Description) -> MotionModule:
    """A module of this kind without weights that mean anything; on the meta device it takes no memory."""
    return MotionModule(about.family, about.widths, max_frames=about.max_frames, heads=about.heads, name=about.name)


def _check(found: Mapping[str, tuple[int, ...]], about: Description) -> None:
    """Every tensor of the network is there, of the right shape, and no other."""
    with torch.device("meta"):
        expected = {key: tuple(t.shape) for key, t in skeleton(about).state_dict().items()}
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
                remedy="The file is damaged or of a kind that is not supported: try another download.",
            )


def _incomplete(name: str, key: str, count: int) -> ModelError:
    others = f" and {count - 1} more" if count > 1 else ""
    return ModelError(
        f"{name} is an incomplete motion module: it lacks {key}{others}", remedy="Download it again, or from elsewhere."
    )
