"""Pictures that a clip of img2img starts from and ends with.

The start pictures are the host's own. The last frame comes from the page or a request; settings name it by a hash of
its pixels, under which its file is kept in memory and, once a clip is made with it, in a folder beside the clips.
"""
from __future__ import annotations

import hashlib
import io
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from modules import images, sd_samplers_common, shared
from PIL import Image

from animatediff import disk
from animatediff.clip import pictures as clip_pictures
from animatediff.errors import MediaError, SettingsError, end_of, quoted
from animatediff.hosts.shared import infotext
from animatediff.media import opening, read
from animatediff.sampling.from_pictures import FromPictures
from animatediff.settings import Settings

NAME = re.compile(r"[0-9a-f]{16}")
REMEDY = "Send a PNG, JPEG or WebP in base64 or as a data URI."
LATENT_UPSCALE = 3  # the host's resize mode that works on latents
FILL_ORIGINAL = 1  # its choice "Masked content: original"
IN_MEMORY = 8  # files of pictures, and the bytes of all of them
BYTES = 2**26
_pictures: OrderedDict[str, bytes] = OrderedDict()


def reference(value: Any) -> str:
    """The name of a picture that the page or a request gives; "" for none. SettingsError for what is no picture."""
    if isinstance(value, Image.Image):
        return _remember(_name(value := value.convert("RGBA")), _png(value))
    if value in (None, ""):
        return ""
    if not isinstance(value, str):
        raise SettingsError(f"{type(value).__name__} is no picture", where="last_frame", remedy=REMEDY)
    if NAME.fullmatch(value):
        return value
    try:
        return _remember(_name(read.decoded(value)), opening.from_base64(value) or b"")
    except ValueError as error:
        raise SettingsError(f"{quoted(value)} {error}", where="last_frame", remedy=REMEDY) from None


def find(name: str) -> Image.Image:
    """The picture of this name; SettingsError where it is gone, or for what is no such name, as in an infotext."""
    try:
        if not NAME.fullmatch(name):
            raise ValueError(name)
        return read.from_bytes(_pictures[name] if name in _pictures else _file(name).read_bytes())
    except (OSError, ValueError):
        raise SettingsError(f"the picture {end_of(name)} is not kept here", where="last_frame",
                            remedy=REMEDY) from None


def forget() -> None:
    """Nothing is in memory, as after a new start; what is kept in files stays."""
    _pictures.clear()


def keep(name: str) -> None:
    """Save a picture beside the clips, so that their infotexts find it later."""
    file = _file(name)
    if file.exists():
        return
    try:
        disk.make_folder(file.parent)
        disk.write(file, _png(find(name)))
    except OSError as error:
        raise MediaError(f"the last frame was not kept ({error})", where=str(file),
                         remedy="Free the disk, or make the folder writable") from error


class Field(infotext.Field):
    """Pasting gives the page's control the picture that the infotext names, or empties it where that is gone."""

    def __call__(self, params: dict[str, Any]) -> Any:
        import gradio as gr

        name = super().__call__(params)
        if name is None:
            return None
        try:
            return gr.update(value=find(name) if name else None)
        except SettingsError as error:
            print(f"AnimateDiff: {error}")
            return gr.update(value=None)


def check(p: Any, settings: Settings) -> None:
    """Before anything is computed, and before frames are counted."""
    clip_pictures.check(settings, len(p.init_images) if from_picture(p) else 0, "the request")
    if settings.last_frame:
        find(settings.last_frame)


def from_picture(p: Any) -> bool:
    return bool(getattr(p, "init_images", None))


def transparent(p: Any) -> bool:
    """Whether one of the start pictures is transparent in places."""
    return from_picture(p) and any(image and read.alpha_of(image) for image in p.init_images)


def alpha_of(p: Any, settings: Settings) -> Callable[[int], np.ndarray] | None:
    """The alpha channel, uint8 [h w], of each frame: that of its start picture, brought to the clip's size as the host
    does with the picture. None for an opaque clip, as one is that ends with another picture."""
    if settings.last_frame or not transparent(p):
        return None
    sources = p.init_images

    def channel(number: int) -> np.ndarray:
        image = sources[number if len(sources) > 1 else 0]
        alpha = read.alpha_of(image) or Image.new("L", image.size, 255)
        if not p.paste_to:  # else frames have the picture's size
            alpha = images.resize_image(p.resize_mode % LATENT_UPSCALE, alpha, p.width, p.height).convert("L")
        return np.asarray(alpha)

    return channel


def of_pass(p: Any, settings: Settings) -> FromPictures | None:
    """What the pass that comes next starts from; None for noise alone."""
    if not from_picture(p):
        return None
    last = _latents(p, find(settings.last_frame)) if settings.last_frame else None
    filled = p.mask is not None and p.inpainting_fill != FILL_ORIGINAL  # the start is no longer the picture there
    held_to = torch.cat([_latents(p, image) for image in p.init_images]) if filled else None
    return FromPictures(settings, p.init_latent, last, each=len(p.init_images) > 1, held_to=held_to)


def _latents(p: Any, image: Image.Image) -> torch.Tensor:
    """[1 c h w] of a picture, brought to the clip's size as the host's `init` of img2img does with the start."""
    image = images.flatten(image, shared.opts.img2img_background_color)
    if p.paste_to:  # "Only masked": the region that is computed
        x, y, width, height = p.paste_to
        image = images.resize_image(p.resize_mode % LATENT_UPSCALE, image, *p.init_images[0].size)
        image = images.resize_image(2, image.crop((x, y, x + width, y + height)), p.width, p.height)
    elif p.resize_mode != LATENT_UPSCALE:
        image = images.resize_image(p.resize_mode, image, p.width, p.height)
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).movedim(2, 0)[None]
    encoder = sd_samplers_common.approximation_indexes.get(shared.opts.sd_vae_encode_method)
    latents = sd_samplers_common.images_tensor_to_samples(pixels, encoder, p.sd_model)
    if p.resize_mode == LATENT_UPSCALE:
        latents = torch.nn.functional.interpolate(latents, size=p.init_latent.shape[2:], mode="bilinear")
    return latents.to(p.init_latent)


def _name(image: Image.Image) -> str:
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()[:16]


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _remember(name: str, data: bytes) -> str:
    """Keep a picture's file, not its pixels, of which a small file may have many."""
    _pictures[name] = data
    _pictures.move_to_end(name)
    while len(_pictures) > 1 and (len(_pictures) > IN_MEMORY or sum(map(len, _pictures.values())) > BYTES):
        _pictures.popitem(last=False)
    return name


def _file(name: str) -> Path:
    outputs = shared.opts.outdir_samples or shared.opts.outdir_img2img_samples
    return Path(outputs) / "AnimateDiff" / "pictures" / f"{name}.png"
