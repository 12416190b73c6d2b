"""General limits for the JSON of a request. Python's parser accepts values that cannot be returned or quoted."""
from __future__ import annotations

import math
from typing import Any

from animatediff.errors import SettingsError

DEEPEST = 16  # levels of nested lists and objects
MOST = 1_000_000  # values in a request
LARGEST = 2**63


def check(body: Any, where: str) -> None:
    """Raise a SettingsError for a value that is not acceptable.

    These are values nested too deep, too many values, NaN, infinity, integers of more than 64 bits, and text with an
    unpaired surrogate. Objects that are not JSON, such as a page's picture, are not checked.
    """
    level, count = [body], 0
    for _ in range(DEEPEST + 1):
        count += len(level)
        if count > MOST:
            raise _refused(f"holds more than {MOST:,} values", where)
        for value in level:
            if isinstance(value, float) and not math.isfinite(value):
                raise _refused(f"{value} is not a finite number", where)
            if isinstance(value, int) and not -LARGEST <= value < LARGEST:
                raise _refused("an integer has more than 64 bits", where)
            if isinstance(value, str) and not value.isascii():
                _check_text(value, where)
        level = [part for value in level for part in _parts(value)]
        if not level:
            return
    raise _refused(f"is nested more than {DEEPEST} deep", where)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return list(value) if isinstance(value, (list, tuple)) else []


def _check_text(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _refused("a text contains an incomplete character (an unpaired surrogate)", where) from None


def _refused(what: str, where: str) -> SettingsError:
    return SettingsError(what, where=where, remedy="Send JSON as /docs describes it.")
