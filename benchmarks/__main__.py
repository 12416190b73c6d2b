"""Run measurements and print a table: `python -m benchmarks [NAME …] [--quick] [--json FILE]`."""
from __future__ import annotations

import argparse
import importlib
import json
import platform
from pathlib import Path

import torch

NAMES = {
    "demo_quality": "colour, shape and direction of the demo model's clips",
    "unet_step": "one UNet step of 16 frames against the plain UNet and diffusers' UNetMotionModel",
    "writers": "frames per second of each writer against imageio",
    "memory": "peak memory at 16, 64 and 256 frames",
}


def main() -> None:
    epilog = "\n".join(f"  {name:14}{text}" for name, text in NAMES.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME", help="what to measure; all by default")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds, to see that it runs")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = {"torch": torch.__version__, "python": platform.python_version(), "threads": options.threads}
    results = {"machine": machine}
    for name in options.names or NAMES:
        print(f"\n{name}: {NAMES[name]}", flush=True)
        rows = importlib.import_module(f"benchmarks.{name}").run(quick=options.quick)
        results[name] = rows
        print(table(rows), flush=True)
        if options.json:
            options.json.write_text(json.dumps(results, indent=1))


def table(rows: list[dict]) -> str:
    """Rows of the same keys as aligned text."""
    if not rows:
        return "(nothing measured)"
    cells = [list(rows[0])] + [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in cells)


if __name__ == "__main__":
    main()
