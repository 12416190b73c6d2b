"""The pictures that an img2img clip starts from and ends with.

The start pictures are the host's. The last frame comes from the page or a request. Settings name it by a hash of its
pixels. Its file is kept in memory under that name and, once a clip has been made with it, in a folder beside the clips.
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
from animatediff.media.colour_match import Reference
from animatediff.sampling.from_pictures import FromPictures
from animatediff.settings import Settings

NAME = re.compile(r"[0-9a-f]{16}")
REMEDY = "Send a PNG, JPEG or WebP in base64 or as a data URI."
LATENT_UPSCALE = 3  # the host's resize mode for latents
FILL_ORIGINAL = 1  # the host's choice "Masked content: original"
IN_MEMORY = 8  # limits of the pictures in memory: number of files, bytes of all of them
BYTES = 2**26
_pictures: OrderedDict[str, bytes] = OrderedDict()


def reference(value: Any) -> str:
    """Return the name of a picture from the page or a request, or "" for none. SettingsError if it is not a picture."""
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
    """Return the picture of this name. SettingsError if it is gone or if the name is invalid, as in an edited infotext.
    """
    try:
        if not NAME.fullmatch(name):
            raise ValueError(name)
        return read.from_bytes(_pictures[name] if name in _pictures else _file(name).read_bytes())
    except (OSError, ValueError):
        raise SettingsError(f"the picture {end_of(name)} is not kept here", where="last_frame",
                            remedy=REMEDY) from None


def forget() -> None:
    """Clear the memory, as a restart does. Files are kept."""
    _pictures.clear()


def keep(name: str) -> None:
    """Save a picture beside the clips, so that their infotexts can name it later."""
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
    """Pastes the picture that the infotext names into the page's control. Empties the control if the picture is gone.
    """

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


def check(p: Any, settings: Settings, video: int = 0) -> None:
    """Check the pictures of a request. Called before frames are counted or anything is computed.

    video: number of frames of the source video.
    """
    given = len(p.init_images) if from_picture(p) and not video else video
    clip_pictures.check(settings, given, "the source video" if video else "the request")
    if settings.last_frame:
        find(settings.last_frame)


def from_picture(p: Any) -> bool:
    return bool(getattr(p, "init_images", None))


def alpha_of(p: Any) -> Callable[[int], np.ndarray] | None:
    """Return a function from a frame's index to the alpha channel, uint8 [h w], of its start picture, resized as the
    host resizes the picture. None if all are opaque.
    """
    sources = p.init_images
    if not any(image and read.alpha_of(image) for image in sources):
        return None

    def channel(number: int) -> np.ndarray:
        image = sources[number if len(sources) > 1 else 0]
        alpha = read.alpha_of(image) or Image.new("L", image.size, 255)
        if not p.paste_to:  # else frames have the picture's size
            alpha = images.resize_image(p.resize_mode % LATENT_UPSCALE, alpha, p.width, p.height).convert("L")
        return np.asarray(alpha)

    return channel


def reference_of(p: Any) -> Reference | None:
    """Return a function from a frame's index to its start picture, for matching colours; None for a clip from noise."""
    if not from_picture(p):
        return None
    return lambda index: np.asarray(read.flat(p.init_images[min(index, len(p.init_images) - 1)]))


def of_pass(p: Any, settings: Settings, until: torch.Tensor | None = None) -> FromPictures | None:
    """Return what the next pass starts from, or None for noise alone. until: as in `clip.strength.until`."""
    if not from_picture(p):
        return None
    last = _latents(p, find(settings.last_frame)) if settings.last_frame else None
    filled = p.mask is not None and p.inpainting_fill != FILL_ORIGINAL  # there the start is not the picture
    held_to = torch.cat([_latents(p, image) for image in p.init_images]) if filled else None
    return FromPictures(settings, p.init_latent, last, each=len(p.init_images) > 1, held_to=held_to, until=until)


def _latents(p: Any, image: Image.Image) -> torch.Tensor:
    """Return the latents [1 c h w] of a picture, resized as the host's `init` of img2img resizes the start picture."""
    image = images.flatten(image, shared.opts.img2img_background_color)
    if p.paste_to:  # "Only masked": crop to the computed region
        x, y, width, height = p.paste_to
        image = images.resize_image(p.resize_mode % LATENT_UPSCALE, image, *p.init_images[0].size)
        image = images.resize_image(2, image.crop((x, y, x + width, y + height)), p.width, p.height)
    elif p.resize_mode != LATENT_UPSCALE:
        image = images.resize_image(p.resize_mode, image, p.width, p.height)
    latents = encoded(p, image)
    if p.resize_mode == LATENT_UPSCALE:
        latents = torch.nn.functional.interpolate(latents, size=p.init_latent.shape[2:], mode="bilinear")
    return latents.to(p.init_latent)


def encoded(p: Any, image: Image.Image) -> torch.Tensor:
    """Return the latents [1 c h w] of an RGB picture."""
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).movedim(2, 0)[None]
    encoder = sd_samplers_common.approximation_indexes.get(shared.opts.sd_vae_encode_method)
    return sd_samplers_common.images_tensor_to_samples(pixels, encoder, p.sd_model)


def _name(image: Image.Image) -> str:
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()[:16]


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _remember(name: str, data: bytes) -> str:
    """Keep a picture's file in memory, not its pixels: a small file may decode to many."""
    _pictures[name] = data
    _pictures.move_to_end(name)
    while len(_pictures) > 1 and (len(_pictures) > IN_MEMORY or sum(map(len, _pictures.values())) > BYTES):
        _pictures.popitem(last=False)
    return name


def _file(name: str) -> Path:
    outputs = shared.opts.outdir_samples or shared.opts.outdir_img2img_samples
    return Path(outputs) / "AnimateDiff" / "pictures" / f"{name}.png"
