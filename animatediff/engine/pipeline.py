"""Settings in, frames out: the standalone engine on diffusers' networks."""
from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .. import loras, windows
from ..errors import ModelError
from ..layout import ClipLayout
from ..motion import Mask, MotionModule, Steering, injected
from ..motion import load as load_module
from ..motion import lora as motion_lora
from ..motion.lora_files import Lora
from ..motion.lora_files import load as load_lora
from ..motion.steering import SteerOf
from ..notices import of_clip, of_pictures
from ..sampling import Event, OnEvent, WindowedDenoiser, betas, freeinit, noise
from ..sampling.events import ignore
from ..sampling.from_pictures import FromPictures, Held
from ..sampling.mixing import TravellingPrompt
from ..sampling.seam import Seam
from ..sampling.windowed import Denoise
from ..settings import BY_NAME, Settings
from ..travel import Schedule
from ..version import __version__
from ..video import masks
from . import models, pictures, samplers
from .resume import Keeper, Stage, content

if TYPE_CHECKING:
    from .checkpoint import Components

KEPT = 32  # pictures of a clip that plays to and fro
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def pick_device(name: str) -> torch.device:
    """"auto" takes a GPU if there is one."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    kind, _, number = name.partition(":")
    if not available[kind] or (kind == "cuda" and number and int(number) >= torch.cuda.device_count()):
        raise ModelError(f"this machine has no {name}, or this torch was built without it", where="device",
                         remedy="Use auto or cpu")
    return torch.device(name)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """"auto" is fp16 on CUDA; CPUs without bf16 units are slower with it, and MPS is safe with fp32 only."""
    return DTYPES[name] if name != "auto" else torch.float16 if device.type == "cuda" else torch.float32


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
        from . import checkpoint as checkpoints

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
        from . import checkpoint as checkpoints

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
        self._run(settings)
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
        """How strongly the motion module acts; None for as it was trained. MediaError for a mask that cannot be read."""
        if not settings.enable:
            return None
        frames, path = settings.frame_count(), settings.motion_mask
        return Steering.of(settings, frames, Mask(*masks.read(path, frames)) if path else None)

    def notices(self, settings: Settings) -> list[str]:
        """What a user may not expect of these settings; none of it stops the run."""
        from .text import notices

        said = []
        if settings.enable and self.module is not None:
            said += of_clip(settings, self.module.name, self.module.family, settings.sampler)
            has_mid = self.module.family.has_mid
            said += [note for lora, _ in self.loras(settings)
                     for note in motion_lora.notices(lora.about, self.module.name, has_mid)]
        elif self.wishes(settings):
            said.append("motion LoRAs have no effect on stills")
        if settings.cfg == 1 and settings.negative:
            said.append("the negative prompt has no effect at CFG 1")
        said += of_pictures(settings, from_picture=bool(settings.init)) + pictures.notices(settings, self.own_size)
        schedules = self.schedules(settings)
        said += [note for schedule in schedules for note in schedule.notes]
        found = (note for schedule in schedules for text in schedule.texts for note in notices(text))
        return said + list(dict.fromkeys(found))

    def calls(self, settings: Settings, found: dict | None = None) -> int:
        """UNet calls of the run (windows over all steps), for progress and estimates. found: the state of one that was
        cut off, of which they are the rest."""
        counted = {}
        for iteration, part in enumerate(self._iterations(settings), 1):
            run = self._run(part)
            loop = self._windowed(None, part, run.steps, ignore)
            counted[_stage_name(iteration)] = [(step, len(loop.plan(step))) for step in run.call_steps]
        seam = self._seam(settings)
        counted["seam repair"] = [(step, int(step >= seam.first)) for step in self._whole_run(settings).call_steps
                                  ] if seam else []
        stages, done = list(counted), 0
        if found:
            stages, done = stages[stages.index(found["stage"]):] if found["stage"] in stages else [], found["step"]
        return sum(calls for stage in stages for step, calls in counted[stage] if stage != stages[0] or step >= done)

    def identity(self, settings: Settings) -> dict:
        """What a run must have in common with one that it goes on with. `settings` as `resolve` returned them."""
        files = {"checkpoint": self.components.path, "motion module": self.module_path}
        named = {f"motion LoRA {wish.name}": models.find_lora(wish.name) for wish in self.wishes(settings)}
        sources = {BY_NAME[name].label: {"name": about["name"], "content": about["sha256"]}
                   for name, about in pictures.metadata(settings).items()}
        ours = (models.DEMO_CHECKPOINT, models.DEMO_MODULE)
        own = settings.to_dict() | {name.replace(" ", "_"): "" if path in ours else str(path.resolve())
                                    for name, path in files.items() if path}
        return {"animatediff": __version__, "torch": torch.__version__.split("+")[0],
                "diffusers": importlib.metadata.version("diffusers"), "device": self.device.type,
                "precision": str(self.dtype).removeprefix("torch."), "settings": own,
                **{name: {"name": path.name, "content": content(path)} for name, path in (files | named).items() if path},
                **sources}

    def metadata(self, settings: Settings) -> dict:
        """What a file must carry so that its clip can be made again. `settings` as `resolve` returned them.

        Models are named without their folders, which are nobody else's business.
        """
        values = settings.to_dict() | pictures.named(settings)
        for key, path, demo in (("motion_module", self.module_path, models.DEMO_MODULE),
                                ("checkpoint", self.components.path, models.DEMO_CHECKPOINT)):
            values[key] = "" if path == demo else (path or Path(values[key])).name
        values["motion_lora"] = loras.without_folders(settings.motion_lora)
        about: dict = {"animatediff": __version__, "settings": values, "prompts": _prompts(self.schedules(settings)[0]),
                       "seed": settings.seed, "checkpoint": {"name": self.components.name}}
        if sources := pictures.metadata(settings):
            about["pictures"] = sources
        if settings.enable and self.module is not None:
            about["motion_module"] = {"name": self.module.name, "family": self.module.family.name}
            if self.module_path is not None and self.module_path.is_file():
                about["motion_module"]["sha256"] = sha256(self.module_path)
            if settings.motion_mask:
                path = Path(settings.motion_mask).expanduser()
                values["motion_mask"] = masks.without_home(settings.motion_mask)
                about["motion_mask"] = {"name": path.name, "sha256": sha256(path)}
        return about

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

    @torch.no_grad()
    def sample(self, settings: Settings, on_event: OnEvent = ignore, keeper: Keeper | None = None) -> torch.Tensor:
        """Latents [f c h w] in float32, as the VAE's encoder scales them. keeper: of the run's state."""
        keeper = keeper or Keeper()
        settings = self.resolve(settings)
        self.check(settings)
        height, width = settings.height // self.scale, settings.width // self.scale
        shape = (settings.frames, self.unet.config.in_channels, height, width)
        sources = noise.generators(settings.noise, settings.seed, settings.frames, settings.context_length,
                                   settings.overlap_frames)
        first = noise.draw(sources, shape)
        schedules = self.schedules(settings)
        encoded = self.text.encode(*(schedule.texts for schedule in schedules))
        prompts = [TravellingPrompt(*pair).to(self.device) for pair in zip(schedules, encoded)]
        call = _UNetCall(self.unet, prompts[:1] if settings.cfg == 1 else prompts, settings.cfg, self.dtype)
        given = self._from_pictures(settings)
        begin = None if given is None else given.start(lambda: noise.draw(sources, shape).to(self.device))
        held = None if given is None else given.held
        call.steering = self.steering(settings)
        parts, latents = self._iterations(settings), first.to(self.device)
        with ExitStack() as scope:
            if settings.enable:
                weighted = self.loras(settings)
                scope.enter_context(motion_lora.applied(self.module, weighted, settings.frames))
                scope.enter_context(motion_lora.applied_to_unet(self.unet, weighted, settings.frames, call.layout_of))
                scope.enter_context(injected(self.unet, self.module, call.layout_of, call.steer_of))
            for iteration, part in enumerate(parts, 1):
                def told(event: Event, iteration: int = iteration) -> None:
                    on_event(dataclasses.replace(event, iteration=iteration, iterations=len(parts)))

                def work(x: torch.Tensor, stage: Stage, iteration: int = iteration, part: Settings = part) -> torch.Tensor:
                    again = iteration > 1 and not stage.step
                    begins = self._renewed(part, x, begin, first, noise.draw(sources, shape)) if again else first
                    return self._sampled(part, call, begins, sources, told, clean=begin, held=held, stage=stage)

                latents = keeper.stage(_stage_name(iteration), latents, sources, work)
            if seam := self._seam(settings):
                latents = keeper.stage("seam repair", latents, sources, lambda x, _: self._repaired(
                    x, seam, settings, call, sources, on_event, held))
        if not torch.isfinite(latents).all():
            raise ModelError(f"sampling in {self.dtype} ran over its range of numbers", where="dtype",
                             remedy="Use bf16 or fp32")
        return keeper.stage("decoding", latents, sources, lambda x, _: x)

    def _sampled(self, settings: Settings, call: _UNetCall, start: torch.Tensor, sources: list[torch.Generator],
                 on_event: OnEvent, **more: Any) -> torch.Tensor:
        """One iteration, from unit noise on the CPU to latents. more: of samplers.Run."""
        run = self._run(settings)
        loop = self._windowed(call, settings, run.steps, on_event)

        def report(step: int, estimate: torch.Tensor) -> None:
            on_event(Event("step", step + 1, run.steps, step=step + 1, steps=run.steps, latents=estimate))

        def denoise(x: torch.Tensor, t: torch.Tensor, step: int) -> torch.Tensor:
            call.step, call.steps = step, run.steps
            return loop(x, t, step=step)

        return run(denoise, start.to(self.device), sources, report, **more)

    def _renewed(self, settings: Settings, latents: torch.Tensor, begin: torch.Tensor | None, first: torch.Tensor,
                 fresh: torch.Tensor) -> torch.Tensor:
        """What FreeInit's next iteration, that of the settings, starts from in place of noise. begin: the pictures that
        the clip starts from; first: the first iteration's noise."""
        if begin is None:
            seen = freeinit.diffused(latents, first, float(self._betas(settings).alphas_cumprod()[-1]))
        else:
            seen = freeinit.diffused_over(begin, latents, first, self._run(settings).sigma_max)
        return freeinit.renewed(settings, seen, fresh)

    def _seam(self, settings: Settings) -> Seam | None:
        """What of the clip is made anew around its seam; a clip that plays to and fro has none."""
        frames, context = settings.frame_count(), settings.context_length
        if not settings.enable or windows.to_and_fro(frames, context, settings.closed_loop):
            return None
        return Seam.of(frames, context, settings.seam_repair, settings.steps)

    def _repaired(self, latents: torch.Tensor, seam: Seam, settings: Settings, call: Denoise,
                  sources: list[torch.Generator], on_event: OnEvent, held: Held | None) -> torch.Tensor:
        """The clip with the frames around its seam denoised again, in one window. Those that are held stay."""
        index = list(seam.window)
        own = [sources[i] for i in index] if len(sources) > 1 else sources
        finished = latents[index]
        start = noise.draw(own, tuple(finished.shape)).to(self.device)
        run = self._whole_run(settings)

        def denoise(x: torch.Tensor, t: torch.Tensor, step: int) -> torch.Tensor:
            call.step, call.steps = step, run.steps
            out = call(x, t, seam.window)
            on_event(Event("window", 1, 1, step=step + 1, steps=seam.steps, frames=seam.window, latents=latents))
            return out

        latents[index] = run(denoise, start, own, clean=finished, first=seam.first,
                             hold=seam.holder(finished, start, run.noised), held=held and held.to_the_end(index))
        return latents

    def decode(self, latents: torch.Tensor, settings: Settings, on_event: OnEvent = ignore) -> Iterator[np.ndarray]:
        """Latents [f c h w] -> uint8 [h w 3] one by one, in the order of playback. What comes back in a long clip is
        decoded again, rather than kept."""
        order = windows.playback(len(latents), settings.context_length, settings.closed_loop)
        if not settings.enable:
            order = list(range(len(latents)))
        last_use = {frame: place for place, frame in enumerate(order)}
        kept: dict[int, np.ndarray] = {}
        for place, frame in enumerate(order):
            picture = kept.pop(frame) if frame in kept else self._picture(latents[frame : frame + 1])
            if last_use[frame] > place and len(kept) < KEPT:
                kept[frame] = picture
            on_event(Event("frame", place + 1, len(order), frames=(frame,)))
            yield picture

    @torch.no_grad()
    def _picture(self, latents: torch.Tensor) -> np.ndarray:
        """Latents [1 c h w] -> uint8 [h w 3]. A half-precision VAE that overflows is switched to fp32 for good."""
        latents = latents / self.vae.config.scaling_factor + (getattr(self.vae.config, "shift_factor", None) or 0.0)
        x = self.vae.decode(latents.to(self.device, self.vae.dtype)).sample
        if not torch.isfinite(x).all() and self.vae.dtype != torch.float32:
            self.vae.float()
            x = self.vae.decode(latents.to(self.device)).sample
        if not torch.isfinite(x).all():
            raise ModelError("the VAE's pictures hold values that are no numbers", where=self.components.name,
                             remedy="Use another checkpoint or VAE")
        x = (x[0].float() / 2 + 0.5).clamp(0, 1) * 255
        return x.round().byte().permute(1, 2, 0).contiguous().cpu().numpy()

    def _iterations(self, settings: Settings) -> list[Settings]:
        """The settings of each of FreeInit's iterations; stills have one, since it ties frames together."""
        steps = settings.iterations(settings.steps) if settings.enable else [settings.steps]
        return [dataclasses.replace(settings, steps=count) for count in steps]

    def _betas(self, settings: Settings) -> betas.Schedule:
        """The motion module's noise schedule; the image model's own for stills."""
        moving = settings.enable and self.module is not None
        return self.module.family.betas if moving else self.components.betas

    def _from_pictures(self, settings: Settings) -> FromPictures | None:
        given = pictures.load(settings)
        if given is None:
            return None
        first = torch.cat([self.encode(picture) for picture in given.first])
        last = self.encode(given.last[0]) if len(given.last) else None
        return FromPictures(settings, first, last, each=len(first) > 1)

    @torch.no_grad()
    def encode(self, picture: np.ndarray) -> torch.Tensor:
        """uint8 [h w 3] -> latents [1 c h w] in float32, the mean of what the VAE says."""
        x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].to(self.device, self.vae.dtype) / 127.5 - 1
        latents = self.vae.encode(x).latent_dist.mode().float()
        return (latents - (getattr(self.vae.config, "shift_factor", None) or 0.0)) * self.vae.config.scaling_factor

    def _run(self, settings: Settings) -> samplers.Run:
        return samplers.Run(settings.sampler, self._betas(settings), settings.steps,
                            prediction_type=self.components.prediction,
                            strength=settings.denoising_strength if settings.init else None)

    def _whole_run(self, settings: Settings) -> samplers.Run:
        """All steps, where the clip itself, which starts from pictures, does fewer."""
        return self._run(dataclasses.replace(settings, init="", last_frame=""))

    def _windowed(self, call, settings: Settings, steps: int, on_event: OnEvent) -> WindowedDenoiser:
        """Without a motion module frames do not know each other: plain batches of the context length."""
        clip = dict(stride=settings.stride, overlap=settings.overlap, closed_loop=settings.closed_loop,
                    schedule=settings.context_schedule, method=settings.fuse_method)
        stills = dict(schedule="batched", overlap=0)
        return WindowedDenoiser(call, settings.frame_count(), settings.context_length, steps=steps,
                                on_event=on_event, **(clip if settings.enable else stills))


