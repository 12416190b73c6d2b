"""Fill networks on torch's meta device with weights from a file, and check each tensor."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from animatediff.errors import ModelError
from animatediff.weights import numbers
from animatediff.weights.boundary import one_line

TEXT_ENCODER = "text encoder"


@dataclass(frozen=True)
class Origin:
    """The file that tensors come from, for errors."""

    name: str  # of the file
    keys: Mapping[int, str] = field(default_factory=dict)  # data pointer -> name in the file; survives renaming

    @classmethod
    def of(cls, name: str, state: Mapping[str, Tensor]) -> Origin:
        return cls(name, {tensor.data_ptr(): key for key, tensor in state.items()})


def fill(module: nn.Module, state: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype, part: str,
         origin: Origin) -> None:
    """Fill a module on the meta device, in evaluation mode and without gradients.

    part: name of the network in errors. Raise ModelError for missing or unknown tensors and wrong shapes.
    """
    prefix = "text_model." if any(k.startswith("text_model.") for k in module.state_dict()) else ""
    shapes = {key: value.shape for key, value in module.state_dict().items()}
    state = {prefix + key: value for key, value in state.items()}
    _check_shapes(shapes, state, part)
    module.load_state_dict({key: _taken(key, state[key], device, dtype, origin) for key in shapes}, assign=True)
    for name, buffer in module.named_buffers():
        if buffer.is_meta:
            owner = module.get_submodule(name.rpartition(".")[0])
            if not name.endswith("position_ids"):
                raise AssertionError(f"{name} has no value")
            owner.register_buffer("position_ids", torch.arange(buffer.shape[-1], device=device)[None], persistent=False)
    module.eval().requires_grad_(False)


def _check_shapes(shapes: Mapping[str, torch.Size], state: Mapping[str, Tensor], part: str) -> None:
    for key in shapes.keys() - state.keys():
        raise ModelError(f"the {part} lacks {key}", remedy="Use a complete SD1.5 checkpoint")
    for key in state.keys() & shapes.keys():
        if state[key].shape != shapes[key]:
            raise ModelError(
                f"{key} of the {part} is {tuple(state[key].shape)}, expected {tuple(shapes[key])}",
                remedy="Use an SD1.5 checkpoint, with the .yaml that belongs to it",
            )
    # Text encoders of some merges have a projection that SD1.x does not use. Only known keys are loaded.
    if part != TEXT_ENCODER and (strange := sorted(state.keys() - shapes.keys())):
        raise ModelError(f"the {part} has the unknown tensor {one_line(strange[0])}", remedy="Use an SD1.5 checkpoint")


def _taken(key: str, tensor: Tensor, device: torch.device, dtype: torch.dtype, origin: Origin) -> Tensor:
    """Return a checked copy of a tensor on the device.

    It is copied even if device and dtype are right. Tensors that are mapped from a file are not aligned, so they are
    slower and round differently, and they depend on the file.
    """
    name = origin.keys.get(tensor.data_ptr(), key)
    numbers.check_formats(origin.name, [(name, tensor.dtype)])
    taken = tensor.to(device, dtype, copy=True)
    numbers.check(origin.name, {name: taken}, lambda _: tensor)
    return taken

