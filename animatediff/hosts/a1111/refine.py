"""Refining a finished clip in the host: the host's upscalers enlarge its frames, then img2img samples them in windows.

This runs inside a job of the host's queue, which the caller has begun. The request is an ordinary img2img request, so
other extensions take part. `alwayson_scripts` holds their arguments, as in the host's API.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from modules import images, processing, scripts, shared
from PIL import Image

from animatediff.clip import job, writing
from animatediff.clip.enlargement import sized
from animatediff.clip.finished import Finished
from animatediff.clip.preflight import Preflight
from animatediff.clip.refine import DENOISING, ROWS, annotated, described, resampled, sound_kept
from animatediff.errors import MediaError, SettingsError
from animatediff.hosts.a1111 import jobs, options, refine_request, results, run_facts
from animatediff.hosts.a1111.refine_request import OF_HOST, SCRIPTS
from animatediff.hosts.shared import infotext
from animatediff.hosts.shared.stop import AnimateDiffStopped
from animatediff.media.measure.before_after import BeforeAfter
from animatediff.media.stored import StoredPictures
from animatediff.media.write import WRITERS, Target
from animatediff.parameters import Parameter
from animatediff.settings import BY_NAME, PARAMETERS, Settings

NONE = "None"  # the host's name for no upscaler
LANCZOS, LATENT, LATENT_UPSCALE = "Lanczos", "Latent", 3  # the host's names, and its resize mode for latents
REFINED = f"{infotext.KEY} refined"  # in the infotext
UPSCALER = replace(ROWS["upscaler"], help="How frames are enlarged, by the WebUI's name: Lanczos, an upscaler model "
                   "such as R-ESRGAN 4x+, or Latent.")
Size = tuple[int, int]  # width and height
Place = Callable[[int], Target]
Progress = Callable[[int, int, str], bool]  # (frames done, total, text) -> whether the user has interrupted


@dataclass(frozen=True)
class Refined:
    """The result of an operation on a clip."""

    paths: list[Path]  # the files that play, or all frames
    first: Image.Image  # the first frame
    frames: int  # number of frames
    fps: float
    text: str  # the infotext
    notes: list[str] = field(default_factory=list)
    error: BeforeAfter | None = None  # the temporal error, if it was measured

    @classmethod
    def of(cls, written: job.Written, first: Image.Image, fps: float, notes: list[str],
           error: BeforeAfter | None = None) -> Refined:
        return cls(results.clips(written) or written.paths, first, written.frames, fps, written.text, notes, error)


def schema() -> dict[str, Any]:
    """Return the properties of a request as JSON schemas, including every parameter of a clip by its name."""
    rows = ROWS | {"upscaler": UPSCALER}
    own = {name: row.json_schema() for name, row in rows.items()}
    image = {name: BY_NAME[name].json_schema() for name in ("size", *(ours for ours, _, _ in OF_HOST))}
    for name in (*image, *refine_request.NAMES):
        image[name].pop("default", None)  # the clip's value is the default
        image[name].pop("enum", None) if name in refine_request.NAMES else None
    clip = {p.name: p.json_schema() for p in PARAMETERS if p.group == "clip" and p.name not in ("enable", "frames")}
    other = {SCRIPTS: {"type": "object", "title": "Other extensions", "description": "Their arguments, as in "
                       "/sdapi/v1/img2img."}}
    return own | image | clip | other


def refine(clip: Finished, values: Mapping[str, Any], samples: str, place: Place, progress: Progress) -> Refined:
    """Return the clip, refined. AnimateDiffError for an unusable clip or value.

    values: the requested values. All others are taken from the clip's infotext.
    samples: the host's folder for such pictures.
    place: returns the folder and file name of the result.
    """
    return Refinement.of(clip, values).run(samples, place, progress)


@dataclass(frozen=True)
class Refinement:
    """The refinement of a clip."""

    clip: Finished
    settings: Settings
    order: range  # numbers of the frames to sample
    host: dict[str, Any]  # the host's own parameters, by its names
    arguments: tuple[Any, ...]  # of all scripts
    before: Size
    after: Size
    upscaler: str

    @classmethod
    def of(cls, clip: Finished, values: Mapping[str, Any]) -> Refinement:
        """Return the refinement of a clip. SettingsError for values out of range or without effect."""
        own = {name: row.read(values[name], name) for name, row in (ROWS | {"upscaler": UPSCALER}).items()
               if values.get(name) is not None}
        strength, upscaler = own.get("denoising_strength", DENOISING), _upscaler(own.get("upscaler", LANCZOS))
        host = refine_request.host_values(clip, values)
        apart = {*ROWS, SCRIPTS, *(name for ours, theirs, _ in OF_HOST for name in (ours, theirs))}
        given = {name: value for name, value in values.items() if name not in apart and value is not None}
        if not given.keys() & {"formats", *BY_NAME["formats"].aliases}:
            given["formats"] = [clip.format]
        settings, order = resampled(clip, given | {"denoising_strength": strength})
        arguments = refine_request.arguments(settings, values.get(SCRIPTS))
        before = clip.size
        after = _size(settings, before, own.get("scale", ROWS["scale"].default), exact=not strength)
        if not strength and (upscaler.startswith(LATENT) or (after == before and upscaler == LANCZOS)):
            raise SettingsError("without sampling, this leaves nothing to do", where="denoising_strength",
                                remedy="Use more than 0, or enlarge with an upscaler of pictures")
        if not strength and writing.interpolated(settings):
            raise SettingsError("has no effect with a denoising strength of 0, which only enlarges the frames",
                                where="interp", remedy="Interpolate the enlarged clip")
        return cls(clip, settings, order if strength else range(len(clip.seconds)), host, arguments, before, after,
                   upscaler)

    @property
    def strength(self) -> float:
        return self.settings.denoising_strength

    def __str__(self) -> str:
        """Text such as "clip.gif: 16 frames of 64x64 to 128x128 by Lanczos, denoising strength 0.4"."""
        return described(self.clip, self.before, self.after, self.upscaler, self.strength)

    def preflight(self) -> Preflight:
        """Return what the run will do, as for any request. Without sampling, it has no UNet calls."""
        if not self.strength:
            count = len(self.order)
            return Preflight(count, count, float(sum(self.clip.seconds)), calls=0)
        host = run_facts.requested({**self.host, "denoising_strength": self.strength})
        return run_facts.of_run(replace(self.settings, init=""), host, from_picture=True, sources=len(self.order))

    def run(self, samples: str, place: Place, progress: Progress) -> Refined:
        """Make the clip. See `refine`."""
        frames, alpha = self._enlarged(progress), self.clip.alpha(self.after)
        note = {"from": {"name": self.clip.path.name}, "size": _text(self.before), "to": _text(self.after),
                "upscaler": self.upscaler, "denoising_strength": self.strength}
        if not self.strength:
            return self._written(frames, annotated(self.clip.text, note), place, alpha)
        p = self._request(list(frames), samples)
        p.extra_generation_params[REFINED] = f"{self.clip.path.name} {note['size']} to {note['to']} by {self.upscaler}"
        setattr(p, jobs.SOUND, sound_kept(self.clip, self.settings))
        setattr(p, jobs.ALPHA, alpha)
        with closing(p):
            p.script_args = self.arguments
            return self._result(p, _processed(p), progress)

    def _enlarged(self, progress: Progress) -> Iterator[Image.Image]:
        """Yield the frames in `order`, in the result's size.

        For latent upscaling, the size is the clip's own, rounded for the image model.
        """
        count, latent = len(self.order), self.upscaler.startswith(LATENT)
        upscaler = _upscaler_of_host(LANCZOS if latent else self.upscaler)
        for number, picture in zip(self.order, self.clip.pictures()):
            size = tuple(map(int, sized(*picture.size).split("x"))) if latent else self.after
            yield images.resize_image(1, picture, *size, upscaler)
            if progress(number + 1, count, f"AnimateDiff: frame {number + 1} of {count} enlarged"):
                raise MediaError(f"interrupted after {number + 1} of {count} enlarged frames",
                                 where=self.clip.path.name)

    def _request(self, frames: list[Image.Image], samples: str) -> Any:
        """Return the host's img2img request."""
        p = processing.StableDiffusionProcessingImg2Img(
            sd_model=shared.sd_model, outpath_samples=samples, outpath_grids=samples, width=self.after[0],
            height=self.after[1], init_images=frames, denoising_strength=self.strength, do_not_save_grid=True,
            override_settings={}, **self.host)
        p.is_api = True  # otherwise the host's own scripts would use the page's steps and seed
        p.scripts = scripts.scripts_img2img
        p.resize_mode = LATENT_UPSCALE if self.upscaler.startswith(LATENT) else 0
        return p

    def _result(self, p: Any, processed: Any, progress: Progress) -> Refined:
        made = jobs.of(p)
        if made is None or not made.files.written:
            raise MediaError("no clip was made", remedy="See the log.")
        written = made.files.written[-1]
        meter = None
        if made.interpolation is None:  # otherwise the two clips have different frames
            meter = self._meter()
            count = len(written.held)
            for number, _ in enumerate(meter.watched(map(_pixels, written.held)), 1):
                progress(number, count, f"AnimateDiff: temporal error, frame {number} of {count}")
        return Refined.of(written, written.held[0], made.settings.fps,
                          [*made.notes, *(meter.notes if meter else ())], meter)

    def _written(self, frames: Iterator[Image.Image], text: str, place: Place, alpha: StoredPictures | None
                 ) -> Refined:
        """Write the frames as files, without using a model."""
        settings, meter = self.settings, self._meter()
        clip = job.Clip(
            len(self.order), [name for name in settings.formats if name in WRITERS], settings.fps, lambda known: text,
            place, settings.loop_number, options=writing.options(settings, options.write_options()),
            sound=sound_kept(self.clip, settings), alpha=None if alpha is None else alpha.__getitem__)
        written, first = results.write(meter.watched(map(_pixels, frames)), clip)
        return Refined.of(written, first, settings.fps, [*written.notes, *meter.notes, *writing.of_enlarged(settings)],
                          meter)

    def _meter(self) -> BeforeAfter:
        return BeforeAfter(lambda: map(np.asarray, self.clip.pictures()))


