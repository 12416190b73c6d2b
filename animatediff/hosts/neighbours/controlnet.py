"""The ControlNet extension (Mikubill/sd-webui-controlnet) beside this one.

A unit with one picture controls every frame. A unit without a picture gets the source video's frames. A unit with a
folder, one picture per frame, is what ControlNet calls an AnimateDiff batch: it makes a hint [frames c h w], with twice
as many rows if the host batches cond and uncond. A clip is computed in windows, so around each call of the UNet the
hints are cut to the rows of that call. ControlNet reads them again for every call. None of its code is replaced; only
its parameters are changed and restored.

Forge has a built-in ControlNet, with units of another class. It computes its additions to the UNet for all frames of
the clip before the UNet is called, and each window takes its rows of them (hosts/forge/calls.py). forge_controlnet.py
has what its units with several pictures need, and neo_controlnet.py what Forge Neo's units lack.
"""
from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modules import devices
from PIL import Image

from animatediff.errors import ModelError, SettingsError, end_of, quoted
from animatediff.hosts.a1111 import jobs, server_files
from animatediff.hosts.a1111.neighbour import InJob, Neighbour, Sampled
from animatediff.hosts.neighbours import forge_controlnet, neo_controlnet, sparsectrl
from animatediff.hosts.neighbours.picture_travel import PromptScheduler
from animatediff.hosts.shared.unet_call import AroundWindow
from animatediff.settings import Settings

A_FOLDER = "Give a folder with one picture for each frame."
FORGES_FOLDER = "batch_image_dir"  # attribute of the units of Forge's ControlNet
ELSEWHERE = "Move it below the WebUI's folder, or start the WebUI with --gradio-allowed-path and the folder."

# -- the interface that ControlNet expects of an AnimateDiff extension -------------------------------------------------


@dataclass
class Arguments:
    """The clip's settings by the names that ControlNet uses. It writes `is_i2i_batch`."""

    enable: bool
    model: str
    video_length: int
    fps: float
    closed_loop: str
    batch_size: int
    stride: int
    overlap: int
    prompt_scheduler: PromptScheduler
    is_i2i_batch: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Arguments:
        s = settings
        return cls(s.enable, s.motion_module, s.frames, s.fps, s.closed_loop, s.context_length, s.stride,
                   s.overlap_frames, PromptScheduler(s))


def get_animatediff_arg(p: Any, of_older: Callable[[Any], Any] = lambda p: None) -> Any:
    """Return the settings of the clip that a request asks for, or None.

    of_older: returns the older extension's parameters, if the request asks only for that extension.
    """
    settings = jobs.settings_of(p)
    return Arguments.of(settings) if settings else of_older(p)


def animatediff_i2i_batch(p: Any, *args: Any, **kwargs: Any) -> Any:
    """The batch tab of img2img. ControlNet leaves it to the AnimateDiff extension.

    Ours continues with the loop that ControlNet replaced, which makes the requested clip.
    """
    from modules import img2img

    plain = getattr(img2img, "__controlnet_original_process_batch", img2img.process_batch)
    return plain(p, *args, **kwargs)


# -- its part in a job -------------------------------------------------------------------------------------------------


class ControlNet(Neighbour):
    def in_job(self, p: Any) -> InJob:
        return _InJob(p)


