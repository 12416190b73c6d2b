"""Record what clips of all kinds come to, and compare it bit by bit with a record made before a change.

    python -m tests.golden record before.json
    python -m tests.golden compare before.json

Records are of one machine and one version of its libraries: other processors round otherwise.
"""
from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
sys.path.append(str(Path(__file__).parents[1]))


def record(names: Sequence[str] = ()) -> dict[str, Any]:
    """{host: {row: what came of it}} for all rows, or those whose name begins with one of `names`."""
    import torch

    from tests.golden import engine, files, standin
    from tests.golden.table import ENGINE, ROWS, STANDIN

    torch.set_num_threads(1)
    rows = [row for row in ROWS if not names or row.name.startswith(tuple(names))]
    with tempfile.TemporaryDirectory() as place:
        made, folder = files.write(Path(place) / "made"), Path(place).resolve()
        found = {ENGINE: {row.name: engine.record(row, made, folder) for row in rows if ENGINE in row.hosts}}
        with standin.standing_in(made, folder) as host:
            found[STANDIN] = {row.name: standin.record(row, host, made, folder) for row in rows
                              if STANDIN in row.hosts and standin.has(row)}
    return found


def differences(before: Any, now: Any, where: str = "") -> Iterator[str]:
    """Where two records differ, one line for each value."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            yield from differences(before.get(key), now.get(key), f"{where} / {key}" if where else key)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for place, pair in enumerate(zip(before, now)):
            yield from differences(*pair, f"{where} [{place}]")
    elif before != now:
        yield f"{where}: {now!r:.300}, was {before!r:.300}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", nargs="*", help="only rows whose names begin so")
    arguments = parser.parse_args()
    begun, found = time.monotonic(), record(arguments.rows)
    count = sum(map(len, found.values()))
    print(f"{count} clips in {time.monotonic() - begun:.0f} s")
    if arguments.command == "record":
        arguments.file.write_text(json.dumps(found, indent=1))
        return 0
    before = json.loads(arguments.file.read_text())
    if arguments.rows:
        before = {host: {name: row for name, row in rows.items() if name in found[host]}
                  for host, rows in before.items()}
    said = list(differences(before, found))
    print("\n".join(said) or "No difference")
    return bool(said)


if __name__ == "__main__":
    raise SystemExit(main())
