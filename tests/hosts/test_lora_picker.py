"""Motion LoRAs picked from a list are written into the settings' text, which reads back the same."""
from __future__ import annotations

import pytest

from animatediff import loras
from animatediff.hosts.shared.lora_picker import with_lora


@pytest.mark.parametrize("before, name, weight, after", [
    ("", "zoom-in", 1, "zoom-in"), ("", "zoom-in", 0.8, "zoom-in: 0.8"), ("", "zoom-in", -0.5, "zoom-in: -0.5"),
    ("zoom-in: 0.8", "pan.ckpt", 1, "zoom-in: 0.8; pan.ckpt"), ("zoom-in: 0.8; pan", "zoom-in", 1, "zoom-in; pan"),
    ("a: 0: 1, 8: 0", "b", 1, "a: 0: 1, 8: 0; b"), ("a; b", "a", 0, "b"), ("a", "a", 0, ""), ("a", "b", 0, "a"),
    ("", "a: b; c", 1, '"a: b; c"'), ("a", None, 1, "a"), ("a", "b", None, "a; b"), (None, "a", 1, "a"),
    ("a: nonsense", "b", 1, "a: nonsense"),
])  # fmt: skip
def test_what_is_picked_is_written_once(before, name, weight, after):
    assert with_lora(before, name, weight) == after
    if name and weight and after != before:
        assert [wish.weight.constant for wish in loras.read(after) if wish.name == name] == [weight]
