"""Write results as Markdown tables, and insert them into a page between `<!-- NAME -->` and `<!-- end NAME -->`."""
from __future__ import annotations

import re
from typing import Any


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Return a table for each measurement in the contents of a --json file, and a line about the machine."""
    found = {name: _table(rows) for name, rows in results.items() if name != "machine"}
    name = "gpu machine" if any(part.startswith("gpu ") for part in found) else "machine"
    return {name: _machine(results["machine"]), **found}


def fill(page: str, found: dict[str, str]) -> str:
    """Return the page with the tables inserted at their markers. Other markers' contents stay.

    Raises ValueError if the page has no marker for any table.
    """
    places = 0
    for name, text in found.items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        page, count = place.subn(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", page)
        places += count
    if not places:
        raise ValueError(f"the page has no place such as <!-- {next(iter(found), 'NAME')} -->")
    return page


def _table(rows: list[dict]) -> str:
    """Return rows with the same keys as a table. Columns with numbers are right-aligned."""
    if not rows:
        return "(nothing measured)"
    columns = list(rows[0])
    right = [any(isinstance(row[column], (int, float)) for row in rows) for column in columns]
    lines = [columns, ["--:" if r else ":--" for r in right], *([_cell(row[c]) for c in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    """Return the value's text. Floats have three significant digits; from 100 on they have no decimals."""
    if not isinstance(value, float):
        return str(value).replace("|", "\\|")
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _machine(facts: dict[str, Any]) -> str:
    words = {key: ", ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else value
             for key, value in facts.items()}  # fmt: skip
    return "; ".join(f"{key}: {value}" for key, value in words.items() if value not in ("", False)) + "."
