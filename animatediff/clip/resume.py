"""A run's state on disk, so that a run that was cut off goes on behind its last finished step.

A run is a row of stages: each takes the clip's latents and gives them back. The state is one file beside the clip's
files: what the run is (`about`), the stage, the steps done in it, the latents, the solvers' attributes, and the states
of the noise sources. It is a torch file that is read with weights_only, which runs no code. A new ingredient of a run
either is a stage of its own or draws from the noise sources, and then has nothing to do here; a new file or setting
that changes the clip belongs into `about` (Pipeline.identity).
"""
from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from animatediff import disk
from animatediff.errors import MediaError, SettingsError
from animatediff.media.write import Target
from animatediff.media.write.base import reason

SUFFIX = ".state"
FORMAT = 1
REFINED = "refined by"  # what the state of a run that refines a clip says beside others
_OTHERWISE = ("checkpoint", "motion_module", "device", "dtype")  # settings that are compared by what they came to
_SAMPLES, _SAMPLE = 64, 1 << 16  # pieces of a file, and bytes of each


@dataclass
class Stage:
    """A stage that does steps: where it begins (`step`, `latents` and `solvers` are of the run that was cut off), and
    what it tells of each step that is done. can_begin: whether a run can go on with this step (counted from 0), as it
    can where the step needs nothing of those before but what is saved."""

    keeper: Keeper
    name: str
    sources: Sequence[torch.Generator]
    step: int = 0
    latents: Tensor | None = None
    solvers: list[dict[str, Any]] | None = None
    saved: int = 0
    can_begin: Callable[[int], bool] = lambda step: True

    def done(self, steps: int, latents: Tensor, solvers: Callable[[], list[dict[str, Any]]]) -> None:
        """`steps` are done in this stage, and it has more."""
        if self.keeper.every and steps - self.saved >= self.keeper.every and self.can_begin(steps):
            self.keeper.save(self.name, steps, latents, self.sources, solvers())
            self.saved = steps


class Keeper:
    """Keeps a run's state in `path`, every so many steps (0: never); `found` is the state of a run to go on with.
    `job.run` gives it its path, once the clip's files have a name."""

    def __init__(self, path: Path | None = None, about: dict[str, Any] | None = None, *, every: int = 0,
                 found: dict[str, Any] | None = None):
        self.path, self.about, self.every, self.found = path, about, every, found
        self.notes: list[str] = []
        self._begun = False

    def stage(self, name: str, latents: Tensor, sources: Sequence[torch.Generator],
              work: Callable[[Tensor, Stage], Tensor]) -> Tensor:
        """`work(latents, stage)`; of a run that was cut off only what it had not done. Stages that were finished then
        are left out, and what they would be given does not matter."""
        stage = Stage(self, name, sources)
        if self.found is not None:
            if self.found["stage"] != name:
                return latents
            found, self.found = self.found, None
            for source, state in zip(sources, found["generators"]):
                source.set_state(state)
            stage.step = stage.saved = found["step"]
            stage.solvers = found["solvers"]
            latents = stage.latents = found["latents"].to(latents.device)
        elif self.every and self._begun:  # what the stages before have made
            self.save(name, 0, latents, sources, [])
        self._begun = True
        return work(latents, stage)

    def save(self, stage: str, step: int, latents: Tensor, sources: Sequence[torch.Generator],
             solvers: list[dict[str, Any]]) -> None:
        """Atomically: a state is whole or the one before. Where it cannot be written,
        the run goes on and says so once."""
        assert self.path is not None, "a run that keeps its state has a place for it"
        part = disk.Part(self.path)
        try:
            torch.save({"format": FORMAT, "about": self.about, "stage": stage, "step": step, "latents": latents,
                        "solvers": solvers, "generators": [source.get_state() for source in sources]}, part.file)
            part.keep()
            disk.sync_folder(self.path.parent)
        except (OSError, RuntimeError) as error:
            part.drop()
            why = error.__context__ if isinstance(error.__context__, OSError) else error  # torch raises over the file's
            if not self.notes:
                self.notes.append(f"the run's state was not saved in {self.path} ({reason(why)}); the run continues, "
                                  "but cannot be resumed from here")
        except BaseException:
            part.drop()
            raise

    def remove(self) -> None:
        """The run is finished, and the disk has all of its clip."""
        if self.path is None:
            return
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            self.notes.append(f"the run's state {self.path} could not be deleted ({reason(error)})")


def load(path: Path) -> dict[str, Any]:
    """A state; MediaError where it cannot be read."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']}")
        return found
    except Exception as error:
        raise MediaError(f"is not a run's state that this version can continue ({type(error).__name__})",
                         where=str(path), remedy="Delete it, and run without --resume") from error


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What of `about` is not as it was."""
    said = []
    for name in {**before, **now}:
        was, now_is = before.get(name), now.get(name)
        if name == "settings":
            was, now_is = was or {}, now_is or {}
            said += [f"{key} is {now_is.get(key)!r}, was {was.get(key)!r}" for key in {**was, **now_is}
                     if was.get(key) != now_is.get(key) and key not in _OTHERWISE]
        elif isinstance(was, dict) and isinstance(now_is, dict):
            if was["content"] != now_is["content"]:
                said.append(f"the {name} is another ({now_is['name']}, was {was['name']})")
        elif was != now_is:
            said.append(f"{name} is {now_is}, was {was}")
    return said


def refuse_differences(found: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    if said := differences(found["about"], now):
        raise SettingsError(f"this is a different run: {'; '.join(said)}", where=str(path),
                            remedy="Use the settings that it was started with, or leave --resume out to start anew")


def content(path: Path) -> str:
    """A digest of a file, or of a folder's files: their sizes, and pieces all over them. Reads a few megabytes at most,
    as models have gigabytes."""
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path)} {size}\n".encode())
        with open(file, "rb") as data:
            for at in sorted({max(0, (size - _SAMPLE) * k // (_SAMPLES - 1)) for k in range(_SAMPLES)}):
                data.seek(at)
                digest.update(data.read(_SAMPLE))
    return digest.hexdigest()


def path_of(stem: Path) -> Path:
    """Where the state of a run lies whose files have this folder and name."""
    return stem.with_name(stem.name + SUFFIX)


def newest(out: str, folder: bool) -> Path | None:
    """The state that `--resume --out OUT` means: the file's own, or the newest in the folder."""
    if not folder:
        path = path_of(Target(out).stem)
        return path if path.is_file() else None
    return max(Path(out).glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime, default=None)
