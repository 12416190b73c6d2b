"""The inputs of a request's clips, read from the host's `p`."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from animatediff.clip.backend import Backend
from animatediff.clip.inputs import Inputs, Texts
from animatediff.clip.plan import Plan, plan
from animatediff.clip.sampled import Sampled
from animatediff.clip.source import SourceFrames
from animatediff.hosts.a1111 import motion_loras, travelling
from animatediff.hosts.a1111.run_facts import sampled_of
from animatediff.motion import Mask
from animatediff.settings import BY_NAME, Settings


@dataclass(frozen=True)
class Prompts:
    """The prompts of a clip's frames in one pass, as the host has them."""

    prompts: tuple[str, ...]
    negatives: tuple[str, ...]

    @classmethod
    def of(cls, prompts: Sequence[str], negatives: Sequence[str]) -> Prompts:
        return cls(tuple(prompts), tuple(negatives))


@dataclass(frozen=True)
class JobInputs:
    """The inputs that all clips of a request share."""

    settings: Settings
    mask: Mask | None
    sampled: Sampled
    source: SourceFrames | None

    @classmethod
    def read(cls, p: Any, settings: Settings, mask: Mask | None, source: SourceFrames | None) -> JobInputs:
        """Read them in `process`, when the host knows the request's samplers and size."""
        sides = [side // 8 * 8 for side in (p.width, p.height)]
        row = BY_NAME["size"]
        fits = all((row.minimum or 0) <= side <= (row.maximum or side) for side in sides)
        return cls(replace(settings, size="{}x{}".format(*sides) if fits else ""), mask, sampled_of(p),
                   source)

    def of_clip(self, p: Any, seed: int, first: Prompts, second: Prompts | None) -> Inputs:
        """Return the inputs of one clip. SettingsError or ModelError for unreadable inputs.

        seed: seed of its first frame.
        first, second: prompts of the first pass, and of Hires. fix if there is one.
        """
        found = self._texts(p, first)
        settings, written = replace(self.settings, seed=seed % 2**32), next(iter(first.prompts), "")
        return Inputs(settings, self.sampled, written, found.prompt, found.negative, mask=self.mask, loras=found.loras,
                      source_video=self.source, second=None if second is None else self._texts(p, second))

    def _texts(self, p: Any, written: Prompts) -> Texts:
        prompt, negative = travelling.schedules(p, self.settings, written.prompts, written.negatives)
        return Texts(prompt, negative, motion_loras.named(p, self.settings, prompt))



class Plans:
    """The plans of a request's clips. Clips with the same prompts share a plan; they differ only in their seeds."""

    def __init__(self, p: Any, job: JobInputs, backend: Backend):
        self.p, self.job, self.backend = p, job, backend
        self._made: dict[tuple[Prompts, Prompts | None], Plan] = {}

    def notes(self) -> list[str]:
        """Return the notices of all clips' plans, without advice. SettingsError or ModelError for a clip with an error.
        """
        p, frames = self.p, self.job.settings.frames
        clips = [slice(first, first + frames) for first in range(0, len(p.all_prompts), frames)]
        plans = [self.of_clip(number, p.all_prompts[clip], p.all_negative_prompts[clip])
                 for number, clip in enumerate(clips)]
        return list(dict.fromkeys(note for each in plans for note in each.notices if note not in each.advice))

    def of_clip(self, number: int, prompts: Sequence[str], negatives: Sequence[str]) -> Plan:
        """Return the plan of clip `number`. prompts, negatives: those of its first pass."""
        p, first = self.p, number * self.job.settings.frames
        clip, second = slice(first, first + self.job.settings.frames), None
        if getattr(p, "enable_hr", False):
            second = Prompts.of(p.all_hr_prompts[clip], p.all_hr_negative_prompts[clip])
        key = Prompts.of(prompts, negatives), second
        if key not in self._made:
            self._made[key] = plan(self.job.of_clip(p, int(p.all_seeds[first]), *key), self.backend)
        return self._made[key]
