"""Paths as users name them: any text is one, and one that no file can have is simply not there."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def named(text: str) -> Path:
    """With ~ as the user's folder; ~ and a name that no user has stay as they are."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def there(path: Path, kind: Callable[[Path], bool] = Path.exists) -> bool:
    """Whether a file or folder is there, or one of this kind. A name that is too long is that of none."""
    try:
        return kind(path)
    except (OSError, ValueError):
        return False
