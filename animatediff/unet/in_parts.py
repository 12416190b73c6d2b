"""Reduce the memory of attention: process the rows of the batch one by one."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from animatediff.attribute import attribute


@contextmanager
def rows_in_turns(unet: nn.Module) -> Iterator[None]:
    """Context manager in which self-attention and feed-forward of `unet` process one row at a time.

    `unet` is in LDM or diffusers layout. It works with any attention implementation, and the results are the same.
    """
    parts = [part for name, part in unet.named_modules() if name.rpartition(".")[2] in ("attn1", "ff")]
    with ExitStack() as stack:
        for part in parts:
            stack.enter_context(attribute(part, "forward", _row_by_row(part.forward)))
        yield


def _row_by_row(plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        def of_row(value: Any, row: int) -> Any:
            has_rows = isinstance(value, Tensor) and value.ndim > 1 and len(value) == len(x)
            return value[row : row + 1] if has_rows else value

        return torch.cat([
            plain(x[row : row + 1], *[of_row(value, row) for value in args],
                  **{name: of_row(value, row) for name, value in kwargs.items()}) for row in range(len(x))])

    return forward
