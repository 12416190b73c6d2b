"""Kill runs in processes of their own and resume them. test_resume.py starts this script.

Arguments: paths of a tiny checkpoint, a motion module and a folder. The script prints the results of all cases as
JSON. Processes are forked, so that torch is imported once.
"""
from __future__ import annotations

import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path

import torch

from animatediff import sampler_table
from animatediff.clip import provenance, resume
from animatediff.engine import samplers
from animatediff.engine.pipeline import Pipeline
from animatediff.settings import parse

torch.set_num_threads(1)
samplers.AT_ONCE = 2  # a clip of 5 frames has several solvers
PIPELINE = Pipeline.load(sys.argv[1], sys.argv[2], device="cpu", dtype="fp32")
FOLDER = Path(sys.argv[3])


def settings(**more):
    return parse({"enable": True, "prompt": "x", "seed": 5, "steps": 4, "frames": 5, "context_length": 4,
                  "size": "64x64", "cfg": 1.0, **more})


def forked(work) -> int:
    """Call `work()` in a forked process. Return the signal that ended it, or its exit status."""
    if not (child := os.fork()):
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def frames(asked, keeper, on_event=lambda event: None):
    return torch.stack([torch.from_numpy(f) for f in PIPELINE.render(asked, on_event, keeper)])


def case(name: str, when, every: int = 1, **more) -> dict:
    """Kill a run when `when(event)` is true, resume it, and compare it with a whole run."""
    asked, path = settings(**more), FOLDER / f"{name}.state"
    about = provenance.identity(PIPELINE.plan(asked), PIPELINE)
    plain = frames(asked, None)

    def die(event):
        if when(event):
            os.kill(os.getpid(), signal.SIGKILL)

    ended = forked(lambda: frames(asked, resume.Keeper(path, about, every=every), die))
    found = resume.load(path)
    events = []
    again = frames(asked, resume.Keeper(path, about, every=every, found=found), events.append)
    calls = sum(event.kind == "window" for event in events)
    return {"ended": ended, "stage": found["stage"], "step": found["step"], "equal": torch.equal(plain, again),
            "calls": calls, "planned": PIPELINE.plan(asked).calls(found), "all": PIPELINE.plan(asked).calls()}


def in_a_window(step):
    return lambda event: event.kind == "window" and event.step == step and event.index == 1


def disk_full() -> dict:
    """Run with a limit of 20 kB for files."""
    asked, path = settings(frames=20, steps=2), FOLDER / "full.state"

    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        keeper = resume.Keeper(path, provenance.identity(PIPELINE.plan(asked), PIPELINE), every=1)
        assert torch.equal(plain, frames(asked, keeper))
        [note] = keeper.notes
        assert "not saved" in note and "File too large" in note and str(path) in note, note

    plain = frames(asked, None)
    return {"ended": forked(work), "left": [p.name for p in FOLDER.iterdir() if "full" in p.name]}


if __name__ == "__main__":
    found = {name: case(name, in_a_window(3), sampler=name, noise=noise) for name, noise in
             zip(sampler_table.SAMPLERS, ["per frame", "per clip"] * 9)}
    found["every 2"] = case("every 2", in_a_window(3), every=2, sampler="Euler a")
    found["repair"] = case("repair", lambda e: e.kind == "window" and e.total == 1, sampler="Euler a", seam_repair=0.6)
    found["decoding"] = case("decoding", lambda e: e.kind == "frame" and e.index == 3,
                             sampler="Euler a", seam_repair=0.6)
    for name, step in (("FreeInit", 3), ("FreeInit's beginning", 1)):
        found[name] = case(name, lambda e, step=step: e.iteration == 2 and in_a_window(step)(e), sampler="Euler a",
                           freeinit_iterations=2)
    for name, more in (("draft", {}), ("draft, FreeInit", {"freeinit_iterations": 2}),
                       ("draft, repair", {"seam_repair": 0.6})):
        found[name] = case(name, lambda e, name=name: e.kind == "window" and e.step == (
            5 if "repair" in name else 9) and (
            e.iteration == 2 if "FreeInit" in name else e.total == 1 if "repair" in name else True),
                           sampler="Euler a", steps=10, speed="draft", cfg=1.0 if more else 5.0, **more)
    found["disk full"] = disk_full()
    print(json.dumps(found))
