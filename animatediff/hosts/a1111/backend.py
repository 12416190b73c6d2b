"""The backend of the host that runs: Forge's where its packages are, else the WebUI's own."""
from __future__ import annotations

from importlib.util import find_spec

from animatediff.hosts.shared.backend import Backend


def _of_host() -> Backend:
    if find_spec("modules_forge") is not None:
        from animatediff.hosts.forge.objects import Forge

        return Forge()
    from animatediff.hosts.a1111.ldm import LatentDiffusion

    return LatentDiffusion()


BACKEND = _of_host()
