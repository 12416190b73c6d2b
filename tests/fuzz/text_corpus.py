"""Texts and values that once hung, crashed or were answered with a library's own words: (what reads it, the value)."""
from __future__ import annotations

from typing import Any


def nested(depth: int) -> list:
    """A list in a list in a list …"""
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


CORPUS: tuple[tuple[str, Any], ...] = (
    # seconds to minutes each: patterns that tried every way to part a run of blanks or digits
    ("settings", {"motion_lora": " " * 1000 + 'a"b"'}),
    ("settings", {"motion_lora": '"a\nb": 1'}),
    ("settings", {"motion_scale": "1" * 1000 + " " * 1000 + "x"}),
    ("settings", {"fps": "1" * 20000 + "x"}),
    ("prompt", "(:" + "1" * 20000),
    ("prompt", "(a" * 20000),
    ("prompt", "a" + " " * 50000 + "b"),
    ("prompt", '"0": "a' + " " * 50000 + 'b"'),
    ("prompt", "[" + "|" * 50000),
    ("infotext", "a" * 50000),
    ("infotext", "enable: " + ",a" * 30000),
    # numbers that outgrow the machine
    ("prompt", '"3999999**3999999": "a"'),
    ("prompt", '"0": "`3999999**3999999`"'),
    ("prompt", '"0": "`9**9**9**9**9`"'),
    ("prompt", '"0": "`' + "-" * 5000 + '1`"'),
    ("prompt", '"0": "`' + "(" * 150 + "1" + ")" * 150 + '`"'),
    ("prompt", '"0": "`' + "9" * 900 + '`"'),
    ("prompt", '"0": "`(0-8)**0.5`"'),
    ("prompt", '"0": "`sin(1, 2)` `min()` `where(1)`"'),
    ("prompt", '"0": "`\'a\' * 9`"'),
    ("prompt", '"0": "`[1 for t in (1, 2)]`"'),
    ("prompt", '"9" * 400: "a"'),
    ("settings", {"latent_scale": "9" * 400}),
    ("settings", {"latent_scale": 10**400}),
    ("settings", {"steps": float("inf")}),
    ("settings", {"frames": 2**70}),
    ("settings", {"motion_scale": 10**5000}),
    # groups in groups, options of options
    ("prompt", "{@" * 500 + "a|b" + "}" * 500),
    ("prompt", "{@" + "{a|b}" * 5000 + "}"),
    ("prompt", "{@999999999$$a|b}"),
    ("prompt", "{@99$$" * 9 + "a" + "}" * 9),
    ("prompt", '{"prompt_map": ' + "[" * 20000 + "]" * 20000 + "}"),
    ("prompt", '{"prompt_map": ' + '{"0": ' * 900 + "1" + "}" * 901),
    # half characters and no characters
    ("prompt", '"0": "\\ud83d"'),
    ("prompt", '"0": "\\u0000"'),
    ("prompt", "a\0b"),
    ("prompt", "\ud800"),
    # lists, objects and numbers where text belongs, and the other way round
    ("settings", {"formats": [["GIF"]]}),
    ("settings", {"formats": [{"GIF": 1}, None]}),
    ("settings", {"motion_module": nested(900)}),
    ("settings", {"motion_scale": nested(900)}),
    ("settings", {"motion_scale": {"0": 1}}),
    ("settings", {"size": nested(900)}),
    ("settings", {"a" * 100_000: 1}),
    ("settings", {"sampler": "e" * 100_000}),
    ("settings", {"motion_module": "a" * 5000}),
    ("request", {"reverse": ["Add Reverse Frame"], "closed_loop": True}),
    ("request", {"interp": nested(900)}),
    ("request", {"freeinit_enable": "x" * 10_000, "freeinit_iters": None}),
    ("request", {"video_path": 2**70}),
    ("info", "[" * 10_000 + "]" * 10_000),
    ("info", '{"settings": {"formats": [1, 2], "prompt": "\\u001b[31m"}, "motion_module": "x", "checkpoint": []}'),
    ("info", '{"settings": {"frames": 1e999}, "motion_module": {"name": {}, "family": 1}}'),
)
