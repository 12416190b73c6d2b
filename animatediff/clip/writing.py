"""Choose the writing options of a clip's files from its settings."""
from __future__ import annotations

from dataclasses import replace

from animatediff.media.write import WRITERS, WriteOptions
from animatediff.media.write.codecs import listed
from animatediff.media.write.registry import with_alpha, without_depth, without_sound
from animatediff.settings import Settings

EIGHT_BITS = "frame interpolation makes frames of 8 bits per channel"
ENLARGED = "frames that are only enlarged have 8 bits per channel"


def options(settings: Settings, base: WriteOptions | None = None) -> WriteOptions:
    """Return the writing options. base: values for options that are not in the settings, by default WriteOptions()."""
    return replace(base or WriteOptions(), video_codec=settings.video_codec, video_crf=settings.video_crf,
                   video_preset=settings.video_preset, bit_depth=int(settings.bit_depth),
                   repeats=settings.video_repeat)


def deep(settings: Settings) -> bool:
    """Return whether frames are written with more than 8 bits."""
    return settings.bit_depth != "8" and not deep_in_vain(settings)


def deep_in_vain(settings: Settings) -> bool:
    """Return whether the settings ask for more than the 8 bits that interpolated frames have."""
    return settings.bit_depth != "8" and interpolated(settings)


def of_enlarged(settings: Settings) -> list[str]:
    """Return the note on the bit depth of a clip that is only enlarged."""
    return [ENLARGED] if settings.bit_depth != "8" else []


def interpolated(settings: Settings) -> bool:
    """Return whether the settings ask for frame interpolation."""
    return settings.interp != "off" and settings.interp_x > 1


def of_transparency(settings: Settings, base: WriteOptions | None = None) -> list[str]:
    """Return the note on the transparency of a clip's source. base: as of `options`."""
    kept = with_alpha([name for name in settings.formats if name in WRITERS], options(settings, base))
    if settings.last_frame:
        return ["the start picture is transparent in places; the clip is opaque, since it ends with another picture"]
    if interpolated(settings):
        return ["the source is transparent in places; the clip is opaque, since interpolated frames are opaque"]
    if kept:
        return [f"the source is transparent in places, and the clip has the same transparency in {listed(kept)}"]
    return ["the source is transparent in places; the chosen formats cannot contain that, and show all of each frame"]


def notices(settings: Settings) -> list[str]:
    """Return notices on formats that cannot contain the sound or the bit depth."""
    formats = [name for name in settings.formats if name in WRITERS]
    said = [without_sound(formats) if settings.sound_file else "", without_depth(formats, options(settings))]
    return list(filter(None, said)) + ([EIGHT_BITS] if deep_in_vain(settings) else [])
