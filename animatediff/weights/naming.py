"""Tensor names in weight files: remove the wrappers of training code, and recognise temporal layers."""
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from animatediff.weights.boundary import LONGEST_NAME, MOST_DEPTH, MOST_TENSORS, Damaged

# The key of a temporal layer's tensor in any naming. Groups: the block, the site's number, the name inside the site.
SITE = re.compile(
    r"(?:^|\.)((?:(?:down|up)_blocks\.\d{1,3}|mid_block)\.)(?:motion_modules|temporal_attentions)\.(\d{1,3})\."
    r"(?:temporal_transformer\.)?(.+)$"
)
WRAPPERS = ("state_dict", "module", "params_ema", "params-ema", "params", "model_state_dict")  # the last: of upscalers


def unwrap(loaded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tensors of a checkpoint by key, without wrappers of training code; nested dictionaries are flattened.

    Raises Damaged if a dictionary contains itself, or if there are too many or too deeply nested entries.
    """
    flat: dict[str, Any] = {}
    seen = 0

    def take(content: Mapping[str, Any], prefix: str, above: tuple[int, ...]) -> None:
        nonlocal seen
        content, above = _inner(content, above)
        seen += len(content)
        if seen > MOST_TENSORS:
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
    """Return the dictionary inside the wrappers, and the ids of all dictionaries above and including it."""
    while True:
        if id(content) in above:
            raise Damaged("a dictionary in it contains itself")
        if len(above) >= MOST_DEPTH:
            raise Damaged("it is nested too deeply")
        above = (*above, id(content))
        inner = next((content[wrapper] for wrapper in WRAPPERS
                      if isinstance(content.get(wrapper), Mapping)), None)
        if inner is None:
            return content, above
        content = inner


def site_of(key: str) -> str:
    """Return the site of a key in any naming, such as `down_blocks.0.motion_modules.1`; "" for other keys."""
    match = SITE.search(key)
    return f"{match[1]}motion_modules.{match[2]}" if match else ""
