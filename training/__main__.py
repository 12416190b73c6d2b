"""Train the demo model from scratch: `python -m training`. The same command resumes a run that was stopped."""
from __future__ import annotations

import argparse
from pathlib import Path

from .stages import run  # in another module, since spawned processes cannot import from a package's __main__

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
                        help="number of processes with one thread each; each adds a batch to every step")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    run(options)


if __name__ == "__main__":
    main()
