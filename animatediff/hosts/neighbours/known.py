"""The other extensions that this one knows how to live with."""
from __future__ import annotations

from animatediff.hosts.a1111.neighbour import Neighbour
from animatediff.hosts.neighbours.controlnet import ControlNet
from animatediff.hosts.neighbours.older import OlderExtensions


def known() -> tuple[Neighbour, ...]:
    """In the order in which they are asked."""
    return OlderExtensions(), ControlNet()
