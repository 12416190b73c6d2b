"""POST /animatediff/v1/NAME for each of `finished.OPERATIONS`: takes a clip, returns files and facts about them."""
from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from modules import call_queue, shared

from animatediff.errors import SettingsError, end_of
from animatediff.hosts.a1111 import finished
from animatediff.hosts.a1111.finished import FILE, Operation, Planned
from animatediff.settings import BY_NAME

FEW = 12  # names that an error lists


def answer(operation: Operation, body: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the files as paths and as base64, and facts about them, such as the number of frames."""
    with _planned(operation, body) as planned, _job(name, str(planned)):
        lines = finished.description(planned)["lines"]
        made = planned.run()
    return {"images": [base64.b64encode(path.read_bytes()).decode() for path in made.paths],
            "files": [str(path) for path in made.paths], "frames": made.frames, "fps": made.fps,
            "infotext": made.text, "notes": made.notes, "lines": lines,
            **({"temporal_error": made.error.to_dict()} if made.error else {})}


def preflight(operation: Operation, body: dict[str, Any]) -> dict[str, Any]:
    """Return what a request will do, without running it."""
    with _planned(operation, body) as planned:
        return finished.description(planned)


@contextmanager
def _planned(operation: Operation, body: dict[str, Any]) -> Iterator[Planned]:
    names = (FILE, *operation.schema())
    known = {*names, *(alias for name in names if name in BY_NAME for alias in BY_NAME[name].aliases)}
    if unknown := body.keys() - known:
        raise SettingsError("unknown", where=end_of(name := min(unknown)), remedy=_names(name, names))
    values = {key: value for key, value in body.items() if key != FILE}
    with finished.of_request(body.get(FILE)) as source:
        yield operation.plan(source, values)


def _names(name: str, known: Sequence[str]) -> str:
    """Return what to send instead of an unknown name."""
    if len(known) <= FEW:
        return f"Send {', '.join(known)}"
    close = get_close_matches(name, known, 1)
    return f"{f'Did you mean {close[0]}? ' if close else ''}The WebUI's page /docs lists the names"


def documented(operation: Operation) -> dict[str, Any]:
    """Return the schema of the route's body for the host's page /docs."""
    properties = {FILE: {"type": "string", "title": "Clip", "description": finished.REMEDY}, **operation.schema()}
    schema = {"type": "object", "required": [FILE], "properties": properties, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@contextmanager
def _job(name: str, line: str) -> Iterator[None]:
    """Run the block in the host's queue. /sdapi/v1/progress shows its progress, /sdapi/v1/interrupt ends it.

    line: the first text of the progress.
    """
    with call_queue.queue_lock:
        shared.state.begin(job=f"animatediff {name}")
        shared.state.textinfo = f"AnimateDiff: {line}"
        try:
            yield
        finally:
            shared.state.end()
