"""The sound of a clip: a file of the server that a request names."""
from __future__ import annotations

from animatediff.clip import sounds
from animatediff.hosts.a1111 import server_files
from animatediff.media.sound import Sound
from animatediff.settings import Settings

ELSEWHERE = "Start the WebUI with --gradio-allowed-path and the file's folder."


def of(settings: Settings, *, anywhere: bool = False) -> Sound | None:
    """Return the sound, as `sounds.of`. anywhere: whether the path may lead to any file; see server_files."""
    if not settings.sound_file:
        return None
    return sounds.of(settings, server_files.find(settings.audio, "audio", ELSEWHERE, anywhere=anywhere))
