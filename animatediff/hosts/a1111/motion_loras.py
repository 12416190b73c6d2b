"""Motion LoRAs in the host, named in the parameter or by <lora:NAME:WEIGHT> in the prompt.

The host hands the names in <lora:…> to its Lora extension, which loads a motion LoRA's file, finds none of its layers
in the image model, and says nothing of it. So the names of motion LoRAs are taken out of what the host has read from
the prompts, and act on the motion module; all others stay.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from modules import extra_networks
from torch import nn

from animatediff import loras
from animatediff.attribute import attribute
from animatediff.curves import Curve
from animatediff.errors import AnimateDiffError
from animatediff.hosts.a1111 import library, travelling
from animatediff.layout import ClipLayout
from animatediff.motion import MotionModule, lora
from animatediff.motion import library as files
from animatediff.motion.lora_files import Lora, LoraDescription, load
from animatediff.settings import Settings
from animatediff.travel import Schedule

KINDS = ("lora", "lyco")
SOME = 500  # frames
Passes = tuple[list[lora.Weighted], list[lora.Weighted]]  # the first pass's, and Hires. fix's


def check(p: Any, settings: Settings, module: MotionModule, unet: nn.Module) -> list[str]:
    """What a user may not expect of the motion LoRAs of the job's clips. AnimateDiffError for what cannot be had."""
    notes = []
    for first in range(0, len(p.all_prompts), p.batch_size):
        clip = slice(first, first + p.batch_size)
        for weighted in _of_passes(p, settings, p.all_prompts[clip], p.all_negative_prompts[clip], clip):
            for each, _ in weighted:
                lora.check_fit(each.about, module)
                notes += lora.notices(each.about, module.name, module.family.has_mid)
            with lora.applied_to_unet(unet, weighted, p.batch_size, ClipLayout.contiguous):  # refuses what does not fit
                pass
    return list(dict.fromkeys(notes))


def of_clip(p: Any, settings: Settings) -> Passes:
    """`before_process_batch`: the motion LoRAs of both passes of this clip."""
    clip = slice(p.iteration * p.batch_size, (p.iteration + 1) * p.batch_size)
    return _of_passes(p, settings, p.prompts, p.negative_prompts, clip)


@contextmanager
def hidden_from_host(p: Any) -> Iterator[None]:
    """What the host reads from this clip's prompts has no names of motion LoRAs."""
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
    """What a run's motion LoRAs are and weigh, and what is wrong with them. Of a long clip's prompts, some frames are
    looked at."""
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
    """Names and weights of the motion LoRAs that a prompt names."""
    data = extra_networks.parse_prompt(prompt)[1]
    return [loras.of_tag(network.items) for kind in KINDS for network in data.get(kind, ())
            if library.tagged_lora(network.items[0])]


def _of_passes(p: Any, settings: Settings, prompts: Sequence[str], negatives: Sequence[str], clip: slice) -> Passes:
    def weighted(prompts: Sequence[str], negatives: Sequence[str]) -> list[lora.Weighted]:
        pair = travelling.schedules(p, settings, prompts, negatives)
        frames = _shares(pair[0]) if pair else [[(prompt, 1.0)] for prompt in prompts]
        named = loras.of_frames(frames, tagged) if not p.disable_extra_networks else ()
        found = [(library.find_lora(wish.name), wish.weight.computed(len(prompts), settings.levels))
                 for wish in loras.read(settings.motion_lora)]
        found += [(path, wish.weight) for wish in named if (path := library.tagged_lora(wish.name))]
        return [(loaded(str(path), path.stat().st_mtime_ns), weight) for path, weight in found]

    first = weighted(prompts, negatives)
    if not getattr(p, "enable_hr", False):
        return first, []
    return first, weighted(p.all_hr_prompts[clip], p.all_hr_negative_prompts[clip])


def _shares(schedule: Schedule) -> list[list[tuple[str, float]]]:
    return [schedule.shares(frame) for frame in range(len(schedule.mixes))]


@lru_cache(maxsize=4)
def loaded(path: str, changed: int) -> Lora:
    """A motion LoRA, on the CPU. `changed`: the file's time; a new file is read."""
    return load(Path(path))
