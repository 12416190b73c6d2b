"""The frame and the role of each row of a UNet call.

The host puts a whole clip into one call: the positive rows (for each frame, one row for each part of `AND`), then the
negative rows. It may skip the negative rows. Some checkpoints have a third set.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """The row of each frame and role in a call."""

    table: Tensor  # int64 [frames roles]: index of the row
    own: Tensor  # bool [frames roles]: False where the frame lacks a part of AND and its last part replaces it

    @classmethod
    def of_call(cls, parts: Sequence[int], rows: int) -> Rows:
        """Return the rows of a call. ValueError if the numbers do not match.

        parts: number of positive rows of each frame.
        rows: number of rows of the call.
        """
        frames, positives, most = len(parts), sum(parts), max(parts)
        sets, rest = divmod(rows - positives, frames)
        if rest or not 0 <= sets <= 2:
            raise ValueError(f"{rows} rows are neither {positives}, {positives + frames} nor {positives + 2 * frames}")
        first = torch.tensor([0, *parts[:-1]]).cumsum(0)[:, None]
        part = torch.arange(most).expand(frames, most)
        last = torch.tensor(parts)[:, None] - 1
        negative = positives + torch.arange(sets) * frames + torch.arange(frames)[:, None]
        table = torch.cat([first + part.minimum(last), negative], 1)
        own = torch.cat([part <= last, torch.ones_like(negative, dtype=torch.bool)], 1)
        return cls(table, own)

    @property
    def roles(self) -> int:
        return self.table.shape[1]

    def by_frame(self, x: Tensor) -> Tensor:
        """Return x [rows c h w] as [frame (role c) h w], from which windows are cut."""
        return x[self.table.to(x.device)].flatten(1, 2)

    def by_row(self, x: Tensor) -> Tensor:
        """Return x [frame (role c) h w] as [rows c h w]."""
        x = x.unflatten(1, (self.roles, -1))
        table, own = self.table.to(x.device), self.own.to(x.device)
        out = x.new_empty((int(self.table.max()) + 1, *x.shape[2:]))
        out[table[own]] = x[own]
        return out


def take(value: Any, index: Tensor, rows: int) -> Any:
    """Return `value` with the rows `index` of every tensor that has `rows` rows.

    value: nested dicts, lists and tuples. Other values stay unchanged.
    """
    if isinstance(value, Tensor):
        return value[index.to(value.device)] if value.dim() and value.shape[0] == rows else value
    if isinstance(value, dict):
        taken = {key: take(part, index, rows) for key, part in value.items()}
        return taken if type(value) is dict else type(value)(taken)
    if isinstance(value, (list, tuple)):
        return type(value)(take(part, index, rows) for part in value)
    return value


def equal_lengths(cond: Any, uncond: Any, empty: Callable[[], Tensor]) -> tuple[Any, Any]:
    """Pad positive and negative conditioning to equal numbers of tokens, so that they fit into one call.

    cond, uncond: tensors [n tokens d], or dicts with such a tensor as "crossattn".
    empty: returns the chunk of the empty prompt [1 chunk d], used for padding as by the host's option "Pad
        prompt/negative prompt to be same length".
    """
    longest = max(tokens(cond), tokens(uncond))
    return lengthened(cond, longest, empty), lengthened(uncond, longest, empty)


def pad(params: Any, empty: Callable[[], Tensor]) -> None:
    """Pad `text_cond` and `text_uncond` of the host's `CFGDenoiserParams`; see `equal_lengths`."""
    if params.text_uncond is not None:
        params.text_cond, params.text_uncond = equal_lengths(params.text_cond, params.text_uncond, empty)


def tokens(cond: Any) -> int:
    """Return the number of tokens of a conditioning: a tensor [… tokens d], or a dict with one as "crossattn"."""
    return (cond["crossattn"] if isinstance(cond, dict) else cond).shape[-2]


def lengthened(cond: Any, length: int, empty: Callable[[], Tensor]) -> Any:
    """Return the conditioning padded to `length` tokens with chunks of the empty prompt, `empty()` [1 chunk d]."""
    missing = length - tokens(cond)
    if not missing:
        return cond
    short = cond["crossattn"] if isinstance(cond, dict) else cond
    chunk = empty().to(short)
    filler = chunk.repeat(1, -(-missing // chunk.shape[1]), 1)[0, :missing]
    long = torch.cat([short, filler.expand(*short.shape[:-2], -1, -1)], -2)
    return type(cond)({**cond, "crossattn": long}) if isinstance(cond, dict) else long
