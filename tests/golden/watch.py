"""What is seen of a run from outside: calls of a UNet, and latents that are decoded. Names nothing of ours."""
from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import nn


@dataclass
class Seen:
    """calls: the rows of each call of the UNet. decoded: SHA-256 of each latent that was decoded, in order."""

    calls: list[int] = field(default_factory=list)
    decoded: list[str] = field(default_factory=list)


@contextmanager
def watching(is_unet: Callable[[nn.Module], bool], is_decoder: Callable[[nn.Module], bool],
             cut: int = 0) -> Iterator[Seen]:
    """Hooks on all modules. cut: KeyboardInterrupt in this call of the UNet, counted from 1; 0 for never."""
    seen = Seen()

    def before(module: nn.Module, args: tuple[Any, ...]) -> None:
        if is_unet(module):
            seen.calls.append(len(args[0]))
            if len(seen.calls) == cut:
                raise KeyboardInterrupt
        elif is_decoder(module):
            seen.decoded += [digest(row) for row in args[0].detach()]

    handle = nn.modules.module.register_module_forward_pre_hook(before)
    try:
        yield seen
    finally:
        handle.remove()


def digest(content: torch.Tensor | np.ndarray | Image.Image | bytes) -> str:
    """SHA-256 of a tensor's numbers, a picture's pixels or bytes, with the shape where there is one."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    if isinstance(content, torch.Tensor):
        content = content.cpu().float().numpy()
    elif isinstance(content, Image.Image):
        content = np.asarray(content.convert("RGBA"))
    return hashlib.sha256(f"{content.shape} {content.dtype} ".encode() + content.tobytes()).hexdigest()


def pictures(source: Any) -> list[str]:
    """The digest of each frame of a picture or a video, given as a path or a file object. A text counts as one."""
    try:
        return _pictures(source)
    except UnidentifiedImageError:
        pass
    raw = source.getvalue() if hasattr(source, "getvalue") else source.read_bytes()
    if raw[:4] != b"\x1aE\xdf\xa3" and raw[4:8] != b"ftyp":
        return [digest(raw)]
    import av

    with av.open(io.BytesIO(raw)) as container:  # a WebM's bytes hold a random number
        return [digest(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def _pictures(source: Any) -> list[str]:
    with Image.open(source) as image:
        found = []
        for frame in range(getattr(image, "n_frames", 1)):
            image.seek(frame)
            found.append(digest(image))
        return found
