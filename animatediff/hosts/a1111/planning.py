"""The host as the backend of a clip's plan: its image model, and its samplers before they run."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from modules import devices, shared
from torch import nn

from animatediff.clip.backend import Models, Steps
from animatediff.clip.inputs import Inputs
from animatediff.clip.sampled import Sampled
from animatediff.errors import ModelError
from animatediff.hosts.a1111 import distilled, run_facts, travelling
from animatediff.hosts.a1111.backend import BACKEND
from animatediff.layout import ClipLayout
from animatediff.motion import BetaSchedule, MotionModule, injected

BETAS = BetaSchedule("scaled_linear", 0.00085, 0.012)  # SD1.5's and SDXL's
OWN_SIZES = {False: "512x512", True: "1024x1024"}  # by: is the checkpoint SDXL?


class PlanBackend:
    """The loaded checkpoint with a motion module. ModelError if the checkpoint or the module does not fit."""

    def __init__(self, module: MotionModule, module_file: Path):
        self.module, self._module_file = module, module_file
        self._model = shared.sd_model
        self.device, self.dtype = devices.device, BACKEND.unet_dtype(self._model)
        with injected(self.unet, module, ClipLayout.contiguous):  # raises if the module does not fit
            pass

    @property
    def unet(self) -> nn.Module:
        found = BACKEND.unet(self._model)
        if found is None:
            raise ModelError("this kind of checkpoint has no UNet",
                             where=shared.opts.sd_model_checkpoint or "checkpoint",
                             remedy="Choose an SD1.5 or SDXL checkpoint.")
        return found

    @property
    def models(self) -> Models:
        info: Any = getattr(self._model, "sd_checkpoint_info", None)
        file = getattr(info, "filename", None)
        return Models(getattr(info, "name_for_extra", "") or "", Path(file) if file else None, self._module_file,
                      libraries={"torch": torch.__version__.split("+")[0]})

    @property
    def own_size(self) -> str:
        return OWN_SIZES[bool(getattr(self._model, "is_sdxl", False))]

    @property
    def own_betas(self) -> BetaSchedule:
        return BETAS

    def sampler(self, sampled: Sampled, betas: BetaSchedule) -> Steps:
        return run_facts.placed(sampled)

    def grid(self, sampled: Sampled) -> str:
        return distilled.grid(sampled.sampler, sampled.schedule_type)

    def notices(self, inputs: Inputs) -> list[str]:
        return [note for texts in inputs.texts for note in travelling.networks_apart(texts.prompt)]
