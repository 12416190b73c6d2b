"""Save a run's state on disk, so that an interrupted run can be resumed after its last saved step.

A run consists of stages. Each takes the clip's latents and returns them. The state is one file beside the clip's
files. It contains the run's identity (`about`), the stage, the number of steps done in it, the latents, the solvers'
attributes, and the states of the noise generators. It is a torch file, read with weights_only, which runs no code.

A new part of a run needs no change here if it is a stage of its own or draws from the noise generators. A new file or
setting that changes the clip belongs into `about` (Pipeline.identity).
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
REFINED = "refined by"  # additional key in the state of a run that refines a clip
_OTHERWISE = ("checkpoint", "motion_module", "device", "dtype")  # settings whose resolved values are compared instead
_SAMPLES, _SAMPLE = 64, 1 << 16  # number of samples of a file in its digest, and bytes in each


@dataclass
class Stage:
    """A stage of a run. The stage calls `done` after each step.

    can_begin: returns whether a run can be resumed at this step (counted from 0): the step must need nothing from
    earlier steps beside the saved state.
    """

    keeper: Keeper
    name: str
    sources: Sequence[torch.Generator]  # noise generators
    step: int = 0  # first step to do
    latents: Tensor | None = None  # of the interrupted run
    solvers: list[dict[str, Any]] | None = None  # attributes of the interrupted run's solvers
    saved: int = 0  # number of steps in the last saved state
    can_begin: Callable[[int], bool] = lambda step: True

    def done(self, steps: int, latents: Tensor, solvers: Callable[[], list[dict[str, Any]]]) -> None:
        """Report that `steps` steps of this stage are done and more follow. Saves the state if it is due."""
        if self.keeper.every and steps - self.saved >= self.keeper.every and self.can_begin(steps):
            self.keeper.save(self.name, steps, latents, self.sources, solvers())
            self.saved = steps


class Keeper:
    """Saves a run's state.

    path: file of the state. `job.run` sets it when the clip's files have a name.
    about: identity of the run, see clip.provenance.
    every: number of steps between two saved states, 0 for never.
    found: state of an interrupted run to resume.
    """

    def __init__(self, path: Path | None = None, about: dict[str, Any] | None = None, *, every: int = 0,
                 found: dict[str, Any] | None = None):
        self.path, self.about, self.every, self.found = path, about, every, found
        self.notes: list[str] = []
        self._begun = False

    def stage(self, name: str, latents: Tensor, sources: Sequence[torch.Generator],
              work: Callable[[Tensor, Stage], Tensor]) -> Tensor:
        """Return the latents after `work(latents, stage)`.

        In a resumed run, stages that were finished are skipped, and the interrupted stage continues with the saved
        latents.
        """
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
        elif self.every and self._begun:  # save the result of the previous stages
            self.save(name, 0, latents, sources, [])
        self._begun = True
        return work(latents, stage)

    def save(self, stage: str, step: int, latents: Tensor, sources: Sequence[torch.Generator],
             solvers: list[dict[str, Any]]) -> None:
        """Save the state atomically: the file contains either the new state or the previous one.

        If it cannot be written, the run continues, with one note.
        """
        assert self.path is not None, "a run that keeps its state has a place for it"
        part = disk.Part(self.path)
        try:
            torch.save({"format": FORMAT, "about": self.about, "stage": stage, "step": step, "latents": latents,
                        "solvers": solvers, "generators": [source.get_state() for source in sources]}, part.file)
            part.keep()
            disk.sync_folder(self.path.parent)
        except (OSError, RuntimeError) as error:
            part.drop()
            why = error.__context__ if isinstance(error.__context__, OSError) else error  # torch hides the file's error
            if not self.notes:
                self.notes.append(f"the run's state was not saved in {self.path} ({reason(why)}); the run continues, "
                                  "but cannot be resumed from here")
        except BaseException:
            part.drop()
            raise

    def remove(self) -> None:
        """Delete the state after the clip has been written."""
        if self.path is None:
            return
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            self.notes.append(f"the run's state {self.path} could not be deleted ({reason(error)})")


def load(path: Path) -> dict[str, Any]:
    """Return a saved state. Raises MediaError if it cannot be read."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']}")
        return found
    except Exception as error:
        raise MediaError(f"is not a run's state that this version can continue ({type(error).__name__})",
                         where=str(path), remedy="Delete it, and run without --resume") from error


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return descriptions of the differences between two values of `about`."""
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
    """Raise SettingsError if the run `now` differs from the run whose state was `found` in the file `path`."""
    if said := differences(found["about"], now):
        raise SettingsError(f"this is a different run: {'; '.join(said)}", where=str(path),
                            remedy="Use the settings that it was started with, or leave --resume out to start anew")


def content(path: Path) -> str:
    """Return a digest of a file, or of the files in a folder, in hexadecimal.

    It covers sizes and samples spread over each file, at most 4 MiB of it, since models have gigabytes.
    """
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
    """Return the path of a run's state. stem: folder and name of the run's files, without an ending."""
    return stem.with_name(stem.name + SUFFIX)


def newest(out: str, folder: bool) -> Path | None:
    """Return the state that `--resume --out OUT` means: that of the file OUT, or the newest in the folder OUT.

    Returns None if there is none.
    """
    if not folder:
        path = path_of(Target(out).stem)
        return path if path.is_file() else None
    return max(Path(out).glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime, default=None)
