"""Apply motion LoRAs to a motion module, and domain adapters to a UNet, for the length of a `with` block.

    with applied(module, [(lora, Curve.read(0.8))], frames), injected(unet, module, layout_of):

A LoRA whose weight is the same in all frames is merged into the module's weights, which costs nothing per step. On exit
the module has its own tensors again, the same objects. A LoRA whose weight varies is applied frame by frame, by forward
hooks. On a UNet everything is applied by hooks: the host may keep copies of its weights while they are changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from animatediff.curves import Curve
from animatediff.errors import ModelError
from animatediff.layout import LayoutOf
from animatediff.motion.load import Description, skeleton
from animatediff.motion.lora_files import ADAPTER, MOTION, Lora, LoraDescription, LowRank, layer_name
from animatediff.motion.module import MotionModule
from animatediff.unet.places import find_places

Weighted = tuple[Lora, Curve]
Terms = list[tuple[LowRank, list[float]]]  # the changes of one layer, each with its weight per frame of the clip


@contextmanager
def applied(module: MotionModule, loras: Sequence[Weighted], frames: int) -> Iterator[None]:
    """Context manager in which `module` has the motion LoRAs among `loras`; domain adapters are ignored.

    frames: number of frames in the clip.
    """
    for lora, _ in loras:
        check_fit(lora.about, module)
    with ExitStack() as stack:
        for layer, terms in _terms(module_layers(module), loras, MOTION, frames).items():
            constant = [(change, weights[0]) for change, weights in terms if len(set(weights)) == 1]
            varying = [(change, weights) for change, weights in terms if len(set(weights)) > 1]
            if constant:
                stack.callback(setattr, layer, "weight", layer.weight)
                layer.weight = _merged(layer.weight, constant)
            if varying:
                stack.callback(layer.register_forward_hook(_PerFrame(varying, lambda x: module.window)).remove)
        yield


@contextmanager
def applied_to_unet(unet: nn.Module, loras: Sequence[Weighted], frames: int, layout_of: LayoutOf) -> Iterator[None]:
    """Context manager in which `unet` (LDM or diffusers layout) has the domain adapters among `loras`.

    Rows that belong to no clip get the weight of the clip's first frame.
    frames: number of frames in the clip. layout_of: see `injected`.
    """
    def frames_of(x: Tensor) -> list[int]:
        layout = layout_of(x.shape[0])
        numbers = [0] * x.shape[0]
        for rows, shown in zip(layout.groups, layout.frames):
            for row, frame in zip(rows, shown):
                numbers[row] = frame
        return numbers

    layers = unet_layers(unet) if any(lora.about.kind == ADAPTER for lora, _ in loras) else {}
    for lora, _ in loras:
        if lora.about.kind == ADAPTER:
            _check(lora.about, layers, "the checkpoint", "Use a checkpoint of the kind that it was trained for.")
    with ExitStack() as stack:
        for layer, terms in _terms(layers, loras, ADAPTER, frames).items():
            stack.callback(layer.register_forward_hook(_PerFrame(terms, frames_of, rows=True)).remove)
        yield


def check_fit(lora: LoraDescription, module: MotionModule | Description) -> None:
    """Raise ModelError if the layers of a motion LoRA do not fit the module; the module may lack a middle block."""
    if lora.kind != MOTION:
        return
    if isinstance(module, Description):
        with torch.device("meta"):
            module = skeleton(module)
    remedy = "Pick the motion module that it was trained for, or another LoRA."
    try:
        _check(lora, module_layers(module), module.name, remedy, optional="mid_block")
    except ModelError:
        base = {3: "SDXL", 4: "SD1.5"}.get(len(lora.widths))
        if base and base != module.family.base:
            raise ModelError(f"{lora.name} is an {base} motion LoRA but {module.name} is an {module.family.base} "
                             "motion module", remedy=remedy) from None
        if base and lora.widths != module.widths:
            raise ModelError(f"{lora.name} is made for {_joined(lora.widths)} channels per level but {module.name} has "
                             f"{_joined(module.widths)}", remedy=remedy) from None
        raise


def notices(lora: LoraDescription, name: str, has_mid: bool) -> list[str]:
    """Return notices to the user about parts of this LoRA that have no effect.

    name: name of the motion module. has_mid: whether the motion module has a middle block.
    """
    if lora.kind == MOTION and lora.has_mid and not has_mid:
        return [f"{lora.name} was trained on a motion module with a middle block, which {name} does not "
                "have: that part of it is left out"]
    return []


def module_layers(module: MotionModule) -> dict[str, nn.Linear]:
    """Return the linear layers of a motion module by the names of `layer_name`."""
    return {layer_name(name): m for name, m in module.named_modules() if isinstance(m, nn.Linear)}


def unet_layers(unet: nn.Module) -> dict[str, Any]:
    """Return the linear layers of a UNet's spatial transformers by the names of `layer_name`.

    Motion modules follow after the same transformers, so `find_places` finds them.
    """
    hosts = {site.replace("motion_modules", "attentions"): host for site, host in find_places(unet).sites.items()
             if hasattr(host, "transformer_blocks")}
    return {layer_name(f"{place}.{name}"): m for place, host in hosts.items() for name, m in host.named_modules()
            if isinstance(m, nn.Linear) or hasattr(m, "in_features")}  # Forge's are of a class of its own


class _PerFrame:
    """Forward hook of a linear layer that adds low-rank changes with a weight per frame.

    frames_of: returns the frame numbers of an input x.
    rows: if set, x is [rows tokens c] and frames lie along its first axis; otherwise x is [clips frame c] and frames
        lie along its second axis.
    """

    def __init__(self, terms: Terms, frames_of: Callable[[Tensor], Iterable[int]], rows: bool = False):
        self.frames_of, self.rows = frames_of, rows
        self.terms = []
        for change, weights in terms:
            scale = torch.tensor(weights, dtype=torch.float64) * change.scale
            is_constant = len(set(weights)) == 1
            self.terms.append((change.down, change.up.double() * scale[0], scale.new_ones(())) if is_constant else
                              (change.down, change.up, scale))

    def __call__(self, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = args[0]
        self.terms = [tuple(tensor.to(x) for tensor in term) for term in self.terms]  # only the first call copies
        for down, up, weights in self.terms:
            if weights.ndim:
                weights = weights[list(self.frames_of(x))].view(-1, 1, *[1] * self.rows)
            output = output + F.linear(F.linear(x, down), up) * weights
        return output


def _terms(layers: dict[str, nn.Linear], loras: Sequence[Weighted], kind: str, frames: int) -> dict[nn.Linear, Terms]:
    """Return the changes of each layer by the LoRAs of this kind. LoRAs whose weights are all 0 are left out."""
    found: dict[nn.Linear, Terms] = defaultdict(list)
    for lora, curve in loras:
        weights = curve.values(frames)
        if lora.about.kind == kind and any(weights):
            for name, change in lora.changes.items():
                if name in layers:
                    found[layers[name]].append((change, weights))
    return found


@torch.no_grad()
def _merged(weight: Tensor, terms: list[tuple[LowRank, float]]) -> nn.Parameter:
    """Return the weight plus its changes, in its own dtype. The sum is computed in fp32 at least."""
    wide = torch.promote_types(weight.dtype, torch.float32)
    total = weight.to(wide)
    for change, strength in terms:
        up, down = (part.to(weight.device, wide) for part in (change.up, change.down))
        total = total + (up @ down) * (strength * change.scale)
    return nn.Parameter(total.to(weight.dtype), requires_grad=False)


def _check(lora: LoraDescription, layers: dict[str, nn.Linear], owner: str, remedy: str, optional: str = "") -> None:
    for name, (out, into, _) in lora.layers.items():
        layer = layers.get(name)
        if layer is None and not (optional and name.startswith(optional)):
            raise ModelError(f"{lora.name} changes {name}, which {owner} does not have", remedy=remedy)
        if layer is not None and tuple(layer.weight.shape) != (out, into):
            raise ModelError(f"{lora.name} has a change of {out}x{into} for {name}, which has "
                             f"{'x'.join(map(str, layer.weight.shape))} in {owner}", remedy=remedy)


def _joined(widths: tuple[int, ...]) -> str:
    return "/".join(map(str, widths))
