"""Choose the frame interpolation of a clip from its settings: method, model file and rate."""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from animatediff import windows
from animatediff.errors import AnimateDiffError, ModelError, SettingsError
from animatediff.media import optical_flow
from animatediff.media.interpolate import METHODS, Method, Stream, rife
from animatediff.media.timing import FPS_MAXIMUM, rate
from animatediff.media.transparency import TransparentMethod
from animatediff.settings import Settings
from animatediff.weights.boundary import TorchScriptError, name_of
from animatediff.weights.files import WeightFile
from animatediff.weights.kinds import RIFE, kind_of

OFF, AUTO = "off", "auto"
SUFFIXES = (".pkl", ".pth", ".pt", ".ckpt", ".safetensors")
VERSIONS = "4.0 to 4.26"  # RIFE versions that `media.interpolate.rife` can run
FindModel = Callable[[str], Path | None]  # returns the file of a name; for "", the first RIFE file found, or None


@dataclass(frozen=True)
class Interpolation:
    """A frame interpolation."""

    method: str
    source: Fraction  # frames per second before
    fps: Fraction  # frames per second after
    closed: bool = False  # whether there are new frames between the last frame and the first, too
    model: Path | None = None
    device: str = "cpu"

    def on(self, device: Any) -> Interpolation:
        """Return the interpolation with its network on this device.

        On Apple's GPUs (mps) it stays on the CPU: RIFE samples beyond the picture's border, which they do not support.
        """
        return replace(self, device="cpu" if str(device).startswith("mps") else str(device))

    def load(self) -> Method:
        """Return the method with its network loaded, if it has one."""
        tensors = {} if self.model is None else _tensors(self.model)
        return METHODS[self.method](tensors, self.device)

    def stream(self, *, transparent: bool = False) -> Stream:
        """Return a stream that interpolates one clip. transparent: frames have an alpha channel, uint8 [h w 4]."""
        method = self.load()
        return Stream(TransparentMethod(method) if transparent else method, self.fps, closed=self.closed)

    @property
    def description(self) -> str:
        """Method and model file for people, such as "RIFE (flownet.pkl)"."""
        return f"{self.method} ({name_of(self.model)})" if self.model else self.method

    def note(self) -> dict[str, Any]:
        """Return the note that is written into the clip's file."""
        about = {"method": self.method, "from_fps": round(float(self.source), 3), "fps": round(float(self.fps), 3)}
        return about | ({"model": self.model.name} if self.model else {})


def of(settings: Settings, frames: int, find: FindModel) -> Interpolation | None:
    """Return the interpolation of a clip of `frames` frames, or None if the settings want none.

    Raises SettingsError if the rate would be too high, ModelError for a missing or wrong model file, and MediaError if
    a package is missing.
    """
    if settings.interp == OFF or settings.interp_x == 1:
        return None
    source = rate(settings.fps)
    fps = source * settings.interp_x
    if fps > FPS_MAXIMUM:
        raise SettingsError(f"{settings.interp_x} times {settings.fps:g} frames per second are more than {FPS_MAXIMUM}",
                            where="interp_x", remedy="Use a smaller factor")
    plan = Interpolation("", source, fps, closes(settings, frames))
    return chosen(settings.interp, settings.interp_model, plan, find)


def closes(settings: Settings, frames: int) -> bool:
    """Return whether the last frame of a clip of `frames` frames leads to the first when it plays."""
    return bool(settings.seam_repair) or windows.closes(frames, settings.context_length, settings.closed_loop,
                                                        settings.context_schedule)


def chosen(method: str, model: str, plan: Interpolation, find: FindModel) -> Interpolation:
    """Return `plan` with this method. `auto` takes RIFE if a model file is named or found, otherwise flow."""
    path = find(model) if method in (AUTO, "RIFE") else None
    if path is not None:
        check(path)
        return replace(plan, method="RIFE", model=path)
    if method == "RIFE":
        raise ModelError("there is no file of RIFE's network", where="interp_model",
                         remedy="Put flownet.pkl into a folder of motion modules or name the file; flow needs none")
    method = "flow" if method == AUTO else method
    if method == "flow":
        optical_flow.library()
    return replace(plan, method=method)


def check(path: Path) -> WeightFile:
    """Return the file if it is a RIFE network of a supported version, without reading its tensors.

    Raises ModelError for any other file.
    """
    try:
        file = WeightFile(path)
    except TorchScriptError as error:
        raise TorchScriptError(error.what, where="interp_model", remedy="Use RIFE's flownet.pkl, or flow") from error
    kind = kind_of(file.shapes)
    if kind is None or kind.name != RIFE:
        what = kind.phrase if kind else "no kind of model that is known"
        raise ModelError(f"{file.name} is {what}, not RIFE's network", where="interp_model",
                         remedy="Take RIFE's flownet.pkl")
    if rife.layout_of(file.shapes) is None:
        raise ModelError(f"{file.name} is RIFE of another version than {VERSIONS}", where="interp_model",
                         remedy=f"Take flownet.pkl of version {VERSIONS}")
    return file


def find_in(name: str, folders: Iterable[Path]) -> Path | None:
    """Return RIFE's file of this name from the folders and their direct subfolders.

    For the name "", return the first file with flownet or rife in its name. Returns None if there is none.
    """
    for folder in folders:
        try:
            files = sorted(path for pattern in ("*", "*/*") for path in folder.glob(pattern)
                           if path.suffix.lower() in SUFFIXES and path.is_file())
        except OSError:
            continue
        for path in files:
            names = (path.name, path.relative_to(folder).as_posix())
            if name in names if name else re.search("flownet|rife", path.stem, re.IGNORECASE):
                return path
    return None


def played_fps(settings: Settings) -> Fraction:
    """Return frames per second of the written files, after interpolation."""
    return rate(settings.fps) * (1 if settings.interp == OFF else settings.interp_x)


def preflight(settings: Settings, frames: int, played: int, find: FindModel) -> tuple[str, AnimateDiffError | None]:
    """Return a description of the interpolation for the preflight, and the error if it is not possible.

    The description is "" if there is no interpolation.
    frames: number of frames in the clip. played: number of frames written without interpolation.
    """
    try:
        found = of(settings, frames, find)
    except AnimateDiffError as error:
        return "", error
    if found is None:
        return "", None
    after = f"{played * settings.interp_x} frames, {float(found.fps):g} fps, {found.description}"
    return f"{played} \N{RIGHTWARDS ARROW} {after}", None


def _tensors(path: Path) -> Mapping[str, Any]:
    return check(path).tensors()
