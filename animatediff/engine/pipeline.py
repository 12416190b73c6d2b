"""The standalone engine's pipeline: from settings to frames on diffusers' networks."""
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
from animatediff.clip.sampled import Sampled
from animatediff.engine import demo_words, emphasis, models, samplers, vae
from animatediff.engine.device import pick_device, pick_dtype
from animatediff.engine.sample import Sampling
from animatediff.errors import ModelError
from animatediff.layout import ClipLayout
from animatediff.motion import BetaSchedule, MotionModule, injected
from animatediff.motion import load as load_module
from animatediff.sampling import Event, OnEvent, memory
from animatediff.sampling.events import ignore, report_fallbacks
from animatediff.settings import Settings

if TYPE_CHECKING:
    from animatediff.engine.checkpoint import Components

KEPT = 32  # decoded pictures that are kept until they play again


class Pipeline:
    """An image model with a motion module. `render` makes clips. Between calls the networks are unchanged."""

    def __init__(self, components: Components, module: MotionModule | None = None, *, module_path: Path | None = None):
        self.components, self.module, self.module_path = components, module, module_path
        self.unet, self.vae, self.text = components.unet, components.vae, components.text
        if module is not None:
            with injected(self.unet, module, ClipLayout.contiguous):  # raises ModelError if the module does not fit
                pass

    @classmethod
    def load(cls, checkpoint: str | Path | None = None, motion_module: str | Path | None = None, *,
             device: str = "auto", dtype: str = "auto") -> Pipeline:
        """Load a checkpoint and a motion module, given as paths or names. None or "" is the demo's.

        device, dtype: see `pick_device` and `pick_dtype`. Raise ModelError if a file is missing or does not fit.
        """
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
        """Size of a latent pixel in pixels, along one side."""
        return self.components.scale

    @property
    def own_size(self) -> str:
        """The image model's native size as WIDTHxHEIGHT in pixels; SD1.5's if its configuration has none."""
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

    def sampler(self, sampled: Sampled, betas: BetaSchedule) -> samplers.Run:
        return samplers.Run(sampled.sampler, betas, sampled.steps, schedule_type=sampled.schedule_type,
                            prediction_type=self.components.prediction, strength=sampled.strength,
                            exact=sampled.exact)

    def grid(self, sampled: Sampled) -> str:
        """The schedule type that acts, as few_steps.Run has it."""
        return sampler_table.grid_of(sampler_table.get(sampled.sampler), sampled.schedule_type)

    def notices(self, inputs: Inputs) -> list[str]:
        """What a user may not expect of the sampler and the text encoder."""
        prompts = [*inputs.prompt.texts, *inputs.negative.texts]
        said = sampler_table.notices(inputs.sampled.sampler, inputs.sampled.schedule_type)
        said += list(dict.fromkeys(note for text in prompts for note in emphasis.notices(text)))
        if self.components.path == models.DEMO_CHECKPOINT:
            said += demo_words.notices(prompts, self.text.tokenizer)
        return said

    def plan(self, asked: Settings | Inputs | Plan) -> Plan:
        """Return the plan of a clip. Raise errors in the settings before anything is computed."""
        if isinstance(asked, Plan):
            return asked
        return plan(asked if isinstance(asked, Inputs) else Inputs.read(asked, models.find_lora), self)

    def render(self, asked: Settings | Plan, on_event: OnEvent = ignore, keeper: Keeper | None = None
               ) -> Iterator[np.ndarray]:
        """Return an iterator over the frames, uint8 [h w 3], in playback order; uint16 for a bit depth above 8.

        Settings are checked in this call. Sampling starts when the first frame is requested. The motion module is
        removed from the UNet after sampling, also after an error or Ctrl-C.

        keeper: saves and restores the run's state.
        """
        planned = self.plan(asked)

        def frames() -> Iterator[np.ndarray]:
            decoded = self.decode(self.sample(planned, on_event, keeper), planned.playback, on_event,
                                  deep=writing.deep(planned.settings))
            given = planned.inputs.pictures
            for frame, picture in zip(planned.playback, decoded):
                yield picture if given is None else given.kept(picture, frame)

        return frames()

    def sample(self, asked: Settings | Plan, on_event: OnEvent = ignore, keeper: Keeper | None = None) -> torch.Tensor:
        """Return latents [f c h w] in float32, scaled like the VAE encoder's.

        keeper: saves and restores the run's state.
        """
        return Sampling(self.components, self.module, self.plan(asked), on_event).latents(keeper or Keeper())

    def decode(self, latents: torch.Tensor, order: Sequence[int] | None = None, on_event: OnEvent = ignore, *,
               deep: bool = False) -> Iterator[np.ndarray]:
        """Yield frames uint8 [h w 3], or uint16 if `deep`, of latents [f c h w]. As many are decoded at once as memory
        allows.

        order: numbers of the frames in playback order; by default each once. Frames that play twice are kept up to
        KEPT pictures, and decoded again beyond that.
        """
        order = range(len(latents)) if order is None else order
        last_use = {frame: place for place, frame in enumerate(order)}
        kept: dict[int, np.ndarray] = {}
        waiting = self.unet, self.module, self.text
        with vae.as_it_was(self.vae), memory.WhileDecoding(self.device, report_fallbacks(on_event),
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
