"""Train the demo model from nothing: `python -m training`. Stop it whenever you like; the same command goes on."""
from __future__ import annotations

import argparse
from pathlib import Path

from .stages import run  # not here: a process that is spawned does not find what a package's __main__ holds

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / "training-run", help="folder for the state of the run")
    parser.add_argument("--out", type=Path, default=ROOT / "animatediff" / "engine" / "demo",
                        help="folder for the weights")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clips", type=int, default=5000, help="clips in the training set")
    parser.add_argument("--vae-steps", type=int, default=2800)
    parser.add_argument("--text-steps", type=int, default=700)
    parser.add_argument("--image-steps", type=int, default=5000)
    parser.add_argument("--motion-steps", type=int, default=4800)
    parser.add_argument("--processes", type=int, default=2,
                        help="of one thread each; every one adds a batch to each step")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    run(options)


if __name__ == "__main__":
    main()
