"""Inputs for the fuzz tests: the same few in every run, or as many as fit into the minutes of RUN_FUZZ."""
from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence

MINUTES = float(os.environ.get("RUN_FUZZ") or 0)  # for each test that draws
ODD = (b"\x00", b"\xff", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\xff\xff\xff\xff\xff\xff\xff\x7f",
       b"%s%n", b"../", b"\n")


def draws(few: int) -> Iterator[random.Random]:
    """A random generator for each input: of seeds 0 to `few` - 1, then on until RUN_FUZZ minutes are over."""
    end, seed = time.monotonic() + 60 * MINUTES, 0
    while seed < few or time.monotonic() < end:
        yield random.Random(seed)
        seed += 1


def mutated(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One of `seeds`, changed in one to four places: bytes flipped, replaced, cut out, doubled, or the end cut off."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        length = rng.choice((1, 1, 2, 4, 8, 64, 1024))
        way = rng.randrange(6)
        if way == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            odd = rng.choice(ODD)
            data[at:at + len(odd)] = odd
        elif way == 2:
            data[at:at + length] = rng.randbytes(length)
        elif way == 3:
            del data[at:at + length]
        elif way == 4:
            data[at:at] = data[at:at + length]
        else:
            del data[at:]
    return bytes(data)
