"""The sound of a clip: a file of the server that a request names, a sound in a request, or an upload of the page.

A sound that is uploaded or sent in a request is kept under a hash of its content; settings and infotexts contain that
name.
"""
from __future__ import annotations

from dataclasses import replace

from animatediff.clip import sounds
from animatediff.hosts.a1111 import server_files
from animatediff.hosts.a1111.kept import ELSEWHERE, KeptFiles
from animatediff.media import masks, opening, read
from animatediff.media.sound import Sound
from animatediff.settings import Settings

IN_REQUEST = "Send a sound, or a video with sound, in base64 or as a data URI, or the path of one."
KEPT = KeptFiles("AnimateDiff-sounds", "sound", opening.sound_kind, opening.READ_SOUND)


def named(settings: Settings) -> Settings:
    """Return the settings for infotexts: a sound in the request is kept under a name, and a path omits the home folder.
    """
    if not settings.sound_file:
        return settings
    data = read.embedded(settings.audio, "audio", IN_REQUEST, "sound or video", opening.sound_kind)
    return replace(settings, audio=KEPT.keep(data) if data else masks.without_home(settings.audio))


def of(settings: Settings, *, anywhere: bool = False) -> Sound | None:
    """Return the sound, as `sounds.of`.

    settings: settings returned by `named`.
    anywhere: whether a path may lead to any file; see server_files.
    """
    if not settings.sound_file:
        return None
    path = KEPT.find(settings.audio) or server_files.find(settings.audio, "audio", ELSEWHERE, anywhere=anywhere)
    return sounds.of(settings, path)
