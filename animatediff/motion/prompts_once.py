"""Keys and values of a prompt that frames share, computed once for all of them in a call of the UNet."""
from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

# the first row of each run of equal ones, and each row's run; None where all differ
Runs = tuple[Tensor, Tensor] | None


@contextmanager
def prompts_once(unet: nn.Module) -> Iterator[None]:
    """For the length of the block, cross-attention in `unet`, in LDM or diffusers layout, makes keys and values of
    neighbouring rows with the same tokens once. Layers that others look into by hooks are left alone."""
    layers = [part for name, part in unet.named_modules() if name.endswith(("attn2.to_k", "attn2.to_v"))]
    once = _Once()
    with ExitStack() as stack:
        for layer in layers:
            if not layer._forward_hooks and not layer._forward_pre_hooks:
                stack.callback(layer.register_forward_pre_hook(once.fewer).remove)
                stack.callback(layer.register_forward_hook(once.all).remove)
        yield


class _Once:
    """Hooks of a linear layer: `fewer` before it, `all` behind it."""

    def __init__(self) -> None:
        self.tokens: Callable[[], Tensor | None] = lambda: None
        self.version: int | None = None
        self.runs: Runs = None

    def fewer(self, layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        tokens = args[0]
        version = None if tokens.is_inference() else tokens._version  # None: no telling whether it has been written to
        if self.tokens() is not tokens or self.version != version or version is None:
            # for all layers of a call
            self.tokens, self.version, self.runs = weakref.ref(tokens), version, _runs(tokens)
        return None if self.runs is None else (tokens.index_select(0, self.runs[0]), *args[1:])

    def all(self, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        return None if self.runs is None else output.index_select(0, self.runs[1])


def _runs(tokens: Tensor) -> Runs:
    """Of tokens [row token c]."""
    if tokens.ndim != 3 or len(tokens) < 2:
        return None
    if tokens.stride(0) == 0:
        others = [False] * (len(tokens) - 1)
    else:
        others = (tokens[1:] != tokens[:-1]).flatten(1).any(1).tolist()
    if all(others):
        return None
    starts = [0, *(row for row, other in enumerate(others, 1) if other)]
    run_of = torch.tensor([0, *map(int, others)]).cumsum(0)
    return torch.tensor(starts, device=tokens.device), run_of.to(tokens.device)
