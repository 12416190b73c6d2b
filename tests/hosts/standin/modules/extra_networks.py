"""<kind:name:weight> marks in prompts, which are removed from the prompt and passed to scripts."""
import re
from collections import defaultdict

MARK = re.compile(r"<(\w+):([^>]+)>")


class ExtraNetworkParams:
    def __init__(self, items=None):
        self.items, self.positional = items or [], items or []


def parse_prompt(prompt):
    data = defaultdict(list)
    for name, rest in MARK.findall(prompt):
        data[name].append(ExtraNetworkParams(rest.split(":")))
    return MARK.sub("", prompt), data


def parse_prompts(prompts):
    parsed = [parse_prompt(prompt) for prompt in prompts]
    return [text for text, _ in parsed], parsed[0][1] if parsed else None  # the batch uses the first's marks


def activate(p, data):
    if p.scripts is not None:
        p.scripts.after_extra_networks_activate(p, batch_number=p.iteration, prompts=p.prompts, seeds=p.seeds,
                                                subseeds=p.subseeds, extra_network_data=data)


def deactivate(p, data):
    pass
