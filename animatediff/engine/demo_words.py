"""The demo model's vocabulary, and a note on words of prompts that are not in it."""
from __future__ import annotations

import re
from collections.abc import Iterable

from animatediff.engine import emphasis
from animatediff.engine.tokenizer import ClipTokenizer, clean

KNOWN = {
    "shapes": ("circle", "square", "triangle", "star", "cross"),
    "colours": ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink"),
    "backgrounds": ("white", "black", "gray", "beige"),
    "motions": ("moving right, left, up or down", "growing", "shrinking", "spinning", "bouncing", "at rest"),
    "sizes and speeds": ("small", "big", "slowly", "fast"),
}
_WORD = re.compile(r"\w+")
_SHOWN = 8


def notices(prompts: Iterable[str], tokenizer: ClipTokenizer) -> list[str]:
    """Return a note on the words of the prompts that are not in the vocabulary, or an empty list."""
    text = " ".join(piece.text or "" for prompt in prompts for piece in emphasis.parse(prompt))
    unknown = list(dict.fromkeys(word for word in _WORD.findall(clean(text).lower()) if not tokenizer.has_word(word)))
    if not unknown:
        return []
    words = ", ".join(unknown[:_SHOWN]) + (" …" if len(unknown) > _SHOWN else "")
    known = "; ".join(f"{what}: {', '.join(which)}" for what, which in KNOWN.items())
    return [f"the demo model never saw {words}, and draws something else there. It knows {known}. For other pictures "
            "give a model of your own with --checkpoint and --motion-module (docs/checkpoints.md)"]
