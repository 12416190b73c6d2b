"""Refine a finished clip: enlarge its frames and sample them again with the motion module (img2img).

`Refinement.of` takes a clip and values by the names in `ROWS` and in the table of settings. All other settings come
from the clip's file. With a denoising strength of 0, frames are only enlarged and no image model is used.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from animatediff import few_steps, windows
from animatediff import settings as table
from animatediff.clip import infotext, resume, writing
from animatediff.clip.enlargement import Enlargement, FindModel, sized
from animatediff.clip.finished import REFINED, Finished, about, steps
from animatediff.clip.inputs import Inputs
from animatediff.clip.provenance import metadata_text, sha256
from animatediff.errors import SettingsError
from animatediff.media import read
from animatediff.media.sound import Sound
from animatediff.media.upscale import LANCZOS, LATENT
from animatediff.parameters import Parameter
from animatediff.settings import BY_NAME, Settings

DENOISING = 0.4  # default denoising strength
ROWS = {p.name: p for p in (
    Parameter("scale", float, 2.0, "Scale", "How many times as wide and as high the clip becomes; 1 keeps its size.",
              0.25, 8, cli="--scale"),
    Parameter("upscaler", str, LANCZOS, "Upscaler", "How frames are enlarged. Lanczos: smoothly, without a model. "
              "latent: in the image model's latents, which needs a denoising strength of about 0.5 or more. Any other "
              "name is the file of an upscaler model, such as Real-ESRGAN.", cli="--upscaler"),
    replace(BY_NAME["denoising_strength"], default=DENOISING, help="How far the refined clip may differ from the "
            "enlarged frames: 0 only enlarges, 0.3 to 0.5 adds detail, 1 makes another clip. As in the WebUI, only "
            "about this share of the steps runs."),
)}
# Settings that a refinement takes from the run that made the clip. The others concern how that clip was started.
KEPT = {"motion_module", "checkpoint", "context_length", "context_schedule", "stride", "overlap", "fuse_method",
        "closed_loop", "noise", "prompt", "negative", "prompt_weights", "travel_interpolation", "travel_hold",
        "travel_easing", "seed", "steps", "cfg", "sampler", "schedule_type", "preset", "motion_lora", "motion_scale",
        "motion_scale_steps", "motion_effect", "motion_mask", "motion_mask_min", "motion_mask_max", "speed",
        "loop_number", "dtype", "windows_per_call"}
SAMPLING = ("denoising_strength_frames", "mask_path")  # settings that have no effect on a clip that is only enlarged
SOUND = ("audio", "audio_start", "audio_loop")  # taken from that run as well if the clip's file has no sound


@dataclass(frozen=True)
class Refinement:
    """The refinement of a clip."""

    clip: Finished
    size: tuple[int, int]  # width and height of the clip before
    settings: Settings  # of the refining run; its start pictures are the clip's enlarged frames
    enlargement: Enlargement
    order: range  # numbers of the frames to refine; frames that play a second time are left out

    @classmethod
    def of(cls, clip: Finished, values: Mapping[str, Any], find: FindModel) -> Refinement:
        """Return the refinement of a clip.

        Raises SettingsError for values out of range or without effect, ModelError for a file that is no upscaler model,
        and MediaError if a package is missing.
        """
        own = {name: ROWS[name].read(values[name], name) for name in ROWS if values.get(name) is not None}
        scale, upscaler, strength = (own.get(name, row.default) for name, row in ROWS.items())
        given = {name: value for name, value in values.items() if name not in ROWS and value is not None}
        settings, order = resampled(clip, given | {"denoising_strength": strength})
        size = clip.size
        if not given.get("size"):
            wanted = [max(1, round(side * scale)) for side in size]
            settings = replace(settings, size=sized(*wanted)) if strength else settings
            width, height = (settings.width, settings.height) if strength else wanted
        else:
            width, height = settings.width, settings.height
        enlargement = Enlargement.of(upscaler, width, height, find, settings.fit)
        if not strength and enlargement.method == LATENT:
            raise SettingsError("latents are enlarged for the image model, which a denoising strength of 0 leaves out",
                                where="upscaler", remedy=f"Use {LANCZOS} or an upscaler model, or more than 0")
        if settings.mask_path and enlargement.method == LATENT:
            raise SettingsError("a mask keeps pixels, which enlarged latents have not", where="mask_path",
                                remedy=f"Use {LANCZOS} or an upscaler model")
        if not strength and enlargement.method == LANCZOS and size == (width, height):
            raise SettingsError("leaves nothing to do: the clip keeps its size and is not sampled",
                                where="denoising_strength", remedy="Use more than 0, another size or a model")
        return cls(clip, size, settings, enlargement, order)

    @property
    def samples(self) -> bool:
        """Whether the clip is sampled again, not only enlarged."""
        return self.settings.denoising_strength > 0

    @property
    def sound(self) -> Sound | None:
        """As `sound_kept`."""
        return sound_kept(self.clip, self.settings)

    def own_frames(self) -> Iterator[np.ndarray]:
        """Yield the clip's original frames, uint8 [h w 3]."""
        yield from map(np.asarray, self.clip.pictures())

    def frames(self, device: Any = "cpu") -> Iterator[np.ndarray]:
        """Yield all of the clip's frames, enlarged."""
        yield from map(self.enlargement.load(device), self.clip.pictures())

    def inputs(self, settings: Settings, find_lora: Callable[[str], Path], device: Any) -> Inputs:
        """Return the inputs of the run that samples the clip again.

        settings: settings of this run, with the paths of its files.
        """
        checked, enlarged = read.one_size(self.clip.path), self.enlargement.load(device)
        found = Inputs.read(settings, find_lora, lambda image: enlarged(checked(image)))
        assert found.pictures is not None
        source = replace(found.pictures.source, more=False)  # the frames left out only repeat others
        return replace(found, pictures=replace(found.pictures, source=source))

    @cached_property
    def _digests(self) -> list[str]:
        """Digests of the clip and of the upscaler model."""
        paths = [self.clip.path, *filter(None, [self.enlargement.model])]
        return [resume.content(path) if path.is_dir() else sha256(path) for path in paths]

    def identity(self) -> dict[str, Any]:
        """Return the values, beside the settings, that a run must share with the run that it resumes."""
        model = self.enlargement.model
        found: dict[str, Any] = {resume.REFINED: self.enlargement.method}
        return found | ({"upscaler": {"name": str(model.resolve()), "content": resume.content(model)}} if model else {})

    def text(self, run: Mapping[str, Any] | None = None) -> str:
        """Return the text of the refined clip: the original text with a note on the refinement.

        run: metadata of the refining run (clip.provenance), if the clip was sampled again.
        """
        enlargement = self.enlargement
        note: dict[str, Any] = {
            "from": {"name": self.clip.path.name, "sha256": self._digests[0]},
            "size": "x".join(map(str, self.size)), "to": enlargement.size, "upscaler": enlargement.description,
            "denoising_strength": self.settings.denoising_strength}
        if enlargement.model:
            note["upscaler_sha256"] = self._digests[1]
        if run is None:
            return annotated(self.clip.text, note)
        note |= run
        made = about(self.clip.text)
        if not made.get("settings"):  # made by another program: store this run's settings as the clip's
            made = {**run, **made, "settings": run["settings"]}
            if self.clip.text and not about(self.clip.text):
                note["from"]["text"] = self.clip.text
        return metadata_text({**made, REFINED: [*steps(made, REFINED), note]})

    def __str__(self) -> str:
        """Text such as "clip.gif: 16 frames of 64x64 to 128x128 by Lanczos, denoising strength 0.4"."""
        size = self.enlargement.width, self.enlargement.height
        return described(self.clip, self.size, size, self.enlargement.description, self.settings.denoising_strength)

    def notices(self) -> list[str]:
        """Return notices on effects that a user may not expect."""
        clip, made, said = self.clip, self.clip.settings, []
        if len(set(clip.seconds)) > 1:
            said.append(f"frames of {clip.path.name} are shown for different times; the refined clip shows all equally "
                        f"long, {float(clip.fps):.4g} in a second")
        if self.samples and made and made.frame_count() != self.settings.frames:
            said.append(f"{clip.path.name} has {self.settings.frames} frames, its settings are for "
                        f"{made.frame_count()}: key frames by number come at other times")
        said += [] if self.samples else writing.of_enlarged(self.settings)
        if self.samples and not self.settings.prompt:
            said.append(f"{clip.path.name} says no prompt, and none is given")
        return said


