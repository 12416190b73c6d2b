"""Packages that are imported when they are first needed, since not everybody has them."""
from __future__ import annotations

from importlib import import_module
from types import ModuleType

from animatediff.errors import MediaError


def extra(name: str, package: str) -> str:
    """How a package is installed that one of this project's extras contains."""
    return f'the extra "{name}" (pip install -e ".[{name}]" in the project\'s folder, or pip install {package})'


def needed(module: str, called: str, where: str, install: str) -> ModuleType:
    """The module. MediaError where it cannot be imported. called: its package. install: as `extra` says."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MediaError(f"the package {called} cannot be imported ({error})", where=where,
                         remedy=f"Install {install}") from error
