"""One job: a request of the host for clips, from its arguments to its files."""
from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from modules import devices, errors, rng, sd_samplers, shared
from PIL import Image

from animatediff.attribute import attribute
from animatediff.clip import colour, interpolation, job, sounds, writing
from animatediff.clip.plan import Plan
from animatediff.clip.source import with_sound
from animatediff.errors import AnimateDiffError
from animatediff.hosts.a1111 import (
    distilled,
    jobs,
    library,
    motion_loras,
    motion_mask,
    options,
    pictures,
    results,
    server_files,
    server_sound,
    source,
    source_mask,
    travelling,
    upscale,
    words,
)
from animatediff.hosts.a1111.animated import animated
from animatediff.hosts.a1111.backend import BACKEND
from animatediff.hosts.a1111.clip import QUALITY, SCORE, HostClip
from animatediff.hosts.a1111.guard import failure
from animatediff.hosts.a1111.inputs import JobInputs, Plans
from animatediff.hosts.a1111.neighbour import InJob, Neighbours
from animatediff.hosts.a1111.one_generator import OneGenerator
from animatediff.hosts.a1111.planning import PlanBackend
from animatediff.hosts.a1111.run_facts import check_numbers, defaults, probed
from animatediff.hosts.a1111.scope import Motion, Pass
from animatediff.hosts.a1111.source import SourceVideo
from animatediff.hosts.shared import infotext
from animatediff.hosts.shared.preview import moving_preview
from animatediff.hosts.shared.progress import progress_in_windows
from animatediff.media.colour_match import ColourMatch
from animatediff.media.sound import Sound
from animatediff.motion import Mask, MotionModule
from animatediff.motion import load as load_module
from animatediff.sampling import noise
from animatediff.sampling.from_pictures import shares
from animatediff.settings import Settings

KEY = "AnimateDiff"
WITHOUT_EFFECT = ("the source video has no effect: in txt2img, it is for ControlNet units that have no picture of "
                  "their own; in img2img, the clip starts from it")
SHORTAGE, INTERRUPTED = f"{KEY} memory", f"{KEY} interrupted"  # in the infotext
ON_P = ("close", "sample", *travelling.METHODS)  # attributes set on a clip's `p`


