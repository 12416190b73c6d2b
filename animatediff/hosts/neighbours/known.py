"""The extensions that this one supports running beside."""
from __future__ import annotations

from animatediff.hosts.a1111.neighbour import Neighbour
from animatediff.hosts.neighbours.controlnet import ControlNet
from animatediff.hosts.neighbours.older import OlderExtensions


def known() -> tuple[Neighbour, ...]:
    """Return them in the order in which they are called."""
    return OlderExtensions(), ControlNet()
