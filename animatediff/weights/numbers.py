"""Whether tensors hold numbers that a network can compute with."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from animatediff.errors import ModelError
from animatediff.weights.boundary import AGAIN, one_line


def check(name: str, tensors: Mapping[str, Tensor], in_file: Callable[[str], Tensor] | None = None) -> None:
    """Refuse what is no real, finite number, by the names of file and tensor.

    in_file(key): the tensor as the file has it, where `tensors` are in another format, which may hold less.
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
    """Refuse whole and complex numbers: quantised weights, and files of other kinds."""
    for key, dtype in formats:
        if not dtype.is_floating_point:
            raise ModelError(f"{name} has {one_line(key)} as {_short(dtype)}, which is not a format for weights",
                             remedy="Get it in fp32, fp16 or bf16.")


def is_finite(tensor: Tensor) -> bool:
    """One pass over the numbers, without a copy of them: the extremes of what has NaN or infinity are not finite."""
    if not tensor.numel():
        return True
    if tensor.dtype.itemsize == 1:  # formats of 8 bits know little arithmetic
        tensor = tensor.float()
    if tensor.device.type not in ("cpu", "cuda"):
        return bool(tensor.isfinite().all())
    return bool(torch.stack(torch.aminmax(tensor)).isfinite().all())


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
