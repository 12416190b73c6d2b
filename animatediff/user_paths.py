"""Paths from users. Any text is accepted; a path that cannot exist is treated as a missing file."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def named(text: str) -> Path:
    """Return the text as a path, with ~ expanded to the user's folder. ~NAME of an unknown user stays as it is."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def there(path: Path, kind: Callable[[Path], bool] = Path.exists) -> bool:
    """Return whether the path exists, or `kind(path)`. A name that is too long or invalid does not exist."""
    try:
        return kind(path)
    except (OSError, ValueError):
        return False
