"""Every reader of text takes eight times as long for eight times the text, whatever the text is made of."""
from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from animatediff import loras, settings, travel
from animatediff.engine import emphasis
from animatediff.errors import AnimateDiffError
from animatediff.hosts.shared import infotext
from animatediff.hosts.shared.translation import Translation

SENTENCES = Translation({"{}a{}a{}a{}a{} zz": "{}", "{} (:{} (:{} (:{} zz": "{}"})
UNITS = (" ", "1", "a", "(", "(:", "(a", "[a|", "|",
         '"', '"0":', '"0":"', '"0":"a",', "{@a|", "{", "<lora:", "`", "--neg ",
         ":", ",", ", ", "\\", '\\"', "0:\n", "0: a\n", "a: ", "BREAK ", "'", "'0':'", "\n", "1.", "1,", "0:1,", "a;",
         '"a";', "()", "[a:", "1 a\n", "&lt;lora:", "“0”：“", "$$", "#", "a\u00a0")
READERS: dict[str, Callable[[str], object]] = {
    "prompt": lambda text: travel.schedule(text, 4),
    "emphasis": lambda text: (emphasis.parse(text), emphasis.notices(text)),
    "motion_lora": loras.read,
    "motion_scale": lambda text: settings.parse({"motion_scale": text}),
    "fps": lambda text: settings.BY_NAME["fps"].read(text[:4096]),
    "infotext": infotext.loads,
    "sentence": SENTENCES.text,
}
SHORT, TIMES = 1000, 8


@pytest.mark.parametrize("unit", UNITS, ids=repr)
@pytest.mark.parametrize("reader", READERS)
def test_time_grows_as_the_text(reader, unit):
    """A quadratic reader takes 64 times as long. Short times, which are all noise, pass."""
    def seconds(length: int) -> float:
        text = ("" if reader == "infotext" else "0: (") + unit * (length // len(unit)) + "x"
        begin = time.process_time()
        with suppress(AnimateDiffError):
            READERS[reader](text)
        return time.process_time() - begin

    ratios = []
    for _ in range(3):  # another process may have had the caches
        short, long = seconds(SHORT), seconds(SHORT * TIMES)
        ratios.append(long / max(short, 0.004))
        if ratios[-1] < 3 * TIMES:
            return
    pytest.fail(f"{ratios} times as long for {TIMES} times the text")
