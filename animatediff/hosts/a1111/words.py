"""The page's texts for errors and notices, with the page's labels and in its language.

The API and the command line use the parameters' names and English.
"""
from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from modules import shared

from animatediff import settings
from animatediff.errors import AnimateDiffError, renamed
from animatediff.hosts.shared.translation import Translation

LABELS = {name: p.label for name, p in settings.BY_NAME.items()}
FOLDER = Path(__file__).absolute().parents[3] / "localizations"


def error(error: AnimateDiffError) -> str:
    """Return an error's message."""
    named = error.named(LABELS)
    language = _language()
    return language.error(named) if language else _sentence(str(named))


def notice(english: str) -> str:
    """Return a complete sentence, translated."""
    language, english = _language(), renamed(english, LABELS)
    return language.text(english) if language else _sentence(english)


def value(english: str) -> str:
    """Return a name, or a number with its unit, translated."""
    language = _language()
    return language.value(english) if language else english


def _sentence(english: str) -> str:
    """Return the text with a capital and a full stop. A file name at the beginning stays as it is."""
    first = english.split(" ", 1)[0].rstrip(":,")
    begun = english[:1].upper() + english[1:] if first.isalpha() or first.replace("'", "").isalpha() else english
    return begun if begun.endswith((".", "…", "?", "!")) else f"{begun}."


def _language() -> Translation | None:
    name = getattr(shared.opts, "localization", None)
    return _read(str(name)) if name and name != "None" else None


@lru_cache(maxsize=4)
def _read(name: str) -> Translation | None:
    return Translation.of(name, FOLDER)
