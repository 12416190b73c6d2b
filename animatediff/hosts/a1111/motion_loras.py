"""Motion LoRAs in the host, named in the parameter or by <lora:NAME:WEIGHT> in the prompt.

The host passes the names in <lora:…> to its Lora extension, which loads a motion LoRA's file, finds none of its layers
in the image model, and reports nothing. So the names of motion LoRAs are removed from the host's parsed prompts and
applied to the motion module. All other names stay.
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from modules import extra_networks

from animatediff import loras
from animatediff.attribute import attribute
from animatediff.clip.inputs import NamedLora
from animatediff.curves import Curve
from animatediff.errors import AnimateDiffError
from animatediff.hosts.a1111 import library
from animatediff.motion import library as files
from animatediff.motion.lora_files import Lora, LoraDescription, load
from animatediff.settings import Settings
from animatediff.travel import Schedule

KINDS = ("lora", "lyco")
SOME = 500  # frames whose prompts are read before a run


def named(p: Any, settings: Settings, prompt: Schedule) -> tuple[NamedLora, ...]:
    """Return the motion LoRAs that the settings and the prompts of a pass name. ModelError for a missing one."""
    found = [(wish, library.find_lora(wish.name)) for wish in loras.read(settings.motion_lora)]
    if not p.disable_extra_networks:
        frames = [prompt.shares(frame) for frame in range(len(prompt.mixes))]
        found += [(wish, path) for wish in loras.of_frames(frames, tagged) if (path := library.tagged_lora(wish.name))]
    return tuple(NamedLora(wish.name, path, loaded(str(path), path.stat().st_mtime_ns),
                           wish.weight.computed(len(prompt.mixes), settings.levels)) for wish, path in found)


@contextmanager
def hidden_from_host(p: Any) -> Iterator[None]:
    """Remove the names of motion LoRAs from the extra networks that the host reads from this clip's prompts."""
    parse = p.parse_extra_network_prompts

    def parse_extra_network_prompts(*args: Any, **kwargs: Any) -> Any:
        result = parse(*args, **kwargs)
        for data in (p.extra_network_data, getattr(p, "hr_extra_network_data", None)):
            for kind in KINDS:
                if data and kind in data:
                    data[kind] = [network for network in data[kind] if not library.tagged_lora(network.items[0])]
        return result

    with attribute(p, "parse_extra_network_prompts", parse_extra_network_prompts):
        yield


def described(settings: Settings,
              schedule: Schedule) -> tuple[list[tuple[LoraDescription, Curve]], list[AnimateDiffError]]:
    """Return the descriptions and weights of a run's motion LoRAs, and the errors.

    Of a long clip, the prompts of some frames are read.
    """
    found, problems, named = [], [], cache(tagged)
    try:
        some = range(0, len(schedule.mixes) if any(map(named, schedule.texts)) else 0, 1 + len(schedule.mixes) // SOME)
        shares = [schedule.shares(frame) for frame in some]
        wishes = loras.read(settings.motion_lora) + loras.of_frames(shares, named)
    except AnimateDiffError as error:
        return [], [error]
    for wish in wishes:
        try:
            found.append((files.describe_lora(library.find_lora(wish.name)), wish.weight))
        except AnimateDiffError as error:
            problems.append(error)
    return found, problems


def tagged(prompt: str) -> list[tuple[str, float]]:
    """Return the names and weights of the motion LoRAs in a prompt."""
    data = extra_networks.parse_prompt(prompt)[1]
    return [loras.of_tag(network.items) for kind in KINDS for network in data.get(kind, ())
            if library.tagged_lora(network.items[0])]


@lru_cache(maxsize=4)
def loaded(path: str, changed: int) -> Lora:
    """Return a motion LoRA, on the CPU. changed: modification time of the file. A changed file is read again."""
    return load(Path(path))
