"""Prompt travel in the host's conditioning.

The host encodes one prompt for each frame of the batch. For a clip whose prompts travel, two methods of its `p` are
replaced: they encode each distinct prompt of the schedule once, and the results are mixed for each frame. Both passes,
changes of the model between them, the host's caches, and schedules inside a prompt ([a:b:0.5], AND) work as before.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from modules import extra_networks, prompt_parser, shared

from animatediff.attribute import attribute
from animatediff.clip.inputs import Inputs, Texts
from animatediff.hosts.a1111 import library
from animatediff.hosts.a1111.backend import BACKEND
from animatediff.hosts.shared.cfg_rows import lengthened, tokens
from animatediff.sampling.mixing import MIX
from animatediff.settings import Settings
from animatediff.travel import Schedule

METHODS = ("parse_extra_network_prompts", "get_conds_with_caching")
Pair = tuple[Schedule, Schedule]  # the prompts' and the negative prompts'


@contextmanager
def in_clip(p: Any, inputs: Inputs) -> Iterator[None]:
    """Give the clip's frames the prompts of its schedules, from `before_process_batch` to the clip's end."""
    clip = slice(p.iteration * p.batch_size, (p.iteration + 1) * p.batch_size)
    first = _unless_hosts_own(inputs.texts[0], p.prompts, p.negative_prompts)
    second = inputs.second and _unless_hosts_own(inputs.second, p.all_hr_prompts[clip],
                                                 p.all_hr_negative_prompts[clip])
    if first is None and second is None:
        yield
        return
    if first:
        p.prompts, p.negative_prompts = _with_networks(first[0]), first[1].nearest
    parse, encode = p.parse_extra_network_prompts, p.get_conds_with_caching

    def parse_extra_network_prompts(*args: Any, **kwargs: Any) -> Any:
        with _slice(p, "all_hr_prompts", clip, second and _with_networks(second[0])), \
                _slice(p, "all_hr_negative_prompts", clip, second and second[1].nearest):
            return parse(*args, **kwargs)

    def get_conds_with_caching(function: Any, prompts: Any, steps: Any, caches: Any, data: Any,
                               hires_steps: Any = None) -> Any:
        pair = first if hires_steps is None else second
        if pair is None:
            return encode(function, prompts, steps, caches, data, hires_steps)
        schedule = pair[bool(prompts.is_negative_prompt)]
        texts = [extra_networks.parse_prompt(text)[0] for text in schedule.texts]
        asked = prompt_parser.SdConditioning(texts, copy_from=prompts)
        return of_frames(encode(function, asked, steps, caches, data, hires_steps), schedule)

    with attribute(p, METHODS[0], parse_extra_network_prompts), attribute(p, METHODS[1], get_conds_with_caching):
        yield


def of_frames(encoded: Any, schedule: Schedule) -> Any:
    """Return the conditioning of each frame from that of each text. `encoded` is not changed, since the host caches it.
    """
    empty = cache(lambda: BACKEND.empty_prompt(shared.sd_model))
    if isinstance(encoded, prompt_parser.MulticondLearnedConditioning):
        texts = [[(part.schedules, part.weight) for part in parts] for parts in encoded.batch]
        longest = max(tokens(entry.cond) for parts in texts for schedules, _ in parts for entry in schedules)
        texts = [[(_lengthened(schedules, longest, empty), weight) for schedules, weight in parts] for parts in texts]
        frames = [_mixed_parts(texts[m.first], texts[m.second], m.share, schedule) for m in schedule.mixes]
        if BACKEND.equal_parts:
            most = max(map(len, frames))
            frames = [[*parts, *[(parts[-1][0], 0.0)] * (most - len(parts))] for parts in frames]
        batch = [[prompt_parser.ComposableScheduledPromptConditioning(*part) for part in parts] for parts in frames]
        return prompt_parser.MulticondLearnedConditioning(shape=(len(batch),), batch=batch)
    longest = max(tokens(entry.cond) for schedules in encoded for entry in schedules)
    texts = [_lengthened(schedules, longest, empty) for schedules in encoded]
    return [_mixed(texts[m.first], texts[m.second], m.share, schedule) for m in schedule.mixes]


def schedules(p: Any, settings: Settings, prompts: Sequence[str], negatives: Sequence[str]) -> Pair:
    """Return the schedules of one clip. SettingsError for prompts that cannot be parsed.

    If the frames already have different prompts, they are used as they are, without parsing.
    """
    if len(set(prompts)) != 1 or len(set(negatives)) != 1:
        return Schedule.of_frames(prompts), Schedule.of_frames(negatives)
    own = [_unstyled(p, prompts[0], p.prompt, "apply_styles_to_prompt"),
           _unstyled(p, negatives[0], p.negative_prompt, "apply_negative_styles_to_prompt")]
    pair = settings.schedules(own[0][0], own[1][0], len(prompts))
    prompt, negative = (replace(schedule, texts=tuple(map(styled, schedule.texts)))
                        for schedule, (_, styled) in zip(pair, own))
    return prompt, negative


def networks_apart(schedule: Schedule) -> list[str]:
    """Return a note if key frames name different extra networks. The host loads these for the whole clip.

    Motion LoRAs are left out, since the host does not load them.
    """
    if schedule.interpolation == "hold":  # frames with prompts of their own have no key frames
        return []
    of_each = [{(kind, *network.items) for kind, network in _networks(text)
                if not library.tagged_lora(network.items[0])} for text in schedule.texts]
    if all(found == of_each[0] for found in of_each):
        return []
    names = sorted({words[1] for found in of_each for words in found})
    return [f"extra networks act on the whole clip, not only at the key frames that name them: {', '.join(names)}"]


def _unless_hosts_own(texts: Texts, prompts: Sequence[str], negatives: Sequence[str]) -> Pair | None:
    """Return the schedules, or None if each frame's prompts are the host's."""
    pair = texts.prompt, texts.negative
    whole = not any(mix.share for schedule in pair for mix in schedule.mixes)
    is_hosts = whole and pair[0].nearest == [*prompts] and pair[1].nearest == [*negatives]
    return None if is_hosts else pair


def _unstyled(p: Any, prompt: str, typed: Any, apply: str) -> tuple[str, Callable[[str], str]]:
    """Return the prompt without the host's styles, and a function that adds them to each part of the prompt."""
    def styled(text: str) -> str:
        return getattr(shared.prompt_styles, apply)(text, p.styles)

    if p.styles and isinstance(typed, str) and styled(typed) == prompt:
        return typed, styled
    return prompt, str


