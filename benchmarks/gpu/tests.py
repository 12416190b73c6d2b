"""Run the tests of the motion module that need this device, in a separate process."""
from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.plan import Plan

FILES = ("tests/motion/test_cuda.py", "tests/motion/test_fused.py")


def run(plan: Plan) -> list[dict]:
    if plan.device != "cuda":
        return [{"files": ", ".join(FILES), "result": "only on a GPU", "seconds": 0.0}]
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *FILES]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    for line in answer.stdout.splitlines():
        if re.match(r"E  |FAILED|ERROR", line):
            print(f"  {line}")
    last = (answer.stdout.strip() or answer.stderr.strip() or "nothing").splitlines()[-1]
    return [{"files": ", ".join(FILES), "result": last, "seconds": time.monotonic() - began}]
