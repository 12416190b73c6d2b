"""Properties of a file that its tensor names and shapes show, and tests of them that combine with & | ~."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from animatediff.weights.naming import site_of

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Evidence:
    """The tensor names and shapes of a file."""

    shapes: Mapping[str, Shape]  # by key, with the file's own names but without wrapper keys

    @cached_property
    def site_keys(self) -> list[str]:
        """Keys that belong to temporal layers."""
        return [key for key in self.shapes if site_of(key)]

    @cached_property
    def levels(self) -> int:
        """Number of levels of the UNet, counted from the temporal layers."""
        found = [int(m[1]) for key in self.site_keys if (m := re.match(r"down_blocks\.(\d+)\.", site_of(key)))]
        return max(found, default=-1) + 1

    @cached_property
    def positions(self) -> int | None:
        """Length of the stored positional encoding; None if there is none, 0 if its shape is not [1 frames c]."""
        for key in self.site_keys:
            if key.endswith((".pe", ".positional_encoding")):
                shape = self.shapes[key]
                return shape[1] if len(shape) == 3 else 0
        return None


class Test:
    """A predicate on Evidence."""

    __test__ = False  # pytest collects classes called Test…

    def __init__(self, holds: Callable[[Evidence], bool]):
        self.holds = holds

    def __call__(self, evidence: Evidence) -> bool:
        return bool(self.holds(evidence))

    def __and__(self, other: Test) -> Test:
        return Test(lambda e: self(e) and other(e))

    def __or__(self, other: Test) -> Test:
        return Test(lambda e: self(e) or other(e))

    def __invert__(self) -> Test:
        return Test(lambda e: not self(e))


def has(*fragments: str) -> Test:
    """Return a test that one of the fragments occurs in a key, at its start or after a dot or underscore."""
    pattern = re.compile("|".join(rf"(?:^|[._]){re.escape(f)}" for f in fragments))
    return Test(lambda e: any(pattern.search(key) for key in e.shapes))


def shape(key: str, test: Callable[[Shape], bool]) -> Test:
    """Return a test that the file has the tensor `key` and that its shape passes `test`."""
    return Test(lambda e: key in e.shapes and test(e.shapes[key]))


def positions(test: Callable[[int], bool]) -> Test:
    """Return a test that a positional encoding is stored and that its length passes `test`."""
    return Test(lambda e: e.positions is not None and test(e.positions))


temporal = Test(lambda e: bool(e.site_keys))
mid = Test(lambda e: any(site_of(key).startswith("mid_block.") for key in e.site_keys))
sd15 = Test(lambda e: e.levels == 4)
sdxl = Test(lambda e: e.levels == 3)
_LORA_KEY = re.compile(r"lora|hada_w|lokr_w|(?:^|[._])(?:alpha|dora_scale)$", re.IGNORECASE)
# More than half of the keys must be LoRA keys, since a checkpoint may contain a stray one.
lora = Test(lambda e: bool(e.shapes) and 2 * sum(bool(_LORA_KEY.search(key)) for key in e.shapes) > len(e.shapes))


def beginning(*prefixes: str, share: float) -> Test:
    """Return a test that at least this share of the keys begins with one of the prefixes."""
    return Test(lambda e: bool(e.shapes) and sum(key.startswith(prefixes) for key in e.shapes) >= share * len(e.shapes))
