"""Read motion LoRAs and domain adapters. Their kind is detected from the tensors; these namings are supported:

    original   down_blocks.0.motion_modules.1.….attention_blocks.0.processor.to_q_lora.down.weight
    diffusers  unet.down_blocks.0.motion_modules.1.transformer_blocks.0.attn1.processor.to_q_lora.down.weight
    peft       unet.down_blocks.0.motion_modules.1.transformer_blocks.0.attn1.to_q.lora_A.weight
    WebUI      down_blocks_0_motion_modules_1_…_attention_blocks_0_to_q.lora_down.weight

Inside the project a layer has diffusers' name with underscores instead of dots; every naming maps to it. v3's domain
adapter uses the original naming; it changes the spatial attention of the image model's UNet.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from animatediff.errors import ModelError
from animatediff.weights import numbers
from animatediff.weights.boundary import name_of, reading
from animatediff.weights.files import WeightFile
from animatediff.weights.kinds import DOMAIN_ADAPTER, IMAGE_LORA, MOTION_LORA, kind_of

MOTION, ADAPTER = MOTION_LORA, DOMAIN_ADAPTER
Shape = tuple[int, ...]

_PART = re.compile(r"(?P<layer>.+?)[._]lora(?:_(?P<peft>[AB])|[._](?P<part>down|up))(?:\.\w+)?\.weight")
_ALPHA = re.compile(r"(?P<layer>.+?)(?:[._]lora)?\.alpha")
_PREFIX = re.compile(r"^(?:(?:lora_unet|base_model_model|diffusion_model|module|unet)_)+")
_ALIASES = (("_processor", ""), ("_temporal_transformer", ""), ("_temporal_attentions_", "_motion_modules_"),
         ("_attention_blocks_0_", "_attn1_"), ("_attention_blocks_1_", "_attn2_"))
_MOTION_LAYER = re.compile(r"(?:(?:down|up)_blocks_\d+|mid_block)_motion_modules_\d+_")
_DAMAGED = "Download it again, or from elsewhere."


@dataclass(frozen=True)
class LoraDescription:
    """The properties of a LoRA that its shapes show."""

    name: str
    kind: str  # MOTION or ADAPTER
    layers: Mapping[str, tuple[int, int, int]]  # (out, in, rank) of each changed layer

    @property
    def rank(self) -> int:
        return max(rank for _, _, rank in self.layers.values())

    @property
    def has_mid(self) -> bool:
        return any(layer.startswith("mid_block") for layer in self.layers)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels per level of the UNet, outermost first, for the levels in which the LoRA has layers."""
        found = {int(m[1]): out for layer, (out, _, _) in self.layers.items()
                 if (m := re.match(r"down_blocks_(\d+)_.*_to_q$", layer))}
        return tuple(found[level] for level in sorted(found))


@dataclass(frozen=True)
class LowRank:
    """The change of one layer's weight: scale * up @ down."""

    down: Tensor  # [rank in]
    up: Tensor  # [out rank]
    scale: float = 1.0


@dataclass(frozen=True)
class Lora:
    """A LoRA with its weights, on the CPU and in the file's dtype."""

    about: LoraDescription
    changes: Mapping[str, LowRank]

    @property
    def name(self) -> str:
        return self.about.name


def describe(path: Path | str) -> LoraDescription:
    """Return the description of a file without reading its weights. Raises ModelError if it is not a motion LoRA."""
    with reading(path):
        return _described(WeightFile(path), name_of(path))


def load(source: Path | str | Mapping[str, Tensor], *, name: str = "") -> Lora:
    """Return a motion LoRA or domain adapter from a file or a state dict, in any naming."""
    if isinstance(source, Mapping):
        name = name or "the motion LoRA"
        with reading(name):
            return _loaded(source, describe_shapes({key: tuple(t.shape) for key, t in source.items()}, name))
    with reading(source):
        file = WeightFile(source)
        about = _described(file, name or name_of(source))
        return _loaded(file.tensors(), about)


