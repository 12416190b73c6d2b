"""Keys and values of a prompt that frames share, computed once for all of them, and once in a run where nothing changes
them."""
from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

# the first row of each run of equal ones, and each row's run; None where all differ
Runs = tuple[Tensor, Tensor] | None
State = tuple[int, int, int]  # of a layer's weight

_CALLS = 2  # with other prompts, as cond and uncond apart are, whose keys and values are kept
_ROWS = 8  # of them at most: 15 MB of SD1.5's keys and values in fp32 are those of 2


@contextmanager
def prompts_once(unet: nn.Module) -> Iterator[None]:
    """For the length of the block, cross-attention in `unet`, in LDM or diffusers layout, makes keys and values of
    neighbouring rows with the same tokens once. They are kept for later calls with these tokens, as long as the layer's
    weight is not written to; not of a layer that is not torch's own, whose host may add to it at any time, nor where
    gradients are wanted. Layers that others look into by hooks are left alone."""
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
        self.distinct: Tensor | None = None  # rows of the tokens
        self.kept: dict[nn.Module, tuple[State, Tensor]] = {}  # what the layers made of them
        self.calls: list[tuple[Tensor, dict[nn.Module, tuple[State, Tensor]]]] = []  # the same of the latest calls

    def fewer(self, layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        tokens = args[0]
        version = None if tokens.is_inference() else tokens._version  # None: no telling whether it has been written to
        if self.tokens() is not tokens or self.version != version or version is None:
            # for all layers of a call
            self.tokens, self.version = weakref.ref(tokens), version
            self._begin(tokens)
        if self.runs is None or (rows := self.distinct) is None:
            return None
        return (rows[:0] if self._known(layer) is not None else rows, *args[1:])

    def all(self, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if self.runs is None:
            return None
        if len(args[0]) == 0:
            known = self._known(layer)
            assert known is not None, "`fewer` left no row, so there is something that is known"
            output = known
        elif (state := _state(layer)) and not output.requires_grad:
            self.kept[layer] = state, output
        return output.index_select(0, self.runs[1])

    def _begin(self, tokens: Tensor) -> None:
        self.runs = _runs(tokens)
        if self.runs is None:
            return
        self.distinct = tokens.index_select(0, self.runs[0])
        same = next((call for call in self.calls if _equal(call[0], self.distinct)), None)
        self.kept = same[1] if same else {}
        if len(self.distinct) <= _ROWS:
            others = [call for call in self.calls if call is not same]
            self.calls = [(self.distinct.detach(), self.kept), *others][:_CALLS]

    def _known(self, layer: nn.Module) -> Tensor | None:
        state, output = self.kept.get(layer, (None, None))
        wanted = self.distinct is not None and self.distinct.requires_grad
        return output if state and state == _state(layer) and not wanted else None


def _state(layer: nn.Module) -> State | None:
    """By which a change of the layer shows; None where it need not show, or gradients are wanted."""
    if type(layer) is not nn.Linear or "forward" in vars(layer) or nn.Linear.forward.__module__ != nn.Linear.__module__:
        return None
    weight = layer.weight
    if layer.bias is not None or weight.is_inference() or (weight.requires_grad and torch.is_grad_enabled()):
        return None
    return id(weight), weight.data_ptr(), weight._version


def _equal(a: Tensor, b: Tensor) -> bool:
    return (a.dtype, a.device, a.shape) == (b.dtype, b.device, b.shape) and torch.equal(a, b)


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
