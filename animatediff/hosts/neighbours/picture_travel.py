"""Pictures of an IP-Adapter that travel from key frame to key frame, as prompts do."""
from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from animatediff.sampling.mixing import TravellingPrompt
from animatediff.settings import Settings


@dataclass
class PromptScheduler:
    """Mixes an IP-Adapter's pictures between key frames, by the clip's prompt travel.

    ControlNet deep-copies it, and sets `prompt_map` to a dict whose keys are the numbers of the key frames.
    """

    settings: Settings
    prompt_map: dict[int, str] | None = None

    def multi_cond(self, cond: Tensor, closed_loop: bool = False) -> Tensor:
        """Return cond [frame tokens d], valid at the key frames, mixed for every frame.

        closed_loop: ignored. It knows only the older extension's kinds; the clip's settings say whether the last
            picture leads back to the first.
        """
        keys = sorted(self.prompt_map or ())
        if not keys:
            return cond
        texts = "\n".join(f"{key}: {key}" for key in keys)
        schedule, _ = self.settings.schedules(texts, "", len(cond))
        pictures = cond[[int(text) for text in schedule.texts]]
        return TravellingPrompt(schedule, pictures).of(range(len(cond)))
