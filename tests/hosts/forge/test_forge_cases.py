"""The hosts of Forge's family run the cases of ../webui."""
from __future__ import annotations

from pathlib import Path

from cannot import LEFT_OUT

HERE = Path(__file__).parent


def test_each_file_of_cases_is_run_or_left_out_for_a_reason():
    files = {path.name for path in (HERE.parent / "webui").glob("test_*.py")}
    run = {name for name in files if (HERE / "cases" / name.replace("webui", "forge")).is_file()}
    assert run | LEFT_OUT.keys() == files and not run & LEFT_OUT.keys()