def described(clip: Finished, before: tuple[int, int], after: tuple[int, int], upscaler: str, strength: float) -> str:
    """Return a line on a refinement. before, after: width and height."""
    count = len(clip.seconds)
    sampled = f"denoising strength {strength:g}" if strength else "not sampled again"
    return (f"{clip.path.name}: {count} frame{'s' * (count != 1)} of {before[0]}x{before[1]} to {after[0]}x{after[1]} "
            f"by {upscaler}, {sampled}")


def annotated(text: str, note: Mapping[str, Any]) -> str:
    """Return a clip's text with a note on its refinement: old size (`size`), new size (`to`) and upscaler."""
    made = about(text)
    if text and not made:  # text in the WebUI's format
        return f"{text}, AnimateDiff refined: {note['size']} to {note['to']} by {note['upscaler']}"
    return metadata_text({**made, REFINED: [*steps(made, REFINED), dict(note)]})


def resampled(clip: Finished, given: Mapping[str, Any]) -> tuple[Settings, range]:
    """Return the settings of a run that samples the clip's frames again, and the numbers of these frames.

    The settings have a size only if it is in `given`. Raises SettingsError for values out of range or without effect.
    """
    without_effect = next((name for name in SAMPLING if given.get(name)), None)
    if without_effect and given.get("denoising_strength") == 0:
        raise SettingsError("has no effect with a denoising strength of 0, which only enlarges the frames",
                            where=without_effect, remedy="Leave it out, or use a denoising strength of more than 0")
    made = last_run(clip)
    values = _readable(made)
    if given.get("preset"):
        values = {name: value for name, value in values.items() if name not in few_steps.FILLED}
    count = len(clip.seconds)
    order, loop = _as_it_plays(clip, count)
    if clip.sound is None:
        values |= {name: made[name] for name in SOUND if made.get(name)}
    values |= loop | {"fps": float(clip.fps), "loop_number": clip.loop_number}
    values |= {**given, "frames": len(order), "enable": True, "init": str(clip.path)}
    return table.parse(values), order


