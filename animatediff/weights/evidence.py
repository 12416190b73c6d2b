"""What the tensors of a file say about it, and small tests over that which can be combined with & | ~."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from animatediff.weights.naming import site_of

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Evidence:
    """Shapes by key, wrappers removed, names as the file has them."""

    shapes: Mapping[str, Shape]

    @cached_property
    def site_keys(self) -> list[str]:
        """Keys that belong to temporal layers."""
        return [key for key in self.shapes if site_of(key)]

    @cached_property
    def levels(self) -> int:
        """Levels of the UNet that the temporal layers are for."""
        found = [int(m[1]) for key in self.site_keys if (m := re.match(r"down_blocks\.(\d+)\.", site_of(key)))]
        return max(found, default=-1) + 1

    @cached_property
    def positions(self) -> int | None:
        """Length of the stored positional encoding, None where there is none, 0 for one that is not [1 frames c]."""
        for key in self.site_keys:
            if key.endswith((".pe", ".positional_encoding")):
                shape = self.shapes[key]
                return shape[1] if len(shape) == 3 else 0
        return None


class Test:
    """A yes or no about evidence."""

    __test__ = False  # for pytest, which collects by name

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
    """One of the fragments occurs in a key, at its start or after a dot or underscore."""
    pattern = re.compile("|".join(rf"(?:^|[._]){re.escape(f)}" for f in fragments))
    return Test(lambda e: any(pattern.search(key) for key in e.shapes))


def shape(key: str, test: Callable[[Shape], bool]) -> Test:
    """The file has a tensor of this name, whose shape passes."""
    return Test(lambda e: key in e.shapes and test(e.shapes[key]))


def positions(test: Callable[[int], bool]) -> Test:
    """The stored positional encoding has a length that passes."""
    return Test(lambda e: e.positions is not None and test(e.positions))


temporal = Test(lambda e: bool(e.site_keys))
mid = Test(lambda e: any(site_of(key).startswith("mid_block.") for key in e.site_keys))
sd15 = Test(lambda e: e.levels == 4)
sdxl = Test(lambda e: e.levels == 3)
_OF_LORA = re.compile(r"lora|hada_w|lokr_w|(?:^|[._])(?:alpha|dora_scale)$", re.IGNORECASE)
# Most keys of such a file are of that kind: one that was left in a checkpoint by accident makes it none.
lora = Test(lambda e: bool(e.shapes) and 2 * sum(bool(_OF_LORA.search(key)) for key in e.shapes) > len(e.shapes))


def beginning(*prefixes: str, share: float) -> Test:
    """At least this share of the keys begins with one of the prefixes."""
    return Test(lambda e: bool(e.shapes) and sum(key.startswith(prefixes) for key in e.shapes) >= share * len(e.shapes))