class _InJob(InJob):
    def __init__(self, p: Any):
        self.p = p
        for _, name, unit in _enabled(p):
            if hasattr(unit, FORGES_FOLDER):
                forge_controlnet.check_model(unit, name)
        self.folders = folders(p)
        self.frames = limit(self.folders)
        self.forges: forge_controlnet.Units | None = None  # the units of Forge's ControlNet
        self.neos: neo_controlnet.Pictures = []  # the units of Forge Neo's

    def use(self, frames: int, source: Callable[[], list[str]]) -> bool:
        bare = without_pictures(self.p)
        pictures = source() if bare else []
        if len(pictures) == 1:
            pictures *= frames
        bare = [replace(folder, pictures=pictures) for folder in bare] if pictures else []
        used = [*self.folders, *bare]
        use(self.p, used, frames)
        self.neos = [(one.unit, one.pictures[: len(one.keys) or frames]) for one in used
                     if neo_controlnet.known(one.unit)]
        script, settings = _script(self.p), jobs.settings_of(self.p)
        if settings is not None and hasattr(script, forge_controlnet.APPLY):
            self.forges = forge_controlnet.Units(self.p, script, settings, frames, [
                forge_controlnet.Pictures(one.name, one.unit, one.keys) for one in used])
        return bool(bare)

    def around_job(self) -> AbstractContextManager[None]:
        return neo_controlnet.reading(_script(self.p), self.neos) if self.neos else nullcontext()

    def around_clip(self) -> AbstractContextManager[None]:
        return self.forges.around_clip() if self.forges else nullcontext()

    def check(self) -> None:
        check(self.p)

    @contextmanager
    def around_pass(self, run: Sampled) -> Iterator[None]:
        if self.forges:
            self.forges.check(_options(self.p))
        with sparsectrl.in_pass(_networks(_script(self.p)), run):
            yield

    def around_window(self, frames: int) -> Sequence[AroundWindow]:
        script = _script(self.p)
        if script is None:
            return []
        if self.forges:
            return [lambda window, roles: forge_controlnet.in_window(_options(self.p), frames, window)]
        return [lambda window, roles: hints(script, frames, window, roles)]


def _options(p: Any) -> dict[str, Any]:
    """Return the options that Forge's UNet is called with."""
    return p.sd_model.forge_objects.unet.model_options.get("transformer_options", {})


# -- units with a folder -----------------------------------------------------------------------------------------------


@dataclass
class Folder:
    """A unit with a picture for each frame, or for each key frame."""

    name: str
    place: int  # index in p.script_args
    unit: Any
    pictures: list[str]
    keys: list[int] = field(default_factory=list)


def folders(p: Any) -> list[Folder]:
    """Return the enabled units that have a folder. SettingsError for an unusable unit."""
    return [_folder(p, unit, name, place) for place, name, unit in _enabled(p)
            if _mode(unit) == "BATCH" or (unit.image is None and _batch(unit))]


def without_pictures(p: Any) -> list[Folder]:
    """Return the enabled units that have neither a picture nor a folder."""
    return [Folder(name, place, unit, []) for place, name, unit in _enabled(p)
            if _mode(unit) in ("SIMPLE", "") and not _batch(unit) and not _has_picture(unit)]


def _enabled(p: Any) -> Iterator[tuple[int, str, Any]]:
    """Yield the place in p.script_args, the name and the unit of each enabled unit."""
    script = _script(p)
    if script is None:
        return
    for place in range(script.args_from, min(script.args_to, len(p.script_args))):
        name = f"ControlNet unit {place - script.args_from}"
        unit = _unit(p.script_args[place], name)
        if unit is not None and unit.enabled:
            yield place, name, unit


def _has_picture(unit: Any) -> bool:
    """Whether a unit has a picture, or values that an API client has computed from one."""
    if getattr(unit, "ipadapter_input", None) is not None:
        return True
    if getattr(unit, "use_preview_as_input", False) and getattr(unit, "generated_image", None) is not None:
        return True
    image = unit.image.get("image") if isinstance(unit.image, dict) else unit.image
    return image is not None and not (isinstance(image, (str, list)) and not image)


def limit(found: Sequence[Folder]) -> int | None:
    """Return the smallest number of pictures of the units without key frames, or None if there is no such unit."""
    return min((len(folder.pictures) for folder in found if not folder.keys), default=None)


