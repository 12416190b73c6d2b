"""Frame rates as exact fractions, and frame durations in the units of containers."""
from __future__ import annotations

import math
from fractions import Fraction

from animatediff.errors import MediaError, quoted

FPS_MINIMUM, FPS_MAXIMUM = Fraction(1, 100), Fraction(1000)
# Hundredths of a second. Browsers show a GIF frame of 0 or 1 hundredths for a tenth of a second.
GIF_SHORTEST = 2


def duration(seconds: float) -> str:
    """Return a duration for people: 0.04 s, 2.5 s, 20 min 50 s, 3 h 28 min."""
    if seconds < 59.95:
        return f"{float(f'{seconds:.3g}'):.6f}".rstrip("0").rstrip(".") + " s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h" + (f" {minutes % 60} min" if minutes % 60 else "")


def rate(fps: float | Fraction, where: str = "fps") -> Fraction:
    """Return frames per second as a fraction. 23.976, 29.97, 59.94 … become the broadcast rates n * 1000/1001.

    Raises MediaError for a rate out of range. where: name of the parameter, for the message.
    """
    try:
        exact = Fraction(fps)
    except (TypeError, ValueError, OverflowError):
        exact = Fraction(0)
    if not FPS_MINIMUM <= exact <= FPS_MAXIMUM:
        raise MediaError(f"{quoted(fps)} frames per second cannot be written", where=where,
                         remedy=f"Give a number from {float(FPS_MINIMUM)} to {float(FPS_MAXIMUM):g}")
    broadcast = Fraction(round(exact * Fraction(1001, 1000)) * 1000, 1001)
    # People write these rates with up to three decimals. At 5 and below, the number is taken as it is.
    if exact > 5 and abs(broadcast - exact) <= Fraction(1, 2000):
        return broadcast
    return exact.limit_denominator(1001)


def ticks(index: int, fps: Fraction, per_second: int) -> int:
    """Return the duration of frame `index` in ticks. Its start and end are rounded, so errors do not add up."""
    def boundary(i: int) -> int:
        return math.floor(i * per_second / fps + Fraction(1, 2))

    return boundary(index + 1) - boundary(index)


def gif_delay(index: int, fps: Fraction) -> int:
    """Return a frame's delay in hundredths of a second. GIFs play at 50 fps at most: viewers ignore shorter delays."""
    return GIF_SHORTEST if fps > Fraction(100, GIF_SHORTEST) else ticks(index, fps, 100)


def apng_delay(fps: Fraction) -> tuple[int, int]:
    """Return the delay in seconds as (numerator, denominator), 16 bits each."""
    delay = (1 / fps).limit_denominator(65535)
    return delay.numerator, delay.denominator
