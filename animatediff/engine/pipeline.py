"""Settings in, frames out: the standalone engine on diffusers' networks."""
from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from animatediff import loras, windows
from animatediff.engine import models, pictures, provenance, sampler_table, vae
from animatediff.engine.device import pick_device, pick_dtype
from animatediff.clip.resume import Keeper
from animatediff.engine.sample import Sampling
from animatediff.errors import ModelError
from animatediff.layout import ClipLayout
from animatediff.media import masks
from animatediff.motion import Mask, MotionModule, Steering, injected
from animatediff.motion import load as load_module
from animatediff.motion import lora as motion_lora
from animatediff.motion.lora_files import Lora
from animatediff.motion.lora_files import load as load_lora
from animatediff.notices import of_clip, of_pictures, of_speed
from animatediff.sampling import Event, OnEvent, memory
from animatediff.sampling.events import ignore, shortage_told
from animatediff.settings import Settings
from animatediff.travel import Schedule

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
            raise ModelError("no motion module is chosen for this checkpoint", where=str(checkpoint),
                             remedy="Name one with --motion-module; `animatediff models` lists what is there")
        path = models.find(str(motion_module or ""))
        module = load_module(path, dtype=form).to(where)
        return cls(checkpoints.load(image, device=where, dtype=form), module, module_path=path)

    @classmethod
    def load_stills(cls, checkpoint: str | Path | None = None, *, device: str = "auto",
                    dtype: str = "auto") -> Pipeline:
        """The image model alone, for settings with enable=False."""
        from animatediff.engine import checkpoint as checkpoints

        where = pick_device(device)
        image = models.find_checkpoint(str(checkpoint or ""))
        return cls(checkpoints.load(image, device=where, dtype=pick_dtype(dtype, where)))

    @property
    def device(self) -> torch.device:
        return next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.unet.parameters()).dtype

    @property
    def scale(self) -> int:
        """Pixels along one side of a latent."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def own_size(self) -> str:
        """WIDTHxHEIGHT in pixels that the image model was made for; SD1.5's where it does not say."""
        latent = self.unet.config.sample_size or 64
        height, width = latent if isinstance(latent, (list, tuple)) else (latent, latent)
        return f"{width * self.scale}x{height * self.scale}"

    def resolve(self, settings: Settings) -> Settings:
        """The settings of one run: frames counted, a seed drawn, a size. Rendering them again gives the same clip."""
        seed = secrets.randbelow(2**32) if settings.seed < 0 else settings.seed
        settings = pictures.resolved(settings)
        return dataclasses.replace(settings, frames=settings.frame_count(), seed=seed,
                                   size=settings.size or self.own_size)

    def check(self, settings: Settings) -> None:
        """Raise, before anything is computed, what would go wrong in the run."""
        if settings.enable:
            if self.module is None:
                raise ModelError("this pipeline was loaded without a motion module", where="enable",
                                 remedy="Load one, or set enable to false for stills")
            self.module.check_frames(min(settings.frame_count(), settings.context_length))
        for lora, _ in self.loras(settings):
            if settings.enable:
                motion_lora.check_fit(lora.about, self.module)
        self.steering(settings)
        Sampling(self, settings).sampler(settings)
        pictures.load(settings)

    def schedules(self, settings: Settings) -> tuple[Schedule, Schedule]:
        """The prompt and the negative prompt of each frame, as they are encoded."""
        prompt, negative = settings.schedules(settings.prompt, settings.negative, settings.frame_count())
        return dataclasses.replace(prompt, texts=tuple(map(loras.without_tags, prompt.texts))), negative

    def wishes(self, settings: Settings) -> tuple[loras.Wish, ...]:
        """The motion LoRAs that the parameter and the prompt name."""
        prompt, _ = settings.schedules(settings.prompt, settings.negative, settings.frame_count())
        return loras.of_clip(settings.motion_lora, prompt)

    def loras(self, settings: Settings) -> list[motion_lora.Weighted]:
        """Those, from their files. ModelError for a name that is unknown, and for a file that is no motion LoRA."""
        found = [(models.find_lora(wish.name), wish.weight) for wish in self.wishes(settings)]
        return [(loaded_lora(path, path.stat().st_mtime_ns), weight) for path, weight in found]

    def steering(self, settings: Settings) -> Steering | None:
        """How strongly the motion module acts; None for as it was trained.
        MediaError for a mask that cannot be read."""
        if not settings.enable:
            return None
        frames, path = settings.frame_count(), settings.motion_mask
        return Steering.of(settings, frames, Mask(*masks.read(path, frames)) if path else None)

    def notices(self, settings: Settings) -> list[str]:
        """What a user may not expect of these settings; none of it stops the run."""
        from animatediff.engine.text import notices

        said = []
        if settings.enable and self.module is not None:
            said += of_clip(settings, self.module.name, self.module.family, settings.sampler)
            has_mid = self.module.family.has_mid
            said += [note for lora, _ in self.loras(settings)
                     for note in motion_lora.notices(lora.about, self.module.name, has_mid)]
        elif self.wishes(settings):
            said.append("motion LoRAs have no effect on stills")
        said += sampler_table.notices(settings.sampler, settings.schedule_type)
        if settings.cfg == 1 and settings.negative:
            said.append("the negative prompt has no effect at CFG 1")
        said += of_pictures(settings, from_picture=bool(settings.init)) + pictures.notices(settings, self.own_size)
        said += of_speed(settings, Sampling(self, settings).sampler(settings).steps)
        schedules = self.schedules(settings)
        said += [note for schedule in schedules for note in schedule.notes]
        found = (note for schedule in schedules for text in schedule.texts for note in notices(text))
        return said + list(dict.fromkeys(found))

    def calls(self, settings: Settings, found: dict | None = None) -> int:
        """UNet calls of the run (windows over all steps), for progress and estimates. found: the state of one that was
        cut off, of which they are the rest."""
        return Sampling(self, settings).calls(found)

    def identity(self, settings: Settings) -> dict:
        """What a run must have in common with one that it goes on with. `settings` as `resolve` returned them."""
        return provenance.identity(self, settings)

    def metadata(self, settings: Settings) -> dict:
        """What a file must carry so that its clip can be made again. `settings` as `resolve` returned them."""
        return provenance.metadata(self, settings)

    def render(self, settings: Settings, on_event: OnEvent = ignore, keeper: Keeper | None = None
               ) -> Iterator[np.ndarray]:
        """Frames uint8 [h w 3] in the order of playback, decoded one by one.

        Settings are checked now; sampling starts when the first frame is asked for. Whatever ends it, Ctrl-C
        included, the motion module is out of the UNet before the caller sees it.
        """
        settings = self.resolve(settings)
        self.check(settings)

        def frames() -> Iterator[np.ndarray]:
            yield from self.decode(self.sample(settings, on_event, keeper), settings, on_event)

        return frames()

    def sample(self, settings: Settings, on_event: OnEvent = ignore, keeper: Keeper | None = None) -> torch.Tensor:
        """Latents [f c h w] in float32, as the VAE's encoder scales them. keeper: of the run's state."""
        settings = self.resolve(settings)
        self.check(settings)
        return Sampling(self, settings).latents(on_event, keeper or Keeper())

    def encode(self, picture: np.ndarray) -> torch.Tensor:
        """uint8 [h w 3] -> latents [1 c h w] in float32."""
        return vae.encode(self.vae, picture)

    def decode(self, latents: torch.Tensor, settings: Settings, on_event: OnEvent = ignore) -> Iterator[np.ndarray]:
        """Latents [f c h w] -> uint8 [h w 3] one by one, in the order of playback, decoded as many at once as memory
        allows. What comes back in a long clip is decoded again, rather than kept."""
        order = windows.playback(len(latents), settings.context_length, settings.closed_loop)
        if not settings.enable:
            order = list(range(len(latents)))
        last_use = {frame: place for place, frame in enumerate(order)}
        kept: dict[int, np.ndarray] = {}
        waiting = self.unet, self.module, self.text
        with memory.WhileDecoding(self.device, shortage_told(on_event), lambda: waiting) as in_use:
            for place, frame in enumerate(order):
                if frame not in kept:
                    soon = dict.fromkeys(order[place : place + memory.MOST_PICTURES])
                    due = [other for other in soon if other not in kept]

                    def decoded(due: list[int] = due) -> dict[int, np.ndarray]:
                        together = due[: in_use.at_once]
                        return dict(zip(together, vae.decode(self.vae, latents[together], self.components.name)))

                    kept |= in_use(decoded)
                picture = kept.pop(frame)
                if last_use[frame] > place and len(kept) < KEPT:
                    kept[frame] = picture
                on_event(Event("frame", place + 1, len(order), frames=(frame,)))
                yield picture


@lru_cache(maxsize=4)
def loaded_lora(path: Path, changed: int) -> Lora:
    """Kept in memory, as a run reads each several times. `changed`: the file's time; a new file is read."""
    return load_lora(path)
