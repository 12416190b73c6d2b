"""Choose the colour match of a clip from its settings."""
from __future__ import annotations

from collections.abc import Callable

from animatediff.errors import SettingsError
from animatediff.media import optical_flow
from animatediff.media.colour_match import ColourMatch, Reference, ToFirst, ToSource
from animatediff.settings import COLOUR_MATCHES, Settings

OFF, FIRST, SOURCE = COLOUR_MATCHES


def of(settings: Settings, reference: Reference | None) -> Callable[[], ColourMatch] | None:
    """Return a factory for the colour match of one clip, or None if the settings want none.

    reference: the source's picture for each frame that is pushed.
    Raises SettingsError if a source is needed and there is none, MediaError if a package is missing.
    """
    if settings.color_match == OFF:
        return None
    if settings.color_match == FIRST:
        optical_flow.library()
        return ToFirst
    if reference is None:
        raise SettingsError("the clip has no source to take colours from", where="color_match",
                            remedy="Give a start picture, or use first frame")
    return lambda: ToSource(reference)
