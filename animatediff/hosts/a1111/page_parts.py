"""The components of the host's page. The code uses only what gradio 3.41 and 4.40 have in common."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def by_elem_id(component: Any) -> dict[str, Any]:
    """Return the components of the page that contains `component`, by their elem_ids."""
    while getattr(component, "parent", None) is not None:
        component = component.parent
    return {part.elem_id: part for part in _inside(component) if getattr(part, "elem_id", None)}


def _inside(block: Any) -> Iterator[Any]:
    for child in getattr(block, "children", None) or ():
        yield child
        yield from _inside(child)
