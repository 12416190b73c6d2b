"""Names of tensors in files: without trainers' wrappers, and which of them belong to temporal layers."""
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# A temporal layer's tensor in any naming: the block, the site's number, and the name inside.
SITE = re.compile(
    r"(?:^|\.)((?:(?:down|up)_blocks\.\d+|mid_block)\.)(?:motion_modules|temporal_attentions)\.(\d+)\."
    r"(?:temporal_transformer\.)?(.+)$"
)


def unwrap(loaded: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a checkpoint by key: wrappers of trainers removed, other nested dictionaries flattened."""
    for wrapper in ("state_dict", "module"):
        while isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    flat: dict[str, Any] = {}
    for key, value in loaded.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}.{inner}": tensor for inner, tensor in unwrap(value).items()})
        elif hasattr(value, "shape"):
            flat[str(key).removeprefix("module.")] = value
    return flat


def site_of(key: str) -> str:
    """`down_blocks.0.motion_modules.1` for a key of that site in any naming, "" for other keys."""
    match = SITE.search(key)
    return f"{match[1]}motion_modules.{match[2]}" if match else ""
