"""What a clip is made from, read and checked once: prompts, pictures, mask and motion LoRAs. No network is used."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from animatediff import loras
from animatediff.clip import pictures, sounds
from animatediff.clip.pictures import Enlarged, Pictures
from animatediff.clip.sampled import Sampled
from animatediff.clip.source import with_sound
from animatediff.curves import Curve
from animatediff.media import masks
from animatediff.media.sound import Sound
from animatediff.motion import Mask
from animatediff.motion.lora_files import Lora
from animatediff.motion.lora_files import load as load_lora
from animatediff.settings import Settings
from animatediff.travel import Schedule


@dataclass(frozen=True)
class NamedLora:
    """A motion LoRA as it was named, its file, its weights, and how much of it each frame gets."""

    name: str
    path: Path
    lora: Lora
    weight: Curve


@dataclass(frozen=True)
class Texts:
    """What the prompts of a pass say. prompt, negative: of each frame. loras: the motion LoRAs that the settings and
    the prompt name."""

    prompt: Schedule
    negative: Schedule
    loras: tuple[NamedLora, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """settings: with frames counted, and with the pictures' size. text: the prompt as it was written. prompt, negative:
    of each frame, as the backend encodes them. loras: as of Texts. second: the prompts of the second pass. sound: that
    is asked for, or the source video's."""

    settings: Settings
    sampled: Sampled
    text: str
    prompt: Schedule
    negative: Schedule
    pictures: Pictures | None = None
    mask: Mask | None = None
    loras: tuple[NamedLora, ...] = ()
    second: Texts | None = None
    sound: Sound | None = None

    @property
    def texts(self) -> tuple[Texts, ...]:
        """Of each pass."""
        first = Texts(self.prompt, self.negative, self.loras)
        return (first,) if self.second is None else (first, self.second)

    @classmethod
    def read(cls, settings: Settings, find_lora: Callable[[str], Path], enlarged: Enlarged | None = None) -> Inputs:
        """Whatever cannot be read is refused here. find_lora: the file of a name; ModelError where there is none.
        enlarged: as in pictures.read."""
        found = pictures.read(settings, enlarged)
        settings = settings if found is None else found.of(settings)
        frames = settings.frame_count()
        settings = replace(settings, frames=frames)
        sound = sounds.of(settings) or (found and found.source.sound(settings))
        settings = sounds.heard(settings, sound, frames)
        sounds.check(settings, frames)
        prompt, negative = settings.schedules(settings.prompt, settings.negative, frames)
        mask = None
        if settings.enable and settings.motion_mask:
            mask = Mask(*masks.read(settings.motion_mask, frames))
        wanted = [NamedLora(wish.name, path := find_lora(wish.name), load_lora(path),
                            wish.weight.computed(frames, settings.levels))
                  for wish in loras.of_clip(settings.motion_lora, prompt)]
        prompt = replace(prompt, texts=tuple(map(loras.without_tags, prompt.texts)))
        sampled = Sampled.of(settings, frames, from_picture=found is not None)
        if not settings.audio and not with_sound(settings):
            sound = None  # the source's own, which was not asked for
        return cls(settings, sampled, settings.prompt, prompt, negative, found, mask, tuple(wanted), sound=sound)
