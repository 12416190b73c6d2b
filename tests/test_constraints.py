"""constraints.txt: one version of every package that the README's commands install."""
from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LINES = (Path(__file__).resolve().parents[1] / "constraints.txt").read_text().splitlines()
PINNED = {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in LINES if line[:1] not in "#"}


def needed(name: str, extras: set[str], seen: set[tuple[str, str]]) -> set[str]:
    """All packages that `name` brings here, by what each says itself."""
    found = set()
    for line in metadata.requires(name) or ():
        wanted = Requirement(line)
        if wanted.marker and not any(wanted.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            continue
        other = canonicalize_name(wanted.name)
        found.add(other)
        for extra in wanted.extras | {""}:
            if (other, extra) not in seen:
                seen.add((other, extra))
                found |= needed(other, {extra}, seen)
    return found


@pytest.mark.parametrize("extras", [{"engine"}, {"engine", "dev"}], ids=str)
def test_everything_that_is_installed_has_a_version(extras):
    try:
        names = needed("animatediff-webui", extras, set())
    except metadata.PackageNotFoundError as error:
        pytest.skip(f"{error} is not installed")
    assert "typing-inspection" in names or "dev" not in extras
    assert not names - PINNED.keys(), "not pinned"


def test_the_versions_are_exact_and_each_is_there_once():
    pins = [line for line in LINES if not line.startswith("#")]
    assert len(pins) == len(PINNED) and all(PINNED.values())