def sound_kept(clip: Finished, settings: Settings) -> Sound | None:
    """Return the clip's sound for its refinement. Returns None if that plays at another rate or is to have no sound."""
    return None if settings.is_silent or settings.fps != float(clip.fps) else clip.sound


def of_state(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that an interrupted run was started with. about: `about` of its state, see clip.resume."""
    model = about.get("upscaler")
    return {**about["settings"], "upscaler": model["name"] if model else about[resume.REFINED]}


def last_run(clip: Finished) -> dict[str, Any]:
    """Return the settings of the run that made the clip or refined it last, or {} if its file has none."""
    made = about(clip.text)
    runs = [made, *steps(made, REFINED)]
    found = [run["settings"] for run in runs if isinstance(run.get("settings"), dict)]
    return found[-1] if found else infotext.of_webui(clip.text)


def _readable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in KEPT, without values that this version cannot read."""
    found = {}
    for name in KEPT & values.keys():
        with suppress(SettingsError):
            found[name] = BY_NAME[name].read(values[name])
    return found


def _as_it_plays(clip: Finished, count: int) -> tuple[range, dict[str, Any]]:
    """Return the numbers of the frames to refine, and the settings of their loop.

    For a clip that plays to and fro, only the frames of one direction are refined.
    """
    made = clip.settings
    if made is None:
        return range(count), {}
    own, context = made.frame_count(), made.context_length
    if windows.to_and_fro(own, context, made.closed_loop) and count == len(
            windows.playback(own, context, made.closed_loop)):
        return range(own), {"closed_loop": made.closed_loop}
    if not clip.closes:
        return range(count), {"closed_loop": "none"}
    if not windows.to_and_fro(count, context, made.closed_loop) and windows.closes(
            count, context, made.closed_loop, made.context_schedule):
        return range(count), {"closed_loop": made.closed_loop}
    schedule = made.context_schedule if made.context_schedule in windows.CLOSING else windows.CLOSING[0]
    return range(count), {"closed_loop": "seamless", "context_schedule": schedule}
