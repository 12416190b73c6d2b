"""The video codecs: their encoders, pixel formats and options, and the formats that take them."""
from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from animatediff.errors import MediaError
from animatediff.media.pyav import EXTRA, library

AUTO = "auto"
# From the fastest to the slowest, as x264 and x265 name them.
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
_CPU_USED = {"libvpx-vp9": (8, 7, 6, 5, 5, 4, 2, 1, 0), "libaom-av1": (8, 8, 7, 6, 6, 5, 4, 3, 2),
             "libsvtav1": (12, 11, 10, 9, 8, 7, 5, 4, 2)}  # of each preset
_Options = Callable[[str, int, str], dict[str, str]]  # of an encoder, a crf and a preset


def listed(names: Sequence[str], word: str = "and") -> str:
    """Such as A, B and C."""
    return f" {word} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


@dataclass(frozen=True)
class Pixels:
    """A pixel format of ffmpeg's. bits: of each channel. alpha: it has transparency."""

    name: str
    bits: int
    alpha: bool = False

    @property
    def rgb(self) -> bool:
        return "b" in self.name and "yuv" not in self.name

    @property
    def step(self) -> tuple[int, int]:
        """What height and width are multiples of."""
        return 2 if "420" in self.name else 1, 2 if "420" in self.name or "422" in self.name else 1


@dataclass(frozen=True)
class Codec:
    """encoders: the first that is there is used. pixels: that it can write, best first. options: of an encoder, from
    its name, the crf and the preset. crf: by default, None where the codec has none; most_crf: the largest. tag: the
    codec's name in MP4 and MOV, where players want another than ffmpeg's own."""

    name: str
    encoders: tuple[str, ...]
    pixels: tuple[Pixels, ...]
    options: _Options
    crf: int | None = None
    most_crf: int = 63
    tag: str = ""

    def encoder(self) -> str:
        """The first encoder that is there. MediaError where none is."""
        found = next(filter(_formats, self.encoders), None)
        if found is None:
            raise MediaError(f"the encoder {' or '.join(self.encoders)} is not there", where="video_codec",
                             remedy=f"PyAV's wheels on PyPI contain it: install {EXTRA}")
        return found

    def best(self, bits: int, *, alpha: bool) -> Pixels:
        """The pixel format with transparency, if it is wanted and there is one, and the most bits up to `bits`; where
        none has so few, the fewest."""
        able = _formats(self.encoder())
        there = [each for each in self.pixels if each.name in able] or [self.pixels[0]]
        there = [each for each in there if each.alpha == alpha] or [each for each in there if not each.alpha] or there
        fitting = [each for each in there if each.bits <= bits]
        return max(fitting, key=lambda each: each.bits) if fitting else min(there, key=lambda each: each.bits)


@cache
def _formats(encoder: str) -> tuple[str, ...]:
    """The pixel formats of an encoder; none where it is not there."""
    try:
        return tuple(each.name for each in library().Codec(encoder, "w").video_formats or ())
    except ValueError:
        return ()


def _x264(encoder: str, crf: int, preset: str) -> dict[str, str]:
    # Where x264 picks algorithms by CPU, it reads memory that nobody has set: small clips differ from run to run.
    return {"crf": str(crf), "preset": preset, "x264-params": "cpu-independent=1"}


def _x265(encoder: str, crf: int, preset: str) -> dict[str, str]:
    return {"crf": str(crf), "preset": preset, "x265-params": "log-level=error"}


def _vp9(encoder: str, crf: int, preset: str) -> dict[str, str]:
    return {"crf": str(crf), "b": "0", "deadline": "good", "cpu-used": _speed(encoder, preset), "row-mt": "1"}


def _av1(encoder: str, crf: int, preset: str) -> dict[str, str]:
    if encoder == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # its level of messages, which it prints itself: errors only
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
# Of each format, its default first.
TAKEN = {"MP4": ("H.264", "H.265", "AV1", "VP9"), "WEBM": ("VP9", "AV1"),
         "MOV": ("ProRes 422 HQ", "ProRes 4444", "H.264", "H.265"), "MKV": ("FFV1", "H.264", "H.265", "AV1", "VP9")}


def of_format(form: str, name: str = AUTO) -> Codec:
    """The codec of a format's file. MediaError where the format does not take it."""
    taken = TAKEN[form]
    if name == AUTO:
        return CODECS[taken[0]]
    if name not in taken:
        able = [other for other, codecs in TAKEN.items() if name in codecs]
        raise MediaError(f"{form} cannot contain {name}", where="video_codec",
                         remedy=f"Use {listed(taken, 'or')} for {form}, or save {name} as {listed(able, 'or')}")
    return CODECS[name]

