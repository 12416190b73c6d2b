"""Cases of ../webui that a host of Forge's family cannot do, by a part of their names, and why."""
from __future__ import annotations

FORGE: dict[str, str] = {}
REFORGE: dict[str, str] = {}
CANNOT = {"Forge": FORGE, "reForge": REFORGE}
