"""Prompts to conditioning: `AND` with weights. Prompt editing between steps is missing."""
import re
from collections import namedtuple

import torch

ScheduledPromptConditioning = namedtuple("ScheduledPromptConditioning", ["end_at_step", "cond"])


class SdConditioning(list):
    def __init__(self, prompts, is_negative_prompt=False, width=None, height=None, copy_from=None):
        super().__init__(prompts)
        source = prompts if copy_from is None else copy_from
        self.is_negative_prompt = is_negative_prompt or getattr(source, "is_negative_prompt", False)
        self.width, self.height = width or getattr(source, "width", None), height or getattr(source, "height", None)


class ComposableScheduledPromptConditioning:
    def __init__(self, schedules, weight=1.0):
        self.schedules, self.weight = schedules, weight


class MulticondLearnedConditioning:
    def __init__(self, shape, batch):
        self.shape, self.batch = shape, batch


def get_learned_conditioning(model, prompts, steps, hires_steps=None, use_old_scheduling=False):
    steps = hires_steps or steps
    known = {text: [ScheduledPromptConditioning(steps, model.get_learned_conditioning(SdConditioning([text]))[0])]
             for text in dict.fromkeys(prompts)}
    return [known[text] for text in prompts]


def get_multicond_learned_conditioning(model, prompts, steps, hires_steps=None, use_old_scheduling=False):
    batch = []
    for prompt in prompts:
        parts = []
        for part in re.split(r"\bAND\b", prompt):
            text, _, weight = part.partition(":")
            cond = get_learned_conditioning(model, SdConditioning([text.strip()], copy_from=prompts),
                                            steps, hires_steps)[0]
            parts.append(ComposableScheduledPromptConditioning(cond, float(weight or 1.0)))
        batch.append(parts)
    return MulticondLearnedConditioning((len(prompts),), batch)


def _at(schedule, step):
    return next((entry.cond for entry in schedule if step <= entry.end_at_step), schedule[0].cond)


def reconstruct_cond_batch(c, current_step):
    return torch.stack([_at(schedule, current_step) for schedule in c])


def reconstruct_multicond_batch(c, current_step):
    conds_list, tensors = [], []
    for parts in c.batch:
        conds_list.append([(len(tensors) + i, part.weight) for i, part in enumerate(parts)])
        tensors += [_at(part.schedules, current_step) for part in parts]
    longest = max(len(t) for t in tensors)  # shorter ones repeat their last token
    return conds_list, torch.stack([torch.cat([t, t[-1:].repeat(longest - len(t), 1)]) for t in tensors])