def use(p: Any, found: Sequence[Folder], frames: int) -> None:
    """Turn these units into per-frame units for a clip of `frames` frames."""
    args = list(p.script_args)
    for folder in found:
        if late := [key for key in folder.keys if not 0 <= key < frames]:
            raise SettingsError(f"key frame {late[0]} is not among the clip's {frames} frames, 0 to {frames - 1}",
                                where=folder.name, remedy="Correct the line that begins with keyframe:.")
        if not folder.keys and len(folder.pictures) < frames:
            raise SettingsError(f"its folder has {len(folder.pictures)} pictures, but the clip has {frames} frames",
                                where=folder.name, remedy="Set Number of frames to 0, or add pictures.")
        pictures = folder.pictures[: len(folder.keys) or frames]
        unit = folder.unit
        if hasattr(unit, "input_mode"):
            unit.input_mode = getattr(type(unit.input_mode), "BATCH")  # noqa: B009  an Enum of ControlNet's
        unit.animatediff_batch = True
        if pictures and hasattr(unit, FORGES_FOLDER):
            setattr(unit, FORGES_FOLDER, str(Path(pictures[0]).parent))  # without the line of key frames
        elif pictures and not _batch(unit):
            unit.batch_images = str(Path(pictures[0]).parent)
        theirs = getattr(unit, "batch_modifiers", None) or ()
        unit.batch_modifiers = [*theirs, lambda files, p, pictures=pictures: pictures]
        args[folder.place] = unit
    if found:
        p.script_args = tuple(args)


def check(p: Any) -> None:
    """Check, before sampling, that ControlNet is set up: the host only prints errors raised there."""
    script = _script(p)
    if script is None:
        return
    units = p.script_args[script.args_from:script.args_to]
    enabled = sum(bool(unit.get("enabled") if isinstance(unit, dict) else getattr(unit, "enabled", False))
                  for unit in units)
    if hasattr(script, "latest_network"):
        ready = not enabled or getattr(script.latest_network, "control_params", None) is not None
    else:
        ready = len(getattr(script, "current_params", ())) >= enabled  # Forge's
    if not ready:
        raise ModelError("it could not set up its units for this clip; the log has the reason", where="ControlNet",
                         remedy="Correct the unit, or disable it.")


def _unit(value: Any, name: str) -> Any:
    """Return a copy of the unit that may be changed, or None: the page passes the same objects to every job."""
    if isinstance(value, dict):
        try:
            return _of_api(value)
        except Exception as error:
            raise SettingsError(f"ControlNet does not accept it ({error})", where=name) from error
    if neo_controlnet.known(value):
        return neo_controlnet.with_folder(copy(value))
    return copy(value) if hasattr(value, "batch_images") or hasattr(value, FORGES_FOLDER) else None


def _of_api(value: dict[str, Any]) -> Any:
    """Return a request's unit, created by the API that ControlNet has for other extensions."""
    if forges := sys.modules.get("lib_controlnet.external_code"):
        return neo_controlnet.with_folder(forges.ControlNetUnit.from_dict(value), value)
    from scripts import external_code  # pyright: ignore[reportAttributeAccessIssue]

    return external_code.to_processing_unit(value)


def _batch(unit: Any) -> str:
    """Return the folder of a unit's pictures and the lines that follow it, or ""."""
    found = getattr(unit, FORGES_FOLDER, None) or getattr(unit, "batch_images", None)
    return found if isinstance(found, str) else ""


def _folder(p: Any, unit: Any, name: str, place: int) -> Folder:
    lines = [line.strip() for line in _batch(unit).split("\n")]
    if not lines[0]:
        raise SettingsError("its batch has no folder", where=name, remedy=A_FOLDER)
    forges = hasattr(unit, FORGES_FOLDER) and not neo_controlnet.known(unit)
    endings = forge_controlnet.ENDINGS if forges else tuple(Image.registered_extensions())
    pictures = _pictures(lines[0], name, endings, anywhere=server_files.job_may_read_all(p))
    keys: list[int] = []
    for line in lines[1:]:
        if line.startswith("keyframe:"):
            try:
                keys = [int(key) for key in line.removeprefix("keyframe:").split(",")]
            except ValueError:
                raise SettingsError(f"{quoted(line)} does not name frames", where=name,
                                    remedy="Write their numbers, from 0, with commas: keyframe: 0, 8, 15.") from None
    if len(keys) > len(pictures):
        raise SettingsError(f"{len(keys)} key frames are named, but the folder has {len(pictures)} pictures",
                            where=name, remedy="Give a picture for each key frame.")
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise SettingsError(f"key frame {twice[0]} is named twice", where=name, remedy="Name each frame once.")
    return Folder(name, place, unit, pictures, keys)


