"""Units of Forge's built-in ControlNet that have several pictures.

In `process`, ControlNet makes a unit's hints: a tensor with a row for each frame, or, for an IP-Adapter, a dict with
the first picture of the folder. `Units.prepare` spreads the hints of key frames over the clip, and gives an IP-Adapter
all pictures. ControlNet's own code then puts them into the UNet's attention, with a row for each picture; for a window
it takes the rows that `ad_params` names (hosts/forge/calls.py).
"""
from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from animatediff.attribute import attribute
from animatediff.errors import AnimateDiffError, ModelError, SettingsError, quoted
from animatediff.hosts.neighbours.picture_travel import PromptScheduler
from animatediff.hosts.neighbours.pictures_of_clip import OneByOne, stacked
from animatediff.settings import Settings
from animatediff.weights.evidence import Evidence, has, temporal
from animatediff.weights.files import read_shapes

HINTS, MASKS = ("control_cond", "control_cond_for_hr_fix"), ("control_mask", "control_mask_for_hr_fix")
APPLY = "process_unit_before_every_sampling"
SPARSE = temporal & has("controlnet_cond_embedding.", "input_hint_block.")
CORRECT = "The log has more. Correct the unit, or disable it."
ONE = "Give it one picture instead of a folder."
NO_SPARSE = ("Use key frames with another ControlNet model or with an IP-Adapter, or AUTOMATIC1111's WebUI with the "
             "ControlNet extension.")
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp")  # of the pictures that it reads


@dataclass
class Pictures:
    """A unit with a picture for each frame, or for each key frame."""

    name: str
    unit: Any
    keys: Sequence[int] = ()  # the numbers of the key frames, if it has some


@dataclass
class PerFrame:
    """The value of an IP-Adapter's `unfold_batch`. Like any true value, it means a picture for each frame.

    ControlNet copies it into the UNet's attention, where it says which frames the pictures are for.
    """

    keys: Sequence[int] = ()  # empty if there is a picture for every frame


