"""An attribute that is another for a while."""
from __future__ import annotations

from collections.abc import Callable, Iterator
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
            if name in vars(thing):  # nobody else has taken it away
                delattr(thing, name)
        else:
            setattr(thing, name, before)


@contextmanager
def wrapped(thing: Any, name: str, wrap: Callable[[Any], Any]) -> Iterator[None]:
    """The attribute is what `wrap` makes of it. If somebody has replaced it since, at the end it stays theirs."""
    plain = getattr(thing, name)
    ours = wrap(plain)
    setattr(thing, name, ours)
    try:
        yield
    finally:
        if getattr(thing, name) is ours:
            setattr(thing, name, plain)