def _pictures(folder: str, name: str, endings: Sequence[str], *, anywhere: bool) -> list[str]:
    """Return the paths of a folder's pictures.

    endings: of the names of pictures that ControlNet reads.
    anywhere: whether any path is allowed, see server_files.
    """
    from modules import shared

    place = server_files.find(folder, f"{name}, folder {quoted(folder, 200)}", ELSEWHERE, anywhere=anywhere)
    if not os.path.isdir(place):
        raise SettingsError(f"there is no folder {quoted(folder)}", where=name, remedy=A_FOLDER)
    pictures = [path for path in shared.listfiles(str(place)) if Path(path).suffix.lower() in endings
                and (anywhere or server_files.allowed(Path(path)))]
    if not pictures:
        raise SettingsError(f"the folder {end_of(folder)} has no pictures that ControlNet reads", where=name,
                            remedy=A_FOLDER)
    return pictures


def _mode(unit: Any) -> str:
    return getattr(getattr(unit, "input_mode", None), "name", "")


def _script(p: Any) -> Any:
    for script in getattr(p.scripts, "alwayson_scripts", None) or ():
        if script.title().lower() == "controlnet":
            return script
    return None


# -- hints by window ---------------------------------------------------------------------------------------------------


def _networks(script: Any) -> list[Any]:
    """Return the networks that ControlNet has set up for this job."""
    return [param.control_model for param in getattr(getattr(script, "latest_network", None), "control_params", None)
            or ()]


@contextmanager
def hints(script: Any, frames: int, window: tuple[int, ...], roles: int) -> Iterator[None]:
    """Cut per-frame hints to the rows [(role frame)] of a window's call, inside the block."""
    with ExitStack() as undo:
        for param in getattr(getattr(script, "latest_network", None), "control_params", None) or ():
            _cut(param, frames, list(window) * roles, undo)
        yield


def _cut(param: Any, frames: int, rows: list[int], undo: ExitStack) -> None:
    model = param.control_model

    def per_frame(value: Any) -> bool:
        return getattr(value, "ndim", 0) > 2 and frames > 1 and value.shape[0] in (frames, 2 * frames)

    hint: Any
    changes: list[tuple[Any, str, Any]] = []
    for name in ("hint_cond", "hr_hint_cond"):
        if per_frame(hint := getattr(param, name, None)):  # ControlNet keeps it on the CPU
            changes.append((param, name, hint[rows].to(devices.get_device_for("controlnet"))))
    embedding: Any = getattr(model, "image_emb", None)  # IP-Adapter
    if per_frame(getattr(embedding, "cond_emb", None)):
        kept = {name: value[rows] for name, value in embedding._asdict().items() if per_frame(value)}
        changes.append((model, "image_emb", embedding._replace(**kept)))
    for module in (model.modules.values() if isinstance(getattr(model, "modules", None), dict) else ()):  # LLLite
        if per_frame(module.cond_image):
            undo.callback(module.set_cond_image, module.cond_image)
            module.set_cond_image(module.cond_image[rows])
    for name in ("used_hint_cond_latent", "used_hint_inpaint_hijack"):  # made for the previous call's rows
        latent: Any = getattr(param, name, None)
        if getattr(latent, "ndim", 0) > 2 and latent.shape[0] not in (1, len(rows)):
            setattr(param, name, None)
    reset = getattr(model, "reset", None)  # T2I- and IP-Adapter cache results of the previous hint
    if reset and (changes or embedding is not None):
        reset()
        undo.callback(reset)
    for thing, name, value in changes:
        undo.callback(setattr, thing, name, getattr(thing, name))
        setattr(thing, name, value)
