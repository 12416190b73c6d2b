"""The sound of a clip, as its settings ask for it."""
from __future__ import annotations

from pathlib import Path

from animatediff import user_paths
from animatediff.errors import MediaError, SettingsError, end_of
from animatediff.media import sound
from animatediff.media.sound import Sound
from animatediff.media.timing import duration
from animatediff.settings import Settings


def of(settings: Settings, path: Path | None = None) -> Sound | None:
    """The sound that is heard with the clip, None for none. path: where `settings.audio` is, if not where it says.
    MediaError for a file without sound or one that cannot be read, SettingsError for a start behind its end."""
    if not settings.audio:
        return None
    found = sound.find(path or user_paths.named(settings.audio))
    if found is None:
        raise MediaError("has no sound", where=end_of(settings.audio), remedy=sound.REMEDY)
    if found.seconds is not None and settings.audio_start >= found.seconds:
        raise SettingsError(f"the sound ends before {settings.audio_start:g} s", where="audio_start",
                            remedy=f"Use less than {duration(float(found.seconds))}")
    return found.part(settings.audio_start, loop=settings.audio_loop)


def told(found: Sound) -> str:
    """Such as "music.mp3 from 12 s, repeated"."""
    start = f" from {duration(float(found.begin))}" if found.begin else ""
    return f"{found.path.name}{start}{', repeated' if found.loop else ''}"
