"""Pictures that a clip of img2img starts from and ends with.

The start pictures are the host's own. The last frame comes from the page or a request; settings name it by a hash of
its pixels, under which it is kept in memory for the job and, once a clip is made with it, in a folder beside the
clips.
"""
from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from modules import images, sd_samplers_common, shared
from PIL import Image

from animatediff.clip import pictures as clip_pictures
from animatediff.errors import MediaError, SettingsError, end_of, quoted
from animatediff.hosts.shared import infotext
from animatediff.media import read
from animatediff.sampling.from_pictures import FromPictures
from animatediff.settings import Settings

NAME = re.compile(r"[0-9a-f]{16}")
REMEDY = "Send a PNG, JPEG or WebP in base64 or as a data URI."
LATENT_UPSCALE = 3  # the host's resize mode that works on latents
FILL_ORIGINAL = 1  # its choice "Masked content: original"
IN_MEMORY = 8
_pictures: OrderedDict[str, Image.Image] = OrderedDict()


def reference(value: Any, *, keep: bool = True) -> str:
    """The name of a picture that the page or a request gives; "" for none. SettingsError for what is no picture.
    keep: `find` has it from now on."""
    named = _remember if keep else _name
    if isinstance(value, Image.Image):
        return named(value.convert("RGBA"))
    if value in (None, ""):
        return ""
    if not isinstance(value, str):
        raise SettingsError(f"{type(value).__name__} is no picture", where="last_frame", remedy=REMEDY)
    if NAME.fullmatch(value):
        return value
    try:
        return named(read.decoded(value))
    except ValueError as error:
        raise SettingsError(f"{quoted(value)} {error}", where="last_frame", remedy=REMEDY) from None


def find(name: str) -> Image.Image:
    """The picture of this name; SettingsError where it is gone, or for what is no such name, as in an infotext."""
    if name not in _pictures and NAME.fullmatch(name):
        try:
            with Image.open(_file(name), formats=("PNG",)) as image:
                _remember(image.convert("RGBA"))
        except read.UNREADABLE:
            pass
    if name not in _pictures:
        raise SettingsError(f"the picture {end_of(name)} is not kept here", where="last_frame", remedy=REMEDY)
    return _pictures[name]


def forget() -> None:
    """Nothing stays in memory when a job has ended; what was kept is found in its folder."""
    _pictures.clear()


def keep(name: str) -> None:
    """Save a picture beside the clips, so that their infotexts find it later."""
    file = _file(name)
    if file.exists():
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        find(name).save(file)
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


def _remember(image: Image.Image) -> str:
    name = _name(image)
    _pictures[name] = image
    _pictures.move_to_end(name)
    while len(_pictures) > IN_MEMORY:
        _pictures.popitem(last=False)
    return name


def _file(name: str) -> Path:
    outputs = shared.opts.outdir_samples or shared.opts.outdir_img2img_samples
    return Path(outputs) / "AnimateDiff" / "pictures" / f"{name}.png"
