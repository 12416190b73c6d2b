"""Names of tensors in files: without trainers' wrappers, and which of them belong to temporal layers."""
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from animatediff.weights.boundary import LONGEST_NAME, MOST_DEPTH, MOST_TENSORS, Damaged

# A temporal layer's tensor in any naming: the block, the site's number, and the name inside.
SITE = re.compile(
    r"(?:^|\.)((?:(?:down|up)_blocks\.\d{1,3}|mid_block)\.)(?:motion_modules|temporal_attentions)\.(\d{1,3})\."
    r"(?:temporal_transformer\.)?(.+)$"
)
WRAPPERS = ("state_dict", "module", "params_ema", "params-ema", "params", "model_state_dict")  # the last: of upscalers


def unwrap(loaded: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a checkpoint by key: wrappers of trainers removed, other nested dictionaries flattened.

    Damaged where a dictionary holds itself, or where there are more entries than any model has.
    """
    flat: dict[str, Any] = {}
    looked_at = 0

    def take(content: Mapping[str, Any], prefix: str, above: tuple[int, ...]) -> None:
        nonlocal looked_at
        content, above = _inner(content, above)
        looked_at += len(content)
        if looked_at > MOST_TENSORS:
            raise Damaged(f"it holds more than {MOST_TENSORS} entries")
        for key, value in content.items():
            name = prefix + str(key)
            if len(name) > LONGEST_NAME:
                raise Damaged(f"a tensor's name has {len(name)} characters")
            if isinstance(value, Mapping):
                take(value, f"{name}.", above)
            elif hasattr(value, "shape"):
                flat[prefix + str(key).removeprefix("module.")] = value

    take(loaded, "", ())
    return flat


def _inner(content: Mapping[str, Any], above: tuple[int, ...]) -> tuple[Mapping[str, Any], tuple[int, ...]]:
    """What lies inside the wrappers, and the dictionaries on the way there, by their identity."""
    while True:
        if id(content) in above:
            raise Damaged("it holds itself")
        if len(above) >= MOST_DEPTH:
            raise Damaged("it is nested too deeply")
        above = (*above, id(content))
        inner = next((content[wrapper] for wrapper in WRAPPERS
                      if isinstance(content.get(wrapper), Mapping)), None)
        if inner is None:
            return content, above
        content = inner


def site_of(key: str) -> str:
    """`down_blocks.0.motion_modules.1` for a key of that site in any naming, "" for other keys."""
    match = SITE.search(key)
    return f"{match[1]}motion_modules.{match[2]}" if match else ""
