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
from animatediff.media.interpolate import METHODS, Method, Stream, film, rife
from animatediff.media.timing import FPS_MAXIMUM, rate
from animatediff.media.transparency import TransparentMethod
from animatediff.settings import Settings
from animatediff.weights import numbers
from animatediff.weights.boundary import name_of
from animatediff.weights.files import Shape, WeightFile
from animatediff.weights.kinds import FILM, RIFE, kind_of

OFF, AUTO = "off", "auto"
SUFFIXES = (".pkl", ".pth", ".pt", ".ckpt", ".safetensors")
WEIGHTS = (".weight", ".bias")  # ends of the keys of tensors that are used; files may hold counters, too
# (name, method) -> the model file of this name; for "", the first file of the method's network, or None.
FindModel = Callable[[str, str], Path | None]


@dataclass(frozen=True)
class Network:
    """The network of a method, and its files."""

    published: str  # name of its file
    versions: str  # supported versions
    names: str  # pattern that occurs in the names of files that are found without being named
    layout_of: Callable[[Mapping[str, Shape]], Any]  # returns None for the shapes of another version


NETWORKS = {  # by method, which is also the kind of the file
    RIFE: Network("flownet.pkl", "4.0 to 4.26", "flownet|rife", rife.layout_of),
    FILM: Network("film_net_fp32.pt", "the published one", "film", film.layout_of),
}


@dataclass(frozen=True)
class Interpolation:
    """A frame interpolation."""

    method: str
    source: Fraction  # frames per second before
    fps: Fraction  # frames per second after
    closed: bool = False  # whether there are new frames between the last frame and the first, too
    model: Path | None = None
    device: str = "cpu"
    notes: tuple[str, ...] = ()  # on the choice of the method

    def on(self, device: Any) -> Interpolation:
        """Return the interpolation with its network on this device.

        On Apple's GPUs (mps) it stays on the CPU: the networks sample beyond the picture's border, which they do not
        support.
        """
        return replace(self, device="cpu" if str(device).startswith("mps") else str(device))

    def load(self) -> Method:
        """Return the method with its network loaded, if it has one."""
        tensors = {} if self.model is None else _tensors(self.model)
        return METHODS[self.method](tensors, self.device)

    def stream(self, *, transparent: bool = False) -> Stream:
        """Return a stream that interpolates one clip. transparent: frames have an alpha channel, uint8 [h w 4]."""
        method = self.load()
        method = TransparentMethod(method) if transparent else method
        return Stream(method, self.fps, closed=self.closed, notes=self.notes)

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
    """Return `plan` with this method.

    `auto` takes the network of the named file, or RIFE if a file is found, otherwise flow. FILM without a file is
    `auto` with a note, because older clients send it without knowing whether the file is there.
    """
    methods = (method,) if method in NETWORKS else ()
    if method == AUTO:
        methods = tuple(NETWORKS) if model else (RIFE,)  # FILM takes many times as long
    path = next(filter(None, (find(model, each) for each in methods)), None)
    if path is not None:
        return replace(plan, method=check(path, methods)[1], model=path)
    if method == FILM:
        found = chosen(AUTO, "", plan, find)
        note = (f"there is no file of FILM's network, so {found.method} is used; put {NETWORKS[FILM].published} into a "
                "folder of motion modules")
        return replace(found, notes=(note,))
    if method == RIFE:
        raise ModelError("there is no file of RIFE's network", where="interp_model",
                         remedy="Put flownet.pkl into a folder of motion modules or name the file; flow needs none")
    method = "flow" if method == AUTO else method
    if method == "flow":
        optical_flow.library()
    return replace(plan, method=method)


def check(path: Path, methods: Iterable[str] = NETWORKS) -> tuple[WeightFile, str]:
    """Return the file and its method, without reading its tensors.

    Raises ModelError if it is not the network of one of the methods, in a supported version.
    """
    file = WeightFile(path)
    kind = kind_of(file.shapes)
    if kind is None or kind.name not in methods:
        what = kind.phrase if kind else "no kind of model that is known"
        raise ModelError(f"{file.name} is {what}, not the network of {' or '.join(methods)}", where="interp_model",
                         remedy=f"Take the file {' or '.join(NETWORKS[each].published for each in methods)}")
    network = NETWORKS[kind.name]
    if network.layout_of(file.shapes) is None:
        raise ModelError(f"{file.name} is {kind.name} of another version than {network.versions}",
                         where="interp_model", remedy=f"Take the file {network.published}")
    numbers.check_formats(file.name, ((key, dtype) for key, dtype in file.dtypes.items() if key.endswith(WEIGHTS)))
    return file, kind.name


def find_in(name: str, folders: Iterable[Path], method: str) -> Path | None:
    """Return the model file of this name from the folders and their direct subfolders.

    For the name "", return the first file of the method's network that has the network in its name. Returns None if
    there is none.
    """
    for folder in folders:
        try:
            files = sorted(path for pattern in ("*", "*/*") for path in folder.glob(pattern)
                           if path.suffix.lower() in SUFFIXES and path.is_file())
        except OSError:
            continue
        for path in files:
            names = (path.name, path.relative_to(folder).as_posix())
            if name in names if name else _is_of(path, method):
                return path
    return None


def _is_of(path: Path, method: str) -> bool:
    """Return whether a file has the network in its name and its tensors. An unreadable one does; `check` says why."""
    if not re.search(NETWORKS[method].names, path.stem, re.IGNORECASE):
        return False
    try:
        kind = kind_of(WeightFile(path).shapes)
    except ModelError:
        return True
    return kind is not None and kind.name == method


def played_fps(settings: Settings) -> Fraction:
    """Return frames per second of the written files, after interpolation."""
    return rate(settings.fps) * (1 if settings.interp == OFF else settings.interp_x)


def preflight(settings: Settings, frames: int, played: int, find: FindModel
              ) -> tuple[str, tuple[str, ...], AnimateDiffError | None]:
    """Return a description of the interpolation for the preflight, notes, and the error if it is not possible.

    The description is "" if there is no interpolation.
    frames: number of frames in the clip. played: number of frames written without interpolation.
    """
    try:
        found = of(settings, frames, find)
    except AnimateDiffError as error:
        return "", (), error
    if found is None:
        return "", (), None
    after = f"{played * settings.interp_x} frames, {float(found.fps):g} fps, {found.description}"
    return f"{played} \N{RIGHTWARDS ARROW} {after}", found.notes, None


def _tensors(path: Path) -> Mapping[str, Any]:
    file, _ = check(path)
    tensors = file.tensors()
    numbers.check(file.name, {key: tensor for key, tensor in tensors.items() if key.endswith(WEIGHTS)})
    return tensors
