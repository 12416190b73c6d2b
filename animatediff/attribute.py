"""Context managers that replace an attribute of an object."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_absent = object()


@contextmanager
def attribute(thing: Any, name: str, value: Any) -> Iterator[None]:
    """Context manager in which the object, but not its class, has the attribute `name` with this value."""
    before = vars(thing).get(name, _absent)
    setattr(thing, name, value)
    try:
        yield
    finally:
        if before is _absent:
            if name in vars(thing):  # other code may have deleted it
                delattr(thing, name)
        else:
            setattr(thing, name, before)


@contextmanager
def wrapped(thing: Any, name: str, wrap: Callable[[Any], Any]) -> Iterator[None]:
    """Context manager in which the attribute is `wrap(attribute)`.

    If other code replaces the attribute in the meantime, its value is kept on exit.
    """
    plain = getattr(thing, name)
    ours = wrap(plain)
    setattr(thing, name, ours)
    try:
        yield
    finally:
        if getattr(thing, name) is ours:
            setattr(thing, name, plain)
