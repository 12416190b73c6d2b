"""The recorder of golden clips sees what a run makes: the same twice, and another where a setting is another."""
from __future__ import annotations

import pytest

from tests.golden.__main__ import differences, record
from tests.golden.table import ENGINE, ROWS, STANDIN


@pytest.mark.slow
def test_a_record_is_of_the_clip_alone():
    before, now = record(["plain", "cfg 1"]), record(["plain", "cfg 1"])
    assert not list(differences(before, now))
    for host in (ENGINE, STANDIN):
        plain, other = before[host]["plain"], before[host]["cfg 1"]
        assert len(plain["latents"]) == len(plain["files"]) == 6 and len(plain["calls"]) == 6
        said = list(differences(plain, other))
        for key in ("latents [", "files / "):
            assert sum(line.startswith(key) for line in said) == 6


def test_the_table_has_no_name_twice():
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names)) > 80
