"""An attribute that is another for a while."""
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
