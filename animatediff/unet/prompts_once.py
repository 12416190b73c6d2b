"""Compute cross-attention keys and values once for all frames with the same prompt, and reuse them in later steps."""
from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

# For runs of equal neighbouring rows: (index of each run's first row, run number of each row); None if all rows differ.
Runs = tuple[Tensor, Tensor] | None
State = tuple[int, int, int]  # identity, address and version of a layer's weight

_KEPT_CALLS = 2  # calls with different prompts whose keys and values are kept, such as cond and uncond run separately
_KEPT_ROWS = 8  # most distinct rows of a call that is kept; 2 rows of SD1.5 take 15 MB in fp32


@contextmanager
def prompts_once(unet: nn.Module) -> Iterator[None]:
    """Context manager in which cross-attention computes keys and values once for neighbouring rows with equal tokens.

    `unet` is in LDM or diffusers layout. The results are kept for later calls with the same tokens, until the layer's
    weight is written to. They are not kept for a layer that is not torch's own, since its host may change it at any
    time, nor if gradients are needed. Layers that already have hooks are left alone.
    """
    layers = [part for name, part in unet.named_modules() if name.endswith(("attn2.to_k", "attn2.to_v"))]
    once = _SharedPrompts()
    with ExitStack() as stack:
        for layer in layers:
            if not layer._forward_hooks and not layer._forward_pre_hooks:
                stack.callback(layer.register_forward_pre_hook(once.keep_distinct).remove)
                stack.callback(layer.register_forward_hook(once.expand).remove)
        yield


class _SharedPrompts:
    """Forward hooks of linear layers: `keep_distinct` before a layer, `expand` after it."""

    def __init__(self) -> None:
        self.tokens: Callable[[], Tensor | None] = lambda: None
        self.version: int | None = None
        self.runs: Runs = None
        self.distinct: Tensor | None = None  # the first row of each run
        self.kept: dict[nn.Module, tuple[State, Tensor]] = {}  # the layers' outputs for these rows
        self.calls: list[tuple[Tensor, dict[nn.Module, tuple[State, Tensor]]]] = []  # (distinct, kept), latest first

    def keep_distinct(self, layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        tokens = args[0]
        # Inference tensors have no version, so writes to them cannot be detected.
        version = None if tokens.is_inference() else tokens._version
        if self.tokens() is not tokens or self.version != version or version is None:
            # the first layer of a call
            self.tokens, self.version = weakref.ref(tokens), version
            self._begin(tokens)
        if self.runs is None or (rows := self.distinct) is None:
            return None
        return (rows[:0] if self._known(layer) is not None else rows, *args[1:])

    def expand(self, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if self.runs is None:
            return None
        if len(args[0]) == 0:
            known = self._known(layer)
            assert known is not None, "`keep_distinct` passes no rows only if the output is known"
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
        if len(self.distinct) <= _KEPT_ROWS:
            others = [call for call in self.calls if call is not same]
            self.calls = [(self.distinct.detach(), self.kept), *others][:_KEPT_CALLS]

    def _known(self, layer: nn.Module) -> Tensor | None:
        state, output = self.kept.get(layer, (None, None))
        needs_grad = self.distinct is not None and self.distinct.requires_grad
        return output if state and state == _state(layer) and not needs_grad else None


def _state(layer: nn.Module) -> State | None:
    """Return values that change when the layer's weight changes.

    None if a change could go unnoticed, or if gradients are needed.
    """
    if type(layer) is not nn.Linear or "forward" in vars(layer) or nn.Linear.forward.__module__ != nn.Linear.__module__:
        return None
    weight = layer.weight
    if layer.bias is not None or weight.is_inference() or (weight.requires_grad and torch.is_grad_enabled()):
        return None
    return id(weight), weight.data_ptr(), weight._version


def _equal(a: Tensor, b: Tensor) -> bool:
    return (a.dtype, a.device, a.shape) == (b.dtype, b.device, b.shape) and torch.equal(a, b)


def _runs(tokens: Tensor) -> Runs:
    """Return the runs of equal neighbouring rows in tokens [row token c]."""
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