@dataclass
class Units:
    """The enabled units of Forge's ControlNet in one clip."""

    p: Any
    script: Any
    settings: Settings
    frames: int
    pictures: Sequence[Pictures]
    error: AnimateDiffError | None = None  # of a unit that ControlNet could not apply
    prepared: bool = False

    @contextmanager
    def around_clip(self) -> Iterator[None]:
        """Prepare the units after `process`, once. Inside the block, remember why a unit could not be applied."""
        for one, params in [] if self.prepared else self._set_up():
            try:
                self._prepare(one, params)
            except AnimateDiffError:
                raise
            except Exception as error:
                raise ModelError(f"ControlNet could not prepare its pictures ({error})", where=one.name,
                                 remedy=CORRECT) from error
        self.prepared = True
        with attribute(self.script, APPLY, self._watched(getattr(self.script, APPLY))):
            yield

    def check(self, options: Mapping[str, Any]) -> None:
        """Spread the pictures of key frames over the clip. Called when all units have been applied to the UNet.

        options: `transformer_options` of the UNet that is about to be called.
        """
        if self.error is not None:
            raise self.error
        for patch in options.get("patches_replace", {}).get("attn2", {}).values():
            for place, mark in enumerate(getattr(patch, "unfold_batch", ())):
                if isinstance(mark, PerFrame) and mark.keys:
                    self._spread(patch, place, mark.keys)

    def _set_up(self) -> list[tuple[Pictures, Any]]:
        """Return the units with several pictures, each with what `process` has made for it."""
        first, made = self.script.args_from, getattr(self.script, "current_params", {})
        units = self.script.get_enabled_units(self.p.script_args[first:self.script.args_to])
        known = {id(one.unit): one for one in self.pictures}
        for place, unit in enumerate(self.p.script_args[first:self.script.args_to]):
            if getattr(getattr(unit, "input_mode", None), "name", "") == "MERGE":  # pictures that were uploaded
                known.setdefault(id(unit), Pictures(f"ControlNet unit {place}", unit))
        return [(known[id(unit)], made[i]) for i, unit in enumerate(units) if id(unit) in known and i in made]

    def _prepare(self, one: Pictures, params: Any) -> None:
        hint = params.control_cond
        if isinstance(hint, Tensor):
            for names, spread in ((HINTS, spread_hints), (MASKS, spread_masks)):
                for name in names if one.keys else ():
                    if isinstance(rows := getattr(params, name, None), Tensor):
                        setattr(params, name, spread(rows, one.keys, self.frames))
            return
        if not isinstance(hint, dict) or "unfold_batch" not in hint or hint.get("instant_id"):
            raise SettingsError(f"ControlNet's preprocessor {quoted(one.unit.module)} takes one picture, not a folder",
                                where=one.name, remedy=ONE)
        hint = self._of_all_pictures(one, params)
        for name in HINTS:
            setattr(params, name, hint)

    def _of_all_pictures(self, one: Pictures, params: Any) -> dict[str, Any]:
        """Return what ControlNet makes of an IP-Adapter's picture, with all its pictures."""
        unit = one.unit
        height, width = self.script.get_target_dimensions(self.p)[:2]
        read, _ = self.script.get_input_data(self.p, unit, params.preprocessor, height, width)
        made = [params.preprocessor(input_image=picture, input_mask=mask, resolution=unit.processor_res,
                                    slider_1=unit.threshold_a, slider_2=unit.threshold_b)
                for picture, mask in (read[i % len(read)] for i in range(len(one.keys) or self.frames))]
        images = stacked([part["image"] for part in made], faces="insightface" in made[0])
        vision = made[0].get("clip_vision")
        return {**params.control_cond, "image": images, "clip_vision": vision and OneByOne(vision),
                "unfold_batch": PerFrame(one.keys)}

    def _spread(self, patch: Any, place: int, keys: Sequence[int]) -> None:
        """Mix the embeddings [key tokens d] of key frames for every frame, in one place of the UNet's attention."""
        travel = PromptScheduler(self.settings, dict.fromkeys(keys, ""))
        for name in ("conds", "unconds"):
            rows = getattr(patch, name)
            at_keys = rows[place].new_zeros(self.frames, *rows[place].shape[1:])
            at_keys[list(keys)] = rows[place]
            rows[place] = travel.multi_cond(at_keys).to(rows[place])
        patch.unfold_batch[place] = PerFrame()

    def _watched(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap the method that applies a unit to the UNet: the host only prints its errors, and goes on without it."""
        def apply(p: Any, unit: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return plain(p, unit, *args, **kwargs)
            except Exception as error:
                names = [one.name for one in self.pictures if one.unit is unit]
                self.error = ModelError(f"ControlNet could not apply it ({error})",
                                        where=next(iter(names), "ControlNet"), remedy=CORRECT)
                raise

        return apply


def check_model(unit: Any, name: str) -> None:
    """SettingsError if the unit's model is one that Forge's ControlNet would load as something else.

    name: of the unit.
    """
    state = sys.modules.get("lib_controlnet.global_state")
    path = getattr(state, "controlnet_filename_dict", {}).get(unit.model)
    if path and os.path.isfile(path) and sparse(path, os.stat(path).st_mtime_ns):
        raise SettingsError(f"{quoted(unit.model)} is a SparseCtrl model, which Forge's ControlNet cannot load",
                            where=name, remedy=NO_SPARSE)


@lru_cache(maxsize=64)
def sparse(path: str, changed: int) -> bool:
    """Return whether a file is a SparseCtrl model.

    changed: the time of the file's last change.
    """
    try:
        shapes = read_shapes(Path(path))
    except ModelError:  # ControlNet will say so
        return False
    return SPARSE(Evidence(shapes))


def spread_hints(hints: Tensor, keys: Sequence[int], frames: int) -> Tensor:
    """Return hints [(clip frame) c h w] with those of the key frames in their places, and black for other frames.

    hints: begin with the hints of the key frames.
    """
    made = torch.zeros_like(hints)
    clips = made.view(-1, frames, *hints.shape[1:])
    clips[:, list(keys)] = hints[:len(keys)]
    return made


def spread_masks(masks: Tensor, keys: Sequence[int], frames: int) -> Tensor:
    """Return masks [(clip frame) c h w] in which each frame has the mask of the key frame before it.

    masks: begin with the masks of the key frames.
    """
    of_frames = [max((place for place, key in enumerate(keys) if key <= frame), default=0) for frame in range(frames)]
    return masks[of_frames].repeat(len(masks) // frames, *[1] * (masks.ndim - 1))


@contextmanager
def in_window(options: Mapping[str, Any], frames: int, window: Sequence[int]) -> Iterator[None]:
    """Cut the pictures of ControlNet-LLLite to the frames of a window's call, inside the block.

    options: `transformer_options` of the UNet.
    """
    patches = {id(patch): patch for each in options.get("patches", {}).values() for patch in each}
    with ExitStack() as undo:
        for patch in patches.values():
            modules = getattr(patch, "modules", None)
            for module in modules.values() if isinstance(modules, dict) else ():
                pictures = getattr(module, "cond_image", None)
                if isinstance(pictures, Tensor) and frames > 1 and len(pictures) == frames:
                    undo.enter_context(attribute(module, "cond_image", pictures[list(window)]))
                    undo.enter_context(attribute(module, "cond_emb", None))
        yield
