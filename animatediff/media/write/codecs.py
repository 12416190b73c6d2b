"""The video codecs: their encoders, pixel formats and options, and the file formats that can contain them."""
from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from animatediff.errors import MediaError
from animatediff.media.pyav import EXTRA, library

AUTO = "auto"
# Names of x264 and x265, from the fastest to the slowest.
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
_CPU_USED = {"libvpx-vp9": (8, 7, 6, 5, 5, 4, 2, 1, 0), "libaom-av1": (8, 8, 7, 6, 6, 5, 4, 3, 2),
             "libsvtav1": (12, 11, 10, 9, 8, 7, 5, 4, 2)}  # the encoder's speed for each preset
_Options = Callable[[str, int, str], dict[str, str]]  # takes encoder, crf and preset


def listed(names: Sequence[str], word: str = "and") -> str:
    """Return the names as a list in words, such as "A, B and C"."""
    return f" {word} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


@dataclass(frozen=True)
class Pixels:
    """A pixel format of ffmpeg."""

    name: str
    bits: int  # per channel
    alpha: bool = False  # whether it has transparency

    @property
    def rgb(self) -> bool:
        return "b" in self.name and "yuv" not in self.name

    @property
    def step(self) -> tuple[int, int]:
        """Numbers of which height and width must be multiples."""
        return 2 if "420" in self.name else 1, 2 if "420" in self.name or "422" in self.name else 1


@dataclass(frozen=True)
class Codec:
    """A video codec."""

    name: str
    encoders: tuple[str, ...]  # the first available one is used
    pixels: tuple[Pixels, ...]  # supported pixel formats, best first
    options: _Options  # returns the encoder's options
    crf: int | None = None  # default crf; None if the codec has no crf
    most_crf: int = 63  # largest crf
    tag: str = ""  # codec tag in MP4 and MOV, if players need another than ffmpeg's default

    def encoder(self) -> str:
        """Return the first available encoder. Raises MediaError if there is none."""
        found = next(filter(_formats, self.encoders), None)
        if found is None:
            raise MediaError(f"the encoder {' or '.join(self.encoders)} is not there", where="video_codec",
                             remedy=f"PyAV's wheels on PyPI contain it: install {EXTRA}")
        return found

    def best(self, bits: int, *, alpha: bool) -> Pixels:
        """Return the best pixel format of the encoder.

        It has transparency if `alpha` is set and the codec supports it. It has the most bits up to `bits`, or the
        fewest if all have more.
        """
        able = _formats(self.encoder())
        there = [each for each in self.pixels if each.name in able] or [self.pixels[0]]
        there = [each for each in there if each.alpha == alpha] or [each for each in there if not each.alpha] or there
        fitting = [each for each in there if each.bits <= bits]
        return max(fitting, key=lambda each: each.bits) if fitting else min(there, key=lambda each: each.bits)


@cache
def _formats(encoder: str) -> tuple[str, ...]:
    """Return the pixel formats of an encoder, or none if it is not available."""
    try:
        return tuple(each.name for each in library().Codec(encoder, "w").video_formats or ())
    except ValueError:
        return ()


def _x264(encoder: str, crf: int, preset: str) -> dict[str, str]:
    # x264's CPU-specific code reads uninitialized memory, so small clips would differ from run to run.
    return {"crf": str(crf), "preset": preset, "x264-params": "cpu-independent=1"}


def _x265(encoder: str, crf: int, preset: str) -> dict[str, str]:
    return {"crf": str(crf), "preset": preset, "x265-params": "log-level=error"}


def _vp9(encoder: str, crf: int, preset: str) -> dict[str, str]:
    return {"crf": str(crf), "b": "0", "deadline": "good", "cpu-used": _speed(encoder, preset), "row-mt": "1"}


def _av1(encoder: str, crf: int, preset: str) -> dict[str, str]:
    if encoder == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # log only errors; the encoder prints its messages itself
        return {"crf": str(crf), "preset": _speed(encoder, preset)}
    return {"crf": str(crf), "b": "0", "usage": "good", "cpu-used": _speed(encoder, preset), "row-mt": "1"}


def _speed(encoder: str, preset: str) -> str:
    return str(_CPU_USED[encoder][PRESETS.index(preset)])


_420 = (Pixels("yuv420p", 8), Pixels("yuv420p10le", 10))
CODECS: dict[str, Codec] = {codec.name: codec for codec in (
    Codec("H.264", ("libx264",), _420, _x264, 18, 51),
    Codec("H.265", ("libx265",), _420, _x265, 20, 51, tag="hvc1"),
    Codec("AV1", ("libsvtav1", "libaom-av1"), _420, _av1, 25),
    Codec("VP9", ("libvpx-vp9",), (*_420, Pixels("yuva420p", 8, alpha=True)), _vp9, 24),
    Codec("ProRes 422 HQ", ("prores_ks",), (Pixels("yuv422p10le", 10),), lambda *_: {"profile": "hq"}),
    Codec("ProRes 4444", ("prores_ks",), (Pixels("yuv444p10le", 10), Pixels("yuva444p10le", 10, alpha=True)),
          lambda *_: {"profile": "4444"}),
    Codec("FFV1", ("ffv1",), (
        Pixels("bgr0", 8), Pixels("bgra", 8, alpha=True), Pixels("gbrp10le", 10), Pixels("gbrap10le", 10, alpha=True),
        Pixels("gbrp16le", 16), Pixels("gbrap16le", 16, alpha=True)), lambda *_: {"level": "3", "slicecrc": "1"}),
)}  # fmt: skip
# The codecs of each file format, its default first.
TAKEN = {"MP4": ("H.264", "H.265", "AV1", "VP9"), "WEBM": ("VP9", "AV1"),
         "MOV": ("ProRes 422 HQ", "ProRes 4444", "H.264", "H.265"), "MKV": ("FFV1", "H.264", "H.265", "AV1", "VP9")}


def of_format(form: str, name: str = AUTO) -> Codec:
    """Return a codec of a file format. Raises MediaError if the format cannot contain it."""
    taken = TAKEN[form]
    if name == AUTO:
        return CODECS[taken[0]]
    if name not in taken:
        able = [other for other, codecs in TAKEN.items() if name in codecs]
        raise MediaError(f"{form} cannot contain {name}", where="video_codec",
                         remedy=f"Use {listed(taken, 'or')} for {form}, or save {name} as {listed(able, 'or')}")
    return CODECS[name]

