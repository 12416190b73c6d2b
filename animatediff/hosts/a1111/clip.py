"""One clip of a job: what it is taken when it begins, and what its files are to be."""
from __future__ import annotations

from typing import Any

from modules import images, processing

from animatediff import windows
from animatediff.attribute import attribute
from animatediff.clip import job, writing
from animatediff.clip.interpolation import Interpolation
from animatediff.errors import MediaError
from animatediff.hosts.a1111 import options, pictures, results
from animatediff.media.sound import Sound
from animatediff.media.write import WRITERS, Target
from animatediff.settings import Settings

SCORE = "AnimateDiff loop score"  # in the infotext


class HostClip:
    """The frames of one batch of the host's.

    The host may begin the next batch before all frames of this one have come, when another extension has taken some
    out. So seeds, prompts and folder are taken from `p` at the start, and the infotext's facts with each frame.
    """

    def __init__(self, p: Any, settings: Settings, interpolation: Interpolation | None = None,
                 sound: Sound | None = None):
        """`before_process_batch`, when this clip's seeds are numbered."""
        self.p, self.settings, self.interpolation, self.sound = p, settings, interpolation, sound
        self.wanted, self.came = p.batch_size, 0
        self.first = p.iteration * p.batch_size  # place of its first frame in the job's lists
        self.seeds, self.subseeds = list(p.all_seeds), list(p.all_subseeds)
        self.prompts, self.negatives = ([text] * len(p.all_prompts) for text in (p.main_prompt, p.main_negative_prompt))
        self.folder = results.folder(p.outpath_samples)
        self.facts: dict[str, Any] = {}
        self.cut_short: tuple[int, int, str] | None = None  # done, of how many, of what; where it was interrupted
        self.in_hires = False  # whether it was the second pass of Hires. fix

    def to_write(self) -> job.Clip:
        s = self.settings
        return job.Clip(
            self.wanted, [name for name in s.formats if name in WRITERS], s.fps, self._infotext, self._place,
            s.loop_number, options=writing.options(s, options.write_options()),
            interpolation=self.interpolation, sound=self.sound, hold_all=results.shows_frames(s),
            alpha=pictures.alpha_of(self.p, s),
            playback=lambda count: windows.playback(count, s.context_length, s.closed_loop))

    def add(self) -> None:
        """A frame has come, and with it what the infotext is to say."""
        self.came += 1
        self.facts = dict(self.p.extra_generation_params)

    @property
    def is_nothing(self) -> bool:
        """Whether it was interrupted before anything of it could be seen."""
        begun = self.cut_short is None or self.cut_short[0] > 0
        return not (begun or self.in_hires or hasattr(self.p, "init_images"))

    def notes(self, written: job.Written) -> list[str]:
        """What there is to say of its files."""
        score = [f"loop score {written.loop}"] if written.loop and self.settings.asks_for_a_loop else []
        cut = ["interrupted after {} of {} {}".format(*self.cut_short)] if self.cut_short else []
        return [*score, *written.notes, *cut]

    def _infotext(self, known: job.Known) -> str:
        if known.loop and self.settings.asks_for_a_loop:
            self.facts[SCORE] = self.p.extra_generation_params[SCORE] = f"{known.loop.value:.2f}"
        with attribute(self.p, "extra_generation_params", self.facts):
            return processing.create_infotext(self.p, self.prompts, self.seeds, self.subseeds, index=self.first,
                                              all_negative_prompts=self.negatives)

    def _place(self, taken: int) -> Target:
        """The folder, and the files' name with the next number there, behind those that are `taken`."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            number = images.get_next_sequence_number(str(self.folder), "") + taken
        except OSError as error:
            raise MediaError(f"the clip was not written ({error})", where=str(self.folder)) from error
        name = "-".join(filter(None, (f"{number:05}", str(self.seeds[self.first]), self.settings.request_id)))
        return Target(f"{self.folder}/", name, new=True)
