"""Prompts, settings, requests and metadata that nobody means: each is read, or refused in a sentence."""
from __future__ import annotations

import json
import random
from typing import Any

import pytest
from fuzz.inputs import draws, mutated
from fuzz.text_corpus import CORPUS, nested

from animatediff import loras, settings, travel
from animatediff.clip import legacy
from animatediff.engine import emphasis
from animatediff.errors import AnimateDiffError
from animatediff.faces.cli.main import main
from animatediff.hosts.shared import infotext

PROMPTS = tuple(text.encode() for text in (
    "a (red:1.2) [circle], BREAK AND [a:b:0.5] <lora:zoom-in:0.8>",
    "best\n0: a red circle\n8 ease-in: a square\nend",
    'head\n"0": "a (dog:`0.5+t/max_f`) --neg cat", "max_f/2": "caf\\u00e9 \\\\(x\\\\)"\ntail',
    "{@a|b||c} and {a|{@d|e}}",
    '{"head_prompt": "h", "prompt_map": {"0": "a", "8": "b"}, "tail_prompt": "t"}', "“0”：“a”,\n'8':'b'",
    "0: a\n50%: b\n-1: c", "frame 0: a\nNegative prompt: b\nSteps: 20, Sampler: Euler a, AnimateDiff: \"enable: True\"",
))
INFOTEXTS = (b'enable: True, motion_module: "a, b.ckpt", frames: 16, fps: 8, motion_lora: "x: 0: 1, 8: 0"',
             b"enable: True, video_length: 16, freeinit_enable: True, model: mm.ckpt, mm_hash: 1234")
ABOUT = json.dumps({"settings": {"prompt": "a", "formats": ["GIF"], "frames": 2}, "animatediff": "1",
                    "motion_module": {"name": "m", "family": "v2"}, "checkpoint": {"name": "c"}}).encode()
ODD = (None, True, False, 0, -1, 1.5, 10**400, 2**70, float("nan"), float("inf"), "", " ", "a", "1", "0: 1, 8: 0",
       "GIF", "9" * 400, "x" * 5000, "~nosuchuser", "\0", "\ud800", "１", [], [[]], ["GIF"], [["GIF"]], [None], {},
       {"a": 1}, [1, 2], [10**400], b"GIF", nested(300), (), "a" * 200_000, "pw_a = 1", '"a', "`",
       "512x512", "none", "R+P")


def refused_or_read(read: Any, *values: Any) -> Any:
    """What is read. Any error but ours fails the test, and ours are sentences of a size that a page shows."""
    try:
        return read(*values)
    except AnimateDiffError as error:
        assert error.what and len(str(error)) < 3000, str(error)
        return None


def prompt(text: str) -> None:
    found = refused_or_read(travel.both, text, text[::-1], 9)
    for schedule in found or ():
        assert len(schedule.mixes) == 9
        for each in schedule.texts:
            emphasis.parse(each)
            emphasis.notices(each)
        refused_or_read(loras.of_clip, "", schedule)
    for to in travel.SYNTAXES:
        converted = refused_or_read(travel.convert, text, to, 9)
        if converted not in (None, text):
            travel.both(converted, "", 9)


def request(values: dict[str, Any]) -> None:
    refused_or_read(lambda: settings.parse(legacy.of_request(values)))


READERS = {"prompt": prompt, "request": request, "infotext": infotext.loads,
           "settings": lambda values: refused_or_read(settings.parse, values)}


@pytest.mark.parametrize(("reader", "value"), CORPUS, ids=[f"{reader}-{i}" for i, (reader, _) in enumerate(CORPUS)])
def test_what_once_failed(reader, value, capsys, tmp_path):
    if reader == "info":
        info(capsys, tmp_path, value.encode())
    else:
        READERS[reader](value)


def test_prompts():
    for rng in draws(150):
        prompt(mutated(rng, PROMPTS).decode("utf-8", rng.choice(("replace", "surrogateescape"))))


def test_requests():
    names = [*settings.BY_NAME, *legacy.NEUTRAL, "freeinit_enable", "freeinit_iters", "unknown", "", "\0"]
    for rng in draws(300):
        request({rng.choice(names): value(rng) for _ in range(rng.randint(1, 4))})


def value(rng: random.Random) -> Any:
    odd = rng.choice(ODD)
    return [odd, rng.choice(ODD)] if rng.random() < 0.1 else odd


def test_infotexts():
    for rng in draws(100):
        values = infotext.loads(mutated(rng, INFOTEXTS).decode("utf-8", "replace"))
        refused_or_read(settings.parse, values)  # of which two may not go together


def test_metadata(capsys, tmp_path):
    for rng in draws(15):
        info(capsys, tmp_path, mutated(rng, [ABOUT]))


def info(capsys: Any, folder: Any, data: bytes) -> None:
    """`animatediff info` and `render --from` of a file that says this of itself."""
    file = folder / "clip.txt"
    file.write_bytes(data)
    for words, codes in ((["info", str(file)], (0, 4)),
                         (["render", "--from", str(file), "--checkpoint", "none", "--out", str(folder / "a.gif")],
                          (2, 3, 4))):
        code = main(words)
        shown = "".join(capsys.readouterr())
        assert code in codes and "\x1b" not in shown and "Traceback" not in shown, shown
