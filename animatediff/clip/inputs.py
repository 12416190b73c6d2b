"""Read and check the inputs of a clip: prompts, pictures, masks, sound and motion LoRAs. No network is loaded."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from animatediff import loras
from animatediff.clip import pictures, sounds
from animatediff.clip.pictures import Enlarged, Pictures
from animatediff.clip.sampled import Sampled
from animatediff.clip.source import SourceFrames, with_sound
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
    """A motion LoRA that the settings or the prompt name."""

    name: str  # as written by the user
    path: Path
    lora: Lora
    weight: Curve  # weight for each frame


@dataclass(frozen=True)
class Texts:
    """The prompts of one pass."""

    prompt: Schedule  # for each frame
    negative: Schedule  # for each frame
    loras: tuple[NamedLora, ...] = ()  # motion LoRAs that the settings and the prompt name


@dataclass(frozen=True)
class Inputs:
    """The inputs of a clip."""

    settings: Settings  # with the number of frames, and the size of the pictures
    sampled: Sampled
    text: str  # the prompt as written by the user
    prompt: Schedule  # for each frame, as the backend encodes it
    negative: Schedule  # for each frame, as the backend encodes it
    pictures: Pictures | None = None
    mask: Mask | None = None
    loras: tuple[NamedLora, ...] = ()  # motion LoRAs that the settings and the prompt name
    second: Texts | None = None  # prompts of the second pass
    source_video: SourceFrames | None = None  # source of a host that reads the pictures itself
    sound: Sound | None = None  # the sound in the settings, or the source video's

    @property
    def source(self) -> SourceFrames | None:
        """What the clip starts from."""
        return self.source_video if self.pictures is None else self.pictures.source

    @property
    def texts(self) -> tuple[Texts, ...]:
        """The prompts of each pass."""
        first = Texts(self.prompt, self.negative, self.loras)
        return (first,) if self.second is None else (first, self.second)

    @classmethod
    def read(cls, settings: Settings, find_lora: Callable[[str], Path], enlarged: Enlarged | None = None) -> Inputs:
        """Read the inputs that the settings name. Raises AnimateDiffError for any that cannot be read.

        find_lora: returns the file of a motion LoRA's name, or raises ModelError.
        enlarged: see pictures.read.
        """
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
        if not settings.sound_file and not with_sound(settings):
            sound = None  # the source's sound, which none of the formats can contain
        return cls(settings, sampled, settings.prompt, prompt, negative, found, mask, tuple(wanted),
                   sound=sound)
