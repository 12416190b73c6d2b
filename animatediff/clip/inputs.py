"""What a clip's settings name, read and checked once: prompts, pictures, mask and motion LoRAs. No network is used."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from animatediff import loras
from animatediff.clip import pictures
from animatediff.clip.pictures import Enlarged, Pictures
from animatediff.curves import Curve
from animatediff.media import masks
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
class Inputs:
    """settings: with frames counted, and with the pictures' size. prompt, negative: of each frame, as they are encoded,
    without the tags of LoRAs. loras: the motion LoRAs that the settings and the prompt name."""

    settings: Settings
    prompt: Schedule
    negative: Schedule
    pictures: Pictures | None = None
    mask: Mask | None = None
    loras: tuple[NamedLora, ...] = ()

    @classmethod
    def read(cls, settings: Settings, find_lora: Callable[[str], Path], enlarged: Enlarged | None = None) -> Inputs:
        """Whatever cannot be read is refused here. find_lora: the file of a name; ModelError where there is none.
        enlarged: as in pictures.read."""
        found = pictures.read(settings, enlarged)
        settings = settings if found is None else found.of(settings)
        frames = settings.frame_count()
        settings = replace(settings, frames=frames)
        prompt, negative = settings.schedules(settings.prompt, settings.negative, frames)
        mask = None
        if settings.enable and settings.motion_mask:
            mask = Mask(*masks.read(settings.motion_mask, frames))
        wanted = [NamedLora(wish.name, path := find_lora(wish.name), load_lora(path), wish.weight)
                  for wish in loras.of_clip(settings.motion_lora, prompt)]
        prompt = replace(prompt, texts=tuple(map(loras.without_tags, prompt.texts)))
        return cls(settings, prompt, negative, found, mask, tuple(wanted))
