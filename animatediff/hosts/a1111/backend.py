"""The backend of the running host: Forge and Forge Neo, reForge, or the WebUI itself.

The host is recognised by the packages that it has.
"""
from __future__ import annotations

from importlib.util import find_spec

from animatediff.hosts.shared.backend import Backend


def _of_host() -> Backend:
    if find_spec("modules_forge") is not None and find_spec("backend") is not None:
        from animatediff.hosts.forge.objects import Forge

        return Forge()
    if find_spec("modules_forge") is not None:
        from animatediff.hosts.forge.reforge import ReForge

        return ReForge()
    from animatediff.hosts.a1111.ldm import LatentDiffusion

    return LatentDiffusion()


BACKEND = _of_host()
