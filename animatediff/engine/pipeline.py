"""Settings in, frames out: the standalone engine on diffusers' networks."""
from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from animatediff import sampler_table
from animatediff.clip import writing
from animatediff.clip.backend import Models
from animatediff.clip.inputs import Inputs
from animatediff.clip.plan import Plan, plan
from animatediff.clip.resume import Keeper
from animatediff.engine import demo_words, emphasis, models, samplers, vae
from animatediff.engine.device import pick_device, pick_dtype
from animatediff.engine.sample import Sampling
from animatediff.errors import ModelError
from animatediff.layout import ClipLayout
from animatediff.motion import BetaSchedule, MotionModule, injected
from animatediff.motion import load as load_module
from animatediff.sampling import Event, OnEvent, memory
from animatediff.sampling.events import ignore, shortage_told
from animatediff.settings import Settings

if TYPE_CHECKING:
    from animatediff.engine.checkpoint import Components

KEPT = 32  # pictures of a clip that plays to and fro


class Pipeline:
    """An image model with a motion module. `render` makes the clip; between calls the networks are untouched."""

    def __init__(self, components: Components, module: MotionModule | None = None, *, module_path: Path | None = None):
        self.components, self.module, self.module_path = components, module, module_path
        self.unet, self.vae, self.text = components.unet, components.vae, components.text
        if module is not None:
            with injected(self.unet, module, ClipLayout.contiguous):  # refuses a module that does not fit
                pass

    @classmethod
    def load(cls, checkpoint: str | Path | None = None, motion_module: str | Path | None = None, *,
             device: str = "auto", dtype: str = "auto") -> Pipeline:
        """Paths or names; None or "" is the demo model and its module."""
        from animatediff.engine import checkpoint as checkpoints

        where = pick_device(device)
        form = pick_dtype(dtype, where)
        image = models.find_checkpoint(str(checkpoint or ""))
        if checkpoint and not motion_module and image != models.DEMO_CHECKPOINT:
            checkpoints.check(image)
            raise ModelError("no motion module is chosen for this checkpoint", where=str(checkpoint),
                             remedy="Name one with --motion-module; `animatediff models` lists what is there")
        path = models.find(str(motion_module or ""))
        module = load_module(path, dtype=form).to(where)
        return cls(checkpoints.load(image, device=where, dtype=form), module, module_path=path)

    @property
    def device(self) -> torch.device:
        return self.components.device

    @property
    def dtype(self) -> torch.dtype:
        return self.components.dtype

    @property
    def scale(self) -> int:
        """Pixels along one side of a latent."""
        return self.components.scale

    @property
    def own_size(self) -> str:
        """WIDTHxHEIGHT in pixels that the image model was made for; SD1.5's where it does not say."""
        config: Any = self.unet.config
        latent = config.sample_size or 64
        height, width = latent if isinstance(latent, (list, tuple)) else (latent, latent)
        return f"{width * self.scale}x{height * self.scale}"

    @property
    def own_betas(self) -> BetaSchedule:
        """The image model's noise schedule, for stills."""
        return self.components.betas

    @property
    def models(self) -> Models:
        libraries = {"torch": torch.__version__.split("+")[0], "diffusers": importlib.metadata.version("diffusers")}
        return Models(self.components.name, self.components.path, self.module_path,
                      (models.DEMO_CHECKPOINT, models.DEMO_MODULE), libraries)

    def sampler(self, settings: Settings, betas: BetaSchedule, steps: int, strength: float | None) -> samplers.Run:
        return samplers.Run(settings.sampler, betas, steps, schedule_type=settings.schedule_type,
                            prediction_type=self.components.prediction, strength=strength)

    def notices(self, settings: Settings, prompts: Sequence[str]) -> list[str]:
        """What a user may not expect of the sampler and the text encoder."""
        said = sampler_table.notices(settings.sampler, settings.schedule_type)
        said += list(dict.fromkeys(note for text in prompts for note in emphasis.notices(text)))
        if self.components.path == models.DEMO_CHECKPOINT:
            said += demo_words.notices(prompts, self.text.tokenizer)
        return said

    def plan(self, asked: Settings | Inputs | Plan) -> Plan:
        """What is to be done. Raises, before anything is computed, what would go wrong."""
        if isinstance(asked, Plan):
            return asked
        return plan(asked if isinstance(asked, Inputs) else Inputs.read(asked, models.find_lora), self)

    def render(self, asked: Settings | Plan, on_event: OnEvent = ignore, keeper: Keeper | None = None
               ) -> Iterator[np.ndarray]:
        """Frames uint8 [h w 3] in the order of playback, decoded one by one; uint16 where the settings ask for more
        than 8 bits.

        Settings are checked now; sampling starts when the first frame is asked for. Whatever ends it, Ctrl-C
        included, the motion module is out of the UNet before the caller sees it.
        """
        planned = self.plan(asked)

        def frames() -> Iterator[np.ndarray]:
            yield from self.decode(self.sample(planned, on_event, keeper), planned.playback, on_event,
                                   deep=writing.deep(planned.settings))

        return frames()

    def sample(self, asked: Settings | Plan, on_event: OnEvent = ignore, keeper: Keeper | None = None) -> torch.Tensor:
        """Latents [f c h w] in float32, as the VAE's encoder scales them. keeper: of the run's state."""
        return Sampling(self.components, self.module, self.plan(asked), on_event).latents(keeper or Keeper())

    def decode(self, latents: torch.Tensor, order: Sequence[int] | None = None, on_event: OnEvent = ignore, *,
               deep: bool = False) -> Iterator[np.ndarray]:
        """Latents [f c h w] -> uint8 [h w 3] one by one, or uint16 for `deep`, decoded as many at once as memory
        allows.

        order: numbers of the frames as they play, by default each once. What comes back in a long clip is decoded
        again, rather than kept.
        """
        order = range(len(latents)) if order is None else order
        last_use = {frame: place for place, frame in enumerate(order)}
        kept: dict[int, np.ndarray] = {}
        waiting = self.unet, self.module, self.text
        with vae.as_it_was(self.vae), memory.WhileDecoding(self.device, shortage_told(on_event),
                                                           lambda: waiting) as in_use:
            for place, frame in enumerate(order):
                if frame not in kept:
                    soon = dict.fromkeys(order[place : place + memory.MOST_PICTURES])
                    due = [other for other in soon if other not in kept]

                    def decoded(due: list[int] = due) -> dict[int, np.ndarray]:
                        together = due[: in_use.at_once]
                        return dict(zip(together, vae.decode(self.vae, latents[together], self.components.name,
                                                             deep=deep)))

                    kept |= in_use(decoded)
                picture = kept.pop(frame)
                if last_use[frame] > place and len(kept) < KEPT:
                    kept[frame] = picture
                on_event(Event("frame", place + 1, len(order), frames=(frame,)))
                yield picture
