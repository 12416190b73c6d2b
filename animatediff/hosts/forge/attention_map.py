"""Attention maps for self-attention guidance (SAG, arXiv:2210.00939), as an extension of Forge and reForge computes it.

The extension's attention function also records the map of the negative prompt, and after the step the extension takes
the last recorded map as that of all frames. A call of a window would leave the map of its own frames. So queries, keys
and values are collected window by window, and the map is recorded once more, from those of the whole clip.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

RECORDS = "attn_and_record"  # name of the extension's function
NEGATIVE = 1  # in `cond_or_uncond`
Attention = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], Tensor]


class AttentionMaps:
    """Queries, keys and values [(chunk frame) token d] of the whole clip, at the places of functions that record."""

    def __init__(self) -> None:
        self.whole: dict[Any, tuple[Tensor, Tensor, Tensor]] = {}  # (place, chunks of a call, shapes) -> q, k, v
        self.waiting: dict[Any, Callable[[], Any]] = {}  # place -> records the map of the call's rows

    def collecting(self, options: dict[str, Any], kinds: Sequence[int], rows: int, chosen: Tensor) -> dict[str, Any]:
        """Return `transformer_options` for the rows `chosen` of the host's call, which has `rows` rows."""
        replaced = options.get("patches_replace", {})
        of_self = replaced.get("attn1", {})
        recording = {place: function for place, function in of_self.items()
                     if getattr(function, "__name__", "") == RECORDS}
        if not recording or NEGATIVE not in kinds:
            return options
        collecting = {place: self._collecting(place, function, tuple(kinds), rows, chosen)
                      for place, function in recording.items()}
        return {**options, "patches_replace": {**replaced, "attn1": {**of_self, **collecting}}}

    def record(self) -> None:
        """Record the maps of the host's call, after all its windows."""
        for recorded in self.waiting.values():
            recorded()
        self.waiting.clear()

    def _collecting(self, place: Any, function: Attention, kinds: tuple[int, ...], rows: int,
                    chosen: Tensor) -> Attention:
        def attention(q: Tensor, k: Tensor, v: Tensor, told: dict[str, Any]) -> Tensor:
            key = (place, kinds, *(part.shape[1:] for part in (q, k, v)))
            if key not in self.whole:
                self.whole[key] = (_of_all(q, rows), _of_all(k, rows), _of_all(v, rows))
            queries, keys, values = self.whole[key]
            for whole, part in zip(self.whole[key], (q, k, v)):
                whole[chosen.to(part.device)] = part
            self.waiting[place] = lambda: function(queries, keys, values, {**told, "cond_or_uncond": [*kinds]})
            return function(q, k, v, told)

        return attention


def _of_all(part: Tensor, rows: int) -> Tensor:
    return part.new_zeros(rows, *part.shape[1:])
