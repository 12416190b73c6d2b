"""Run a measurement in its own process, and measure a process's memory."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def child(module: str, *arguments: object) -> dict[str, Any]:
    """Run `python -m module arguments` and return the last line of its output, parsed as JSON.

    The process has as many threads as torch has in this one. Raises RuntimeError if it fails.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], env=_environment())
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:])} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _environment() -> dict[str, str]:
    torch = sys.modules.get("torch")
    return os.environ | {"HF_HUB_OFFLINE": "1"} | ({"OMP_NUM_THREADS": str(torch.get_num_threads())} if torch else {})


def resident() -> int:
    """Return the resident size of this process in bytes."""
    now = _status("VmRSS")
    return _highest() if now is None else now


def reset_peak() -> bool:
    """Reset the kernel's record of the peak memory; return False if that is not possible."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak(reset: bool) -> int:
    """Return the peak memory in bytes since `reset_peak`, or since the process began if that failed.

    reset: the result of `reset_peak`.
    """
    highest = _status("VmHWM") if reset else None
    return _highest() if highest is None else highest


def _status(field: str) -> int | None:
    """Return a field of /proc/self/status in bytes; None if there is no such file or field."""
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), None)


def _highest() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
