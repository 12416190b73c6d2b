"""Upscaler models, loaded with the package spandrel, which detects the network from the tensors.

The package `weights` opens the files. spandrel gets only tensors and never opens a file.
"""
from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from animatediff.errors import MediaError, ModelError
from animatediff.media.upscale.tiles import in_tiles
from animatediff.packages import extra
from animatediff.weights.boundary import one_line
from animatediff.weights.files import WeightFile
from animatediff.weights.kinds import UPSCALER, kind_of

EXTRA = extra("upscale", "spandrel")
REMEDY = "Choose a model such as Real-ESRGAN, ESRGAN, SwinIR, HAT or DAT; Lanczos needs none"
SIDES = (256, 128, 64)  # sides of a tile in pixels; if the GPU's memory is too small, the next one is used
PASSES = 3  # largest number of passes through the network
SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors", ".bin")
# Names that spandrel imports from torchvision. Only LaMa and RestoreFormer need them, which do not enlarge.
_OF_TORCHVISION = ("InterpolationMode", "normalize", "rotate")


def library() -> Any:
    """Return the module `spandrel`. Raises MediaError, which says how to install it, if it is missing."""
    try:
        with _with_or_without_torchvision():
            import spandrel  # pyright: ignore[reportMissingImports]
    except Exception as error:  # a torchvision of another build than torch raises any error
        raise MediaError(f"the package spandrel cannot be imported ({one_line(error)})", where="upscaler",
                         remedy=f"Install {EXTRA}") from error
    return spandrel


def check(path: Path) -> WeightFile:
    """Return the file without reading its tensors. Raises ModelError if it is known to be another kind of model."""
    file = WeightFile(path)
    kind = kind_of(file.shapes)
    if kind is not None and kind.name != UPSCALER:
        raise ModelError(f"{file.name} is {kind.phrase}, not an upscaler model", where="upscaler", remedy=REMEDY)
    return file


class Network:
    """Enlarges frames with an upscaler model, in tiles.

    tensors: tensors of the model's file. scale: scale factor of the network.
    """

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device | str = "cpu"):
        self._model = _loaded(dict(tensors))
        self.scale: int = self._model.scale
        self._device = torch.device(device)
        half = self._device.type == "cuda" and self._model.supports_half
        self._model.model.to(self._device, torch.float16 if half else torch.float32).eval().requires_grad_(False)
        self._dtype = torch.float16 if half else torch.float32
        self._sides = list(SIDES)

    def __call__(self, frame: np.ndarray, width: int, height: int) -> np.ndarray:
        """Return an enlarged frame, uint8 [h·s w·s 3], from uint8 [h w 3], where s is a power of the network's scale.

        The network is applied until the frame has at least this size, but at most PASSES times.
        """
        for _ in range(PASSES):
            frame = self._once(frame)
            if self.scale == 1 or (frame.shape[1] >= width and frame.shape[0] >= height):
                break
        return frame

    @torch.inference_mode()
    def _once(self, frame: np.ndarray) -> np.ndarray:
        x = torch.tensor(frame).permute(2, 0, 1)[None].to(self._device, self._dtype) / 255
        if self._model.input_channels == 1:
            out = torch.cat([self._tiled(x[:, i : i + 1]) for i in range(3)], 1)
        else:
            out = self._tiled(x)
        return (out[0] * 255).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()

    def _tiled(self, x: Tensor) -> Tensor:
        if self._model.tiling.name == "INTERNAL":
            return self._model(x).float().cpu()
        while True:
            try:
                return in_tiles(self._model, x, self.scale, self._sides[0])
            except torch.cuda.OutOfMemoryError:
                if len(self._sides) == 1:
                    raise
                del self._sides[0]
            torch.cuda.empty_cache()


def _loaded(tensors: dict[str, Tensor]) -> Any:
    """Return spandrel's model for these tensors. Raises ModelError if they are no upscaler model."""
    spandrel = library()
    state = spandrel.canonicalize_state_dict(tensors)
    plain = [state, *({key.removeprefix(wrapper): value for key, value in state.items()}
                      for wrapper in ("model.", "net.") if all(key.startswith(wrapper) for key in state))]
    for each in plain:
        try:
            model = spandrel.MAIN_REGISTRY.load(each)
        except spandrel.UnsupportedModelError:
            continue
        except Exception as error:  # missing or unexpected tensors
            raise ModelError(f"the upscaler model is not as its kind has it ({one_line(error)})", where="upscaler",
                             remedy=REMEDY) from error
        if (isinstance(model, spandrel.ImageModelDescriptor) and model.purpose in ("SR", "Restoration")
                and model.input_channels == model.output_channels and model.input_channels in (1, 3)):
            return model
        raise ModelError(f"a model of the kind {model.architecture.name}, for {model.purpose}, does not enlarge whole "
                         "pictures", where="upscaler", remedy=REMEDY)
    raise ModelError("the file is no upscaler model that spandrel knows", where="upscaler", remedy=REMEDY)


@contextmanager
def _with_or_without_torchvision() -> Iterator[None]:
    """Replace torchvision by stubs in the block if it is missing or of another build than torch."""
    if "spandrel" in sys.modules:
        yield
        return
    try:
        import torchvision.transforms.functional  # noqa: F401 # pyright: ignore[reportMissingImports]
    except Exception:  # also RuntimeError from torch
        names = ["torchvision", "torchvision.transforms", "torchvision.transforms.functional"]
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules.update({name: ModuleType(name) for name in names})
        vars(sys.modules[names[-1]]).update(dict.fromkeys(_OF_TORCHVISION))
        try:
            yield
        finally:
            for name in names:
                del sys.modules[name]
        return
    yield