class _UNetCall:
    """Denoiser of one window: cond and uncond in one batch, [cond frames…, uncond frames…]; cond alone at CFG 1."""

    def __init__(self, unet, roles: list[TravellingPrompt], cfg: float, dtype: torch.dtype):
        self.unet, self.roles, self.cfg, self.dtype = unet, roles, cfg, dtype
        self.layout = ClipLayout((), ())
        self.step, self.steps = 0, 1  # of the sampler, as told by whoever runs it
        self.steering: Steering | None = None

    def layout_of(self, rows: int) -> ClipLayout:
        """Injection asks in every call of the UNet; the answer holds for the call under way."""
        return self.layout

    @property
    def steer_of(self) -> SteerOf | None:
        """For injection."""
        return self.steering and (lambda *site: self.steering.at(self.step, self.steps, *site))

    def __call__(self, x: torch.Tensor, t: torch.Tensor, frames: tuple[int, ...]) -> torch.Tensor:
        """x [f c h w] -> ε [f c h w] in float32."""
        self.layout = ClipLayout.contiguous(frames, groups=len(self.roles))
        prompts = torch.cat([role.of(frames) for role in self.roles])
        rows = torch.cat([x] * len(self.roles)).to(self.dtype)
        out = self.unet(rows, t.to(x.device), encoder_hidden_states=prompts.to(self.dtype)).sample.float()
        if len(self.roles) == 1:
            return out
        with_prompt, without = out.chunk(2)
        return without + self.cfg * (with_prompt - without)


@lru_cache(maxsize=4)
def loaded_lora(path: Path, changed: int) -> Lora:
    """Kept in memory, as a run reads each several times. `changed`: the file's time; a new file is read."""
    return load_lora(path)


def _stage_name(iteration: int) -> str:
    return "sampling" if iteration == 1 else f"FreeInit iteration {iteration}"


def _prompts(schedule: Schedule) -> dict[str, str]:
    """Where the nearest prompt changes: number of the frame and prompt."""
    nearest = schedule.nearest
    return {str(i): text for i, text in enumerate(nearest) if not i or text != nearest[i - 1]}


def sha256(path: Path) -> str:
    """Of the file's bytes, so that a clip names the very module it was made with."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def metadata_text(about: dict) -> str:
    """The one string that writers put into every format."""
    return json.dumps(about, ensure_ascii=True, separators=(", ", ": "))
