"""constraints.txt: one version of every package that the README's commands install."""
from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LINES = (ROOT / "constraints.txt").read_text().splitlines()
PINNED = {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in LINES if line[:1] not in "#"}


def needed(lines: list[str] | None, extras: set[str], seen: set[tuple[str, str]]) -> set[str]:
    """All packages that these requirements bring here, by what each package says itself."""
    found = set()
    for line in lines or ():
        wanted = Requirement(line)
        if wanted.marker and not any(wanted.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            continue
        other = canonicalize_name(wanted.name)
        found.add(other)
        for extra in wanted.extras | {""}:
            if (other, extra) not in seen:
                seen.add((other, extra))
                found |= needed(metadata.requires(other), {extra}, seen)
    return found


@pytest.mark.parametrize("extras", [["engine"], ["engine", "dev"]], ids=str)
def test_everything_that_is_installed_has_a_version(extras):
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    try:
        asked = sum((project["optional-dependencies"][extra] for extra in extras), project["dependencies"])
        names = needed(asked, set(), set())
    except metadata.PackageNotFoundError as error:
        pytest.skip(f"{error} is not installed")
    assert "typing-inspection" in names or "dev" not in extras
    assert not names - PINNED.keys(), "not pinned"


def test_the_versions_are_exact_and_each_is_there_once():
    pins = [line for line in LINES if not line.startswith("#")]
    assert len(pins) == len(PINNED) and all(PINNED.values())