def _with_networks(schedule: Schedule) -> list[str]:
    """Return each frame's nearest prompt. The first one names the extra networks of all: the host reads only the first.
    """
    nearest = schedule.nearest
    there = {(kind, network.items[0]) for kind, network in _networks(nearest[0])}
    for text in schedule.texts:
        for kind, network in _networks(text):
            if (kind, network.items[0]) not in there:
                there.add((kind, network.items[0]))
                nearest[0] += f"<{kind}:{':'.join(network.items)}>"
    return nearest


def _networks(text: str) -> list[tuple[str, Any]]:
    data = extra_networks.parse_prompt(text)[1]
    return [(kind, network) for kind, networks in data.items() for network in networks]


def _lengthened(schedules: Sequence[Any], length: int, empty: Callable[[], torch.Tensor]) -> list[Any]:
    return [prompt_parser.ScheduledPromptConditioning(entry.end_at_step, lengthened(entry.cond, length, empty))
            for entry in schedules]


def _mixed_parts(a: list, b: list, share: float, schedule: Schedule) -> list:
    """Mix the parts of AND one by one. A part that one side lacks fades in or out by its weight."""
    if not share:
        return a
    parts = []
    for i in range(max(len(a), len(b))):
        there = [side[i] for side in (a, b) if i < len(side)]
        (first, _), (second, _) = there[0], there[-1]
        one, other = (side[i][1] if i < len(side) else 0.0 for side in (a, b))
        parts.append((_mixed(first, second, share, schedule), one + share * (other - one)))
    return parts


def _mixed(a: Sequence[Any], b: Sequence[Any], share: float, schedule: Schedule) -> list[Any]:
    """Mix two of the host's schedules over the sampler's steps. The result changes at the steps of both."""
    if not share or a is b:
        return list(a)
    mix = MIX[schedule.interpolation]

    def at(entries: Sequence[Any], step: int) -> Any:
        return next((entry.cond for entry in entries if step <= entry.end_at_step), entries[0].cond)

    def both(x: Any, y: Any) -> Any:
        return type(x)({key: mix(x[key], y[key], share) for key in x}) if isinstance(x, dict) else mix(x, y, share)

    ends = sorted({entry.end_at_step for entry in (*a, *b)})
    return [prompt_parser.ScheduledPromptConditioning(end, both(at(a, end), at(b, end))) for end in ends]


@contextmanager
def _slice(p: Any, name: str, clip: slice, values: list[str] | None) -> Iterator[None]:
    """Replace a part of one of p's lists inside the block."""
    before: Any = getattr(p, name, None)
    if values is not None:
        setattr(p, name, [*before[:clip.start], *values, *before[clip.stop:]])
    try:
        yield
    finally:
        if values is not None:
            setattr(p, name, before)