class Job:
    """The hooks of one `p`, in the order in which the host calls them.

    A hook that fails stops the job, which never goes on without motion.
    """

    def __init__(self, p: Any, settings: Settings, neighbours: Neighbours = ()):
        self.p, self.settings, self.neighbours = p, settings, neighbours
        self.beside: list[InJob] = []  # the neighbours' parts in this job
        self.clip: HostClip | None = None  # the current clip
        self.files = job.Job()
        self.source: SourceVideo | None = None
        self.strength: float | None = None  # the request's denoising strength, if `p` has another
        self.notes: list[str] = []
        self.mask: Mask | None = None
        self.module: MotionModule | None = None
        self.plans: Plans | None = None  # of all clips
        self.plan: Plan | None = None  # of the current clip
        self.interpolation: interpolation.Interpolation | None = None
        self.match: Callable[[], ColourMatch] | None = None
        self.sound: Sound | None = None
        self.error: AnimateDiffError | None = None  # raised by the next hook that can stop the job
        self.alpha: Callable[[int], np.ndarray] | None = None  # see `_alpha`
        self.on_p, self.on_clip = ExitStack(), ExitStack()  # undo the changes of `p`: the job's, and the clip's

    def prepare(self) -> None:
        """`before_process`: check everything that does not need the checkpoint, and set the batch size to the clip's.
        """
        check_numbers(self.p)
        self.beside = [neighbour.in_job(self.p) for neighbour in self.neighbours]
        probed(self.settings)
        known = defaults(from_picture=hasattr(self.p, "init_images"))
        self._change(**distilled.filled(self.p, self.settings, known))
        anywhere = server_files.job_may_read_all(self.p)
        self.settings = server_sound.named(source.named(self.settings))
        sources = getattr(self.p, "init_images", None) or []
        if len(sources) > 1 and all(picture is sources[0] for picture in sources):
            self.p.init_images = sources[:1]  # the batch tab repeats one picture
        self.source = (SourceVideo.read(self.settings, anywhere=anywhere)
                       or SourceVideo.of_start_pictures(self.p, self.settings, anywhere=anywhere))
        limits = [one.frames for one in self.beside if one.frames is not None]
        if self.source is not None and self.source.count > 1:
            limits.append(self.source.count)
        count = self._frame_count(min(limits, default=None))
        self._use_source(count)
        self.mask = motion_mask.read(self.settings.motion_mask, count, anywhere=anywhere)
        self.settings = replace(self.settings, frames=count, motion_mask=motion_mask.named(self.settings.motion_mask))
        self.sound = server_sound.of(self.settings, anywhere=anywhere) or jobs.sound_of(self.p)
        if self.sound is None and self.source is not None:
            self.sound = self.source.frames.sound(self.settings)
        if self.settings.audio or sounds.follows(self.settings):
            self.settings = sounds.heard(self.settings, self.sound, count)
        sounds.check(self.settings, count)
        if not self.settings.sound_file and not with_sound(self.settings):
            self.sound = None  # the source's own sound, which was not requested
        if pictures.from_picture(self.p):
            self._share_strength(count)
        self.interpolation = interpolation.of(self.settings, count, library.find_network)
        self.match = colour.of(self.settings, pictures.reference_of(self.p))
        if self.settings.motion_module:
            library.find(self.settings.motion_module)
        # The clip's writer saves the frames. A grid of them all is for those who want grids saved.
        self._change(batch_size=count, do_not_save_samples=True, close=self._close,
                     do_not_save_grid=self.p.do_not_save_grid or not shared.opts.grid_save)

    def load(self) -> None:
        """`process`: the checkpoint is loaded and the prompts of all clips are known, so plan each clip."""
        path = library.find(self.settings.motion_module)
        self.module = loaded(str(path), path.stat().st_mtime_ns, BACKEND.unet_dtype(shared.sd_model))
        inputs = JobInputs.read(self.p, self.settings, self.mask, self.source and self.source.frames)
        self.plans = Plans(self.p, inputs, PlanBackend(self.module, path))
        self.notes += self.plans.notes()
        self.alpha = self._alpha()
        if self.alpha is not None:
            self.notes += writing.of_transparency(self.settings, options.write_options())
        if self.settings.last_frame and pictures.from_picture(self.p):
            pictures.keep(self.settings.last_frame)
        if clip := upscale.of(self.p):
            self.on_p.enter_context(upscale.in_place_of_the_first_pass(self.p, clip))
        self.settings = replace(self.settings, motion_module=path.name)
        self.p.extra_generation_params[KEY] = infotext.dumps(self.settings)

    def begin_clip(self) -> None:
        """`before_process_batch`: begin a clip. The host has created its noise source."""
        self._end_clip()  # the previous clip, if it lost frames
        self.on_clip.close()
        for name in (SCORE, QUALITY, SHORTAGE, INTERRUPTED):
            self.p.extra_generation_params.pop(name, None)
        self._number_seeds()
        if self.settings.noise == "per clip":
            self.p.rng = OneGenerator(self.p.rng)
        if self.strength is not None:
            self.p.extra_generation_params["Denoising strength"] = self.strength
        assert self.plans is not None, "made before the first clip"
        self.plan = self.plans.of_clip(self.p.iteration, self.p.prompts, self.p.negative_prompts)
        self.on_clip.enter_context(travelling.in_clip(self.p, self.plan.inputs))
        self.on_clip.enter_context(motion_loras.hidden_from_host(self.p))
        for one in self.beside:
            self.on_clip.enter_context(one.around_clip())
        between = self.interpolation and self.interpolation.on(devices.device)
        self.clip = HostClip(self.p, self.settings, self.plan, between, self.match, self.sound,
                             None if self.settings.last_frame else self.alpha)
        self.files.begin(self.clip.to_write())

    def begin_pass(self, noise_of_pass: Any) -> None:
        """`process_before_every_sampling`: begin the first pass or that of Hires. fix."""
        p = self.p
        if self.error:
            raise self.error
        if p.is_hr_pass and self.settings.noise == "per clip" and not isinstance(p.rng, OneGenerator):
            p.rng = OneGenerator(p.rng)
            noise_of_pass.copy_(p.rng.next())
        for one in self.beside:
            one.check()
        assert self.module is not None and self.plan is not None, "made before the first pass"
        windows = [context for one in self.beside for context in one.around_window(p.batch_size)]
        mask = source_mask.of_pass(p, self.plan, self.source, noise_of_pass)
        motion = Motion(self.plan, self.module, p.is_hr_pass, pictures.of_pass(p, self.settings, mask.until), windows,
                        mask.held)
        animated(p, motion, on_event=lambda event: self.progress(event), on_end=self._sampled, around=self._shown)

    def decoded(self, images: Any) -> None:
        """`postprocess_batch`: the latents of the clip are decoded. images: tensor [f 3 h w], 0 to 1."""
        if self.clip is not None and self.clip.depth is not None:
            self.clip.decoded = images

    def frame(self, picture: Any) -> Any:
        """`postprocess_image_after_composite`: add a finished frame and return it. The last frame ends the clip."""
        if self.clip is None:  # a picture of another extension, after the clip's last frame
            return picture
        if self.source is not None:
            picture = self.source.composed(picture, self.clip.came, self.clip.wanted)
        self.clip.add(picture)
        self.files.add(picture)
        if self.clip.came == self.clip.wanted:
            self._end_clip()
        return picture

    def finish(self, processed: Any) -> None:
        """`postprocess`: replace the loose frames by the clips, and show the notes."""
        self.noting(lambda: self._show(processed))
        for note in self.notes:
            print(f"{KEY}: {note}")
            self.p.comment(f"{KEY}: {words.notice(note)}")
        processed.comments = "".join(f"{comment}\n" for comment in self.p.comments)
        # The API's response contains these too.
        processed.extra_generation_params = {
            **processed.extra_generation_params, f"{KEY} notes": self.notes,
            f"{KEY} files": [str(path) for written in self.files.written
                              for path in results.clips(written) or written.paths]}
        self.restore()

    def noting(self, hook: Callable[[], None]) -> None:
        """Run a hook that comes after sampling. If it fails, the job goes on, and a note has the error."""
        if (error := failure(hook)) and str(error) not in self.notes:  # each frame may fail in the same way
            self.notes.append(str(error))

    def _show(self, processed: Any) -> None:
        self._end_clip()
        pictures, texts = [], []
        for written in self.files.written:
            shown = results.shown(written, self.settings)
            pictures += shown
            texts += [written.text] * len(shown)
        if processed.index_of_first_image and processed.images:  # the grid, after the clips
            pictures.append(processed.images[0])
            texts.append(processed.infotexts[0])
        if pictures:
            processed.images, processed.infotexts = pictures + self._of_others(processed.images), texts
            processed.index_of_first_image, processed.info = 0, texts[0]

    def _of_others(self, pictures: list[Any]) -> list[Any]:
        """Return the pictures that extensions appended, such as ControlNet's hints. They have no infotexts."""
        frames = {id(frame) for written in self.files.written for frame in written.held}
        last = max((i for i, picture in enumerate(pictures) if id(picture) in frames), default=len(pictures) - 1)
        return pictures[last + 1:]

    def restore(self) -> None:
        """Undo all changes of `p`. Further calls have no effect."""
        self.on_clip.close()
        self.on_p.close()

    def _change(self, **values: Any) -> None:
        for name, value in values.items():
            self.on_p.enter_context(attribute(self.p, name, value))

    def _frame_count(self, limit: int | None = None) -> int:
        """Return the clip's number of frames. Several source pictures give one frame each.

        limit: number of frames that other sources have.
        """
        pictures.check(self.p, self.settings, self.source.count if self.source else 0)
        sources = [] if self.source else getattr(self.p, "init_images", None) or []
        return self.settings.frame_count(len(sources) if len(sources) > 1 else limit)

    def _use_source(self, count: int) -> None:
        """Use the frames of the source video: img2img starts from them, and the neighbours may take them.

        Without a video, the neighbours may take the start pictures.
        """
        p = self.p
        if self.source is not None:
            self.source = self.source.cut(count)
            self.settings = replace(self.settings, frames=count, fps=self.settings.played_fps(self.source.frames.fps))
            mask = self.source.change_mask((p.width, p.height), count)  # raises errors now rather than later
            self.notes += mask.notices if mask else ()
            if hasattr(p, "init_images"):
                self._change(init_images=[Image.fromarray(each) for each in self.source.pictures((p.width, p.height))])
        taken = [one.use(count, self._source_files) for one in self.beside]
        for one in self.beside:
            self.on_p.enter_context(one.around_job())
        if self.source is not None and not (any(taken) or self.source.mask or hasattr(p, "init_images")):
            self.notes.append(WITHOUT_EFFECT)

    def _alpha(self) -> Callable[[int], np.ndarray] | None:
        """Return a function from a frame's index to the alpha channel, uint8 [h w], of what the frame starts from: a
        frame of the finished clip that `p` refines or of the source, or a start picture. None if that is opaque.
        """
        p = self.p
        if not pictures.from_picture(p):
            return None
        of_frames = jobs.alpha_of(p) or (self.source and self.source.alpha((p.width, p.height)))
        if of_frames is None:
            return pictures.alpha_of(p)
        return lambda number: of_frames[number if len(of_frames) > 1 else 0]

    def _share_strength(self, count: int) -> None:
        """Set the host's denoising strength to the highest of all frames."""
        share, asked = float(shares(self.settings, count).max()), self.p.denoising_strength
        self.settings = replace(self.settings, denoising_strength=min(max(asked, 0.0), 1.0))
        if share != 1:
            self.strength = asked
            self._change(denoising_strength=asked * share)

    def _source_files(self) -> list[str]:
        """Return a file for each frame of the source, or for each of several start pictures. They exist as long as the
        job.
        """
        many = getattr(self.p, "init_images", None) or []
        if self.source is None and len(many) < 2:
            return []
        folder = Path(self.on_p.enter_context(tempfile.TemporaryDirectory(prefix="animatediff")))
        if self.source is not None:
            return self.source.files(folder)
        for number, picture in enumerate(many):
            picture.save(folder / f"{number:06}.png", compress_level=1)
        return sorted(map(str, folder.iterdir()))

    def _number_seeds(self) -> None:
        """Set the seed of every frame of this clip, for the kinds of noise that seeds per frame can express.

        This happens once the batch begins, since another extension (Dynamic Prompts) may have numbered the seeds in
        `process`.
        """
        p, s = self.p, self.settings
        if s.noise in ("per frame", "per clip"):
            return
        first = p.iteration * p.batch_size
        seeds = noise.KINDS[s.noise](p.all_seeds[first], len(p.seeds), s.context_length, s.overlap_frames)
        subseeds = [p.all_subseeds[first] + seed - seeds[0] for seed in seeds]  # numbered like the seeds
        p.all_seeds = [*p.all_seeds[:first], *seeds, *p.all_seeds[first + len(seeds):]]
        p.all_subseeds = [*p.all_subseeds[:first], *subseeds, *p.all_subseeds[first + len(seeds):]]
        p.seeds = p.rng.seeds = seeds
        p.subseeds = p.rng.subseeds = subseeds
        p.rng.generators = [rng.create_generator(seed) for seed in seeds]

    def _sampled(self, run: Pass) -> None:
        """End a pass: collect its notes and fallbacks. An interrupted pass is recorded in the clip's infotext."""
        if run.reuse.calls:
            self.notes.append(run.reuse.note)
        if given_up := list(dict.fromkeys(run.given_up)):
            self.notes += [f"memory was short: {said}" for said in given_up]
            facts = self.p.extra_generation_params
            facts[SHORTAGE] = "; ".join(filter(None, [facts.get(SHORTAGE), *given_up]))
        (done, of), what = run.ended or (run.steps_done, run.steps), "steps"
        if (iterations := len(run.passes.iterations)) > 1:
            what = f"steps of FreeInit iteration 1 of {iterations}"
            if run.finished:
                done, of, what = run.finished, iterations, "FreeInit iterations"
        if self.clip and done < of and (shared.state.interrupted or shared.state.skipped):
            self.clip.cut_short, self.clip.in_hires = (done, of, what), self.p.is_hr_pass
            self.p.extra_generation_params[INTERRUPTED] = f"{done} of {of} {what} done"

    @contextmanager
    def _shown(self, run: Pass) -> Iterator[None]:
        """Count progress in windows, enter the neighbours' scopes, and play the clip in the live preview if that is on.
        """
        with ExitStack() as stack:
            for one in self.beside:
                stack.enter_context(one.around_pass(run))
            of_pass = "AnimateDiff, Hires. fix" if self.p.is_hr_pass else "AnimateDiff"
            self.progress = stack.enter_context(
                progress_in_windows(shared.state, self.p.sampler, of_pass,
                                    [each.run.steps for each in run.passes.all]))
            if options.live_preview():
                stack.enter_context(moving_preview(shared.state, sd_samplers.sample_to_image, self.settings.fps,
                                                   direct=not shared.parallel_processing_allowed))
            yield

    def _end_clip(self) -> None:
        """Write the frames of the current clip, once."""
        clip, self.clip = self.clip, None
        if clip is None or not clip.came:
            return
        if clip.is_nothing:
            self.files.drop()
            self.notes.append("interrupted before the first step was done: there is no clip")
            return
        self.files.finish()
        self.notes += clip.notes(self.files.written[-1])

    def _close(self) -> None:
        """Replace `p.close`, which the host calls however the job ended: write the frames that a failed job finished.
        """
        try:
            self._end_clip()
        except Exception:
            errors.report("AnimateDiff could not save the finished frames", exc_info=True)
        finally:
            self.restore()
            self.p.close()


@lru_cache(maxsize=2)
def loaded(path: str, changed: int, dtype: torch.dtype) -> MotionModule:
    """Return the motion module. The last two stay in CPU memory, with their files mapped, not copied.

    changed: modification time of the file. A changed file is read again.
    """
    return load_module(Path(path), dtype=dtype)