def _size(settings: Settings, size: Size, scale: float, *, exact: bool) -> Size:
    """Return width and height of the result. exact: allow sizes that are not multiples of the image model's."""
    if not settings.size:
        wanted = [max(1, round(side * scale)) for side in size]
        if exact:
            return wanted[0], wanted[1]
        settings = replace(settings, size=sized(*wanted))
    return settings.width, settings.height


def _text(size: Size) -> str:
    return "x".join(map(str, size))


def _pixels(frame: Image.Image) -> np.ndarray:
    return np.asarray(frame.convert("RGB"))


def rows() -> tuple[Parameter, ...]:
    """Return the parameters that have controls on the page."""
    return tuple((ROWS | {"upscaler": replace(UPSCALER, choices=tuple(upscalers()))}).values())


def upscalers() -> list[str]:
    """Return the names of the host's upscalers."""
    known = [upscaler.name for upscaler in shared.sd_upscalers]
    return list(dict.fromkeys([LANCZOS, *(each for each in known if each != NONE), LATENT]))


def _upscaler_of_host(name: str) -> str:
    """Return a name that the host knows. Forge Neo has no upscaler Lanczos; with None it resizes by Lanczos."""
    return name if any(upscaler.name == name for upscaler in shared.sd_upscalers) else NONE


def _upscaler(name: str) -> str:
    """Return the host's spelling of an upscaler's name. SettingsError for an unknown one."""
    names = upscalers()
    found = next((each for each in names if each.lower() == name.lower()), None)
    if found is None:
        raise SettingsError(f"there is no upscaler {name}", where="upscaler",
                            remedy=f"Use one of {', '.join(names)}.")
    return found


def _processed(p: Any) -> Any:
    try:
        return p.scripts.run(p, *p.script_args) or processing.process_images(p)
    except AnimateDiffStopped as stopped:
        raise stopped.error from stopped
    finally:
        shared.total_tqdm.clear()