def _described(file: WeightFile, name: str) -> LoraDescription:
    about = describe_shapes(file.shapes, name)
    numbers.check_formats(name, ((key, dtype) for key, dtype in file.dtypes.items() if _PART.fullmatch(key)))
    return about


def _loaded(tensors: Mapping[str, Tensor], about: LoraDescription) -> Lora:
    numbers.check(about.name, {key: tensor for key, tensor in tensors.items() if _PART.fullmatch(key)})
    parts, alphas = _parts_and_alphas(tensors)
    scales = {layer: _number(alphas[layer], layer, about.name) / rank
              for layer, (_, _, rank) in about.layers.items() if layer in alphas}
    return Lora(about, {layer: LowRank(parts[layer]["down"], parts[layer]["up"], scales.get(layer, 1.0))
                        for layer in about.layers})


def _number(alpha: Tensor, layer: str, name: str) -> float:
    if alpha.is_meta or alpha.numel() != 1 or alpha.is_complex() or not math.isfinite(alpha.item()):
        raise ModelError(f"{name} has an alpha for {layer} that is not a number", remedy=_DAMAGED)
    return float(alpha.item())


def describe_shapes(shapes: Mapping[str, Shape], name: str) -> LoraDescription:
    """Return the description from a mapping of keys to shapes; see `describe`."""
    found, (parts, _) = kind_of(shapes), _parts_and_alphas(shapes)
    kind = found.name if found else ""
    if kind == IMAGE_LORA:
        raise ModelError(f"{name} is an image LoRA, not a motion LoRA",
                         remedy="Name it in the prompt of a WebUI; the command line supports only motion LoRAs.")
    if kind not in (MOTION, ADAPTER) or not parts:
        raise ModelError(f"{name} is not a motion LoRA: none of its {len(shapes)} tensors is a low-rank change",
                         remedy="Pick one such as v2_lora_ZoomIn.ckpt.")
    others = [layer for layer in parts if not _MOTION_LAYER.match(layer)]
    if kind == MOTION and others:
        raise ModelError(f"{name} is a motion LoRA and an image LoRA in one: it has {others[0]} too",
                         remedy="Use separate files for its two parts.")
    layers = {}
    for layer, pair in parts.items():
        if set(pair) != {"down", "up"}:
            raise ModelError(f"{name} is an incomplete {kind}: {layer} has no {'up' if 'down' in pair else 'down'}",
                             remedy=_DAMAGED)
        down, up = pair["down"], pair["up"]
        if len(down) != 2 or len(up) != 2 or down[0] != up[1]:
            raise ModelError(f"{name} has matrices of shapes {list(up)} and {list(down)} for {layer}, which do not "
                             "fit together", remedy=_DAMAGED)
        if not down[0]:
            raise ModelError(f"{name} has a change of rank 0 for {layer}", remedy=_DAMAGED)
        layers[layer] = (up[0], down[1], down[0])
    return LoraDescription(name, kind, layers)


def layer_name(name: str) -> str:
    """Return the project's name of a layer, from its name in any naming."""
    name = _PREFIX.sub("", name.replace(".", "_"))
    for theirs, ours in _ALIASES:
        name = name.replace(theirs, ours)
    return f"{name}_0" if name.endswith("_to_out") else name


def _parts_and_alphas(state: Mapping[str, Tensor | Shape]) -> tuple[dict[str, dict], dict]:
    """Return {layer: {"down": …, "up": …}} and {layer: alpha}."""
    parts: dict[str, dict] = {}
    alphas = {}
    for key, value in state.items():
        if found := _PART.fullmatch(key):
            part = found["part"] or {"A": "down", "B": "up"}[found["peft"]]
            parts.setdefault(layer_name(found["layer"]), {})[part] = value
        elif found := _ALPHA.fullmatch(key):
            alphas[layer_name(found["layer"])] = value
    return parts, alphas
