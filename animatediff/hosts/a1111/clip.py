"""One clip of a job: what it is taken when it begins, and its files when its frames are there."""
from __future__ import annotations

from typing import Any

import numpy as np
from modules import processing
from PIL import Image

from animatediff import windows
from animatediff.attribute import attribute
from animatediff.hosts.a1111 import options, results
from animatediff.media.loop import LoopMeter
from animatediff.settings import Settings

SCORE = "AnimateDiff loop score"  # in the infotext


class Clip:
    """The frames of one batch of the host's.

    The host may begin the next batch before all frames of this one have come, when another extension has taken some
    out. So seeds, prompts and folder are taken from `p` at the start, and the infotext's facts with each frame.
    """

    def __init__(self, p: Any, settings: Settings):
        """`before_process_batch`, when this clip's seeds are numbered."""
        self.p, self.settings = p, settings
        self.wanted = p.batch_size
        self.first = p.iteration * p.batch_size  # place of its first frame in the job's lists
        self.seeds, self.subseeds = list(p.all_seeds), list(p.all_subseeds)
        self.prompts, self.negatives = ([text] * len(p.all_prompts) for text in (p.main_prompt, p.main_negative_prompt))
        self.folder = results.folder(p.outpath_samples)
        self.frames: list[Image.Image] = []
        self.facts: dict[str, Any] = {}
        self.cut_short: tuple[int, int, str] | None = None  # done, of how many, of what; where it was interrupted
        self.in_hires = False  # whether it was the second pass of Hires. fix

    def add(self, frame: Image.Image) -> None:
        self.frames.append(frame)
        self.facts = dict(self.p.extra_generation_params)

    @property
    def complete(self) -> bool:
        return len(self.frames) >= self.wanted

    def write(self, notes: list[str]) -> results.Saved | None:
        """Write the frames that have come, once; None where there is no clip. What there is to say goes to `notes`."""
        frames, self.frames = self.frames, []
        if not frames:
            return None
        if self.cut_short and self.cut_short[0] == 0 and not self.in_hires and not hasattr(self.p, "init_images"):
            notes.append("interrupted before the first step was done: there is no clip")
            return None
        self._score(frames, notes)
        saved = results.write(frames, self.settings, self.folder, self.seeds[self.first], self._infotext(),
                              options.write_options())
        notes += saved.notes
        if len(frames) < self.wanted:
            notes.append(f"the job ended after {len(frames)} of {self.wanted} frames")
        if self.cut_short:
            notes.append("interrupted after {} of {} {}".format(*self.cut_short))
        return saved

    def _score(self, frames: list[Image.Image], notes: list[str]) -> None:
        meter, s = LoopMeter(), self.settings
        for i in windows.playback(len(frames), s.context_length, s.closed_loop):
            meter.add(np.asarray(frames[i].convert("RGB")))
        if meter.score:
            self.facts[SCORE] = self.p.extra_generation_params[SCORE] = f"{meter.score.value:.2f}"
            if s.closed_loop != "none" or s.seam_repair:
                notes.append(f"loop score {meter.score}")

    def _infotext(self) -> str:
        with attribute(self.p, "extra_generation_params", self.facts):
            return processing.create_infotext(self.p, self.prompts, self.seeds, self.subseeds, index=self.first,
                                              all_negative_prompts=self.negatives)
