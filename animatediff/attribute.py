"""An attribute that is another for a while, and whether somebody did so to a layer."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_absent = object()


@contextmanager
def attribute(thing: Any, name: str, value: Any) -> Iterator[None]:
    """This object alone, not its class, has the value for the length of the block."""
    before = vars(thing).get(name, _absent)
    setattr(thing, name, value)
    try:
        yield
    finally:
        if before is _absent:
            delattr(thing, name)
        else:
            setattr(thing, name, before)


def is_plain(layer: Any) -> bool:
    """Whether a torch layer does what its class says: nobody has hooked it or given it a `forward` of its own."""
    return not (layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer))
