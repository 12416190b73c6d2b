"""Check that tensors hold finite floating-point numbers."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from animatediff.errors import ModelError
from animatediff.weights.boundary import AGAIN, one_line


def check(name: str, tensors: Mapping[str, Tensor], in_file: Callable[[str], Tensor] | None = None) -> None:
    """Raise ModelError if a tensor has NaN, infinity or another format than floating point.

    name: name of the file in messages.
    in_file: returns a tensor in the file's dtype, if `tensors` are converted. It shows whether the file or the
        conversion is the cause.
    """
    check_formats(name, ((key, tensor.dtype) for key, tensor in tensors.items()))
    for key, tensor in tensors.items():
        if tensor.is_meta:
            raise ModelError(f"{name} has no numbers for {one_line(key)}, which lies on torch's meta device",
                             remedy="Save it from a device that holds its numbers.")
        if is_finite(tensor):
            continue
        original = in_file(key) if in_file else tensor
        if is_finite(original):
            raise ModelError(f"{name} has numbers in {one_line(key)} that are too large for {_short(tensor.dtype)}",
                             remedy="Use bf16 or fp32.")
        what = "NaN, which is no number," if original.isnan().any() else "infinity"
        raise ModelError(f"{name} has {what} in {one_line(key)}", remedy=AGAIN)


def check_formats(name: str, formats: Iterable[tuple[str, torch.dtype]]) -> None:
    """Raise ModelError for integers and complex numbers, such as quantised weights. formats: key and dtype pairs."""
    for key, dtype in formats:
        if not dtype.is_floating_point:
            raise ModelError(f"{name} has {one_line(key)} as {_short(dtype)}, which is not a format for weights",
                             remedy="Get it in fp32, fp16 or bf16.")


def is_finite(tensor: Tensor) -> bool:
    """Return whether the tensor has neither NaN nor infinity.

    It takes the extremes, in one pass and without a copy: they are not finite if any number is not.
    """
    if not tensor.numel():
        return True
    if tensor.dtype.itemsize == 1:  # 8-bit formats lack aminmax
        tensor = tensor.float()
    if tensor.device.type not in ("cpu", "cuda"):
        return bool(tensor.isfinite().all())
    return bool(torch.stack(torch.aminmax(tensor)).isfinite().all())


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
