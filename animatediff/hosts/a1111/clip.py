"""One clip of a job: the values it takes from `p` when it begins, and the files to write."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from modules import images, processing
from PIL import Image

from animatediff.attribute import attribute
from animatediff.clip import job, writing
from animatediff.clip.interpolation import Interpolation
from animatediff.clip.plan import Plan
from animatediff.errors import MediaError
from animatediff.hosts.a1111 import options, results
from animatediff.hosts.a1111.depth import DeepClip, Depth
from animatediff.media.colour_match import ColourMatch
from animatediff.media.sound import Sound
from animatediff.media.write import WRITERS, Target
from animatediff.settings import Settings

SCORE, QUALITY = "AnimateDiff loop score", "AnimateDiff score"  # in the infotext


class HostClip:
    """The frames of one batch of the host.

    The host may begin the next batch before all frames of this one have come, if another extension has removed some.
    Therefore seeds, prompts and folder are copied from `p` at the start, and the infotext's values with each frame.
    """

    def __init__(self, p: Any, settings: Settings, plan: Plan, interpolation: Interpolation | None = None,
                 match: Callable[[], ColourMatch] | None = None, sound: Sound | None = None,
                 alpha: Callable[[int], np.ndarray] | None = None):
        """Create the clip in `before_process_batch`, when its seeds are numbered.

        alpha: returns the alpha channel, uint8 [h w], of a frame by its index. None for an opaque clip.
        """
        self.p, self.settings, self.plan = p, settings, plan
        self.interpolation, self.match, self.sound, self.alpha = interpolation, match, sound, alpha
        self.wanted, self.came = p.batch_size, 0
        self.first = p.iteration * p.batch_size  # index of its first frame in the job's lists
        self.seeds, self.subseeds = list(p.all_seeds), list(p.all_subseeds)
        self.prompts, self.negatives = ([text] * len(p.all_prompts) for text in (p.main_prompt, p.main_negative_prompt))
        self.folder = results.folder(p.outpath_samples)
        self.facts: dict[str, Any] = {}
        self.depth = Depth() if writing.deep(settings) else None
        self.decoded: Sequence[Any] = ()  # the batch's decoded latents [f 3 h w], 0 to 1
        self.cut_short: tuple[int, int, str] | None = None  # (done, total, unit), set when interrupted
        self.in_hires = False  # whether the interrupted pass was the second pass of Hires. fix

    def to_write(self) -> job.Clip:
        """Return the description of the clip's files."""
        s = self.settings
        return DeepClip(
            self.wanted, [name for name in s.formats if name in WRITERS], s.fps, self._infotext, self._place,
            s.loop_number, options=writing.options(s, options.write_options()), interpolation=self.interpolation,
            sound=self.sound, hold_all=results.shows_frames(s), score=s.score, match=self.match,
            alpha=self.alpha, deep=self.depth and self.depth.of, playback=self.plan.playback_of)

    def add(self, picture: Image.Image) -> None:
        """Count a finished frame and copy the values for the infotext."""
        if self.depth:
            self.depth.add(next(iter(self.decoded[self.came:self.came + 1]), None), picture)
        self.came += 1
        self.facts = dict(self.p.extra_generation_params)

    @property
    def is_nothing(self) -> bool:
        """Whether the clip was interrupted before any result was visible."""
        begun = self.cut_short is None or self.cut_short[0] > 0
        return not (begun or self.in_hires or hasattr(self.p, "init_images"))

    def notes(self, written: job.Written) -> list[str]:
        """Return the notes on the written files: scores, the writer's notes and an interruption."""
        score = [f"loop score {written.loop}"] if written.loop and self.settings.asks_for_a_loop else []
        measured = written.score.notes if written.score else []
        deep = self.depth.notes if self.depth else []
        cut = ["interrupted after {} of {} {}".format(*self.cut_short)] if self.cut_short else []
        return [*score, *measured, *written.notes, *deep, *cut]

    def _infotext(self, known: job.Known) -> str:
        if known.loop and self.settings.asks_for_a_loop:
            self.facts[SCORE] = self.p.extra_generation_params[SCORE] = f"{known.loop.value:.2f}"
        if known.score:
            self.facts[QUALITY] = self.p.extra_generation_params[QUALITY] = str(known.score)
        with attribute(self.p, "extra_generation_params", self.facts):
            return processing.create_infotext(self.p, self.prompts, self.seeds, self.subseeds, index=self.first,
                                              all_negative_prompts=self.negatives)

    def _place(self, taken: int) -> Target:
        """Return the folder and a file name with the next free number. taken: number of names that this job has taken.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            number = images.get_next_sequence_number(str(self.folder), "") + taken
        except OSError as error:
            raise MediaError(f"the clip was not written ({error})", where=str(self.folder)) from error
        name = "-".join(filter(None, (f"{number:05}", str(self.seeds[self.first]), self.settings.request_id)))
        return Target(f"{self.folder}/", name, new=True)
