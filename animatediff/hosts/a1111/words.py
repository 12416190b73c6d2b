"""What the page says of errors and notices: with its own labels, and in its language.

The API and the command line have the parameters' names and English.
"""
from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from modules import shared

from animatediff import settings
from animatediff.errors import AnimateDiffError
from animatediff.hosts.shared.translation import Translation

LABELS = {name: p.label for name, p in settings.BY_NAME.items()}
FOLDER = Path(__file__).absolute().parents[3] / "localizations"


def error(error: AnimateDiffError) -> str:
    """An error's message."""
    named = error.named(LABELS)
    language = _language()
    return language.error(named) if language else str(named)


def text(english: str) -> str:
    """A notice, or the value of a fact."""
    language = _language()
    return language.text(english) if language else english


def _language() -> Translation | None:
    name = getattr(shared.opts, "localization", None)
    return _read(str(name)) if name and name != "None" else None


@lru_cache(maxsize=4)
def _read(name: str) -> Translation | None:
    path = FOLDER / f"{name}.json"
    return Translation.read(path) if Path(name).name == name and path.is_file() else None
