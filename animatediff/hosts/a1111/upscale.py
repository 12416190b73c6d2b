"""The gallery's button that runs the Hires. pass on one picture, for clips.

The host would upscale only the clip's first frame, and would try to open the clip's file as a picture. Here the pass
runs on the whole clip: frames are read from its files, settings from its infotext, and the host's own code prepares
each frame for the pass.
"""
from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from modules import infotext_utils, processing, scripts, shared, txt2img, ui_tempdir
from modules.ui import plaintext_to_html
from PIL import Image

from animatediff import settings as table
from animatediff.attribute import attribute, wrapped
from animatediff.errors import AnimateDiffError, MediaError
from animatediff.hosts.a1111 import axes, page_errors, request, words
from animatediff.hosts.shared import infotext
from animatediff.media import read
from animatediff.motion.library import inside
from animatediff.settings import Settings

CLIP = "animatediff_upscale"  # attribute of `p`
REMEDY = ("Select a clip whose file or PNG frames are still in the folder AnimateDiff, or tick Hires. fix "
          "and generate the clip again with its seed.")


@dataclass(frozen=True)
class FirstPass:
    """A finished clip, used as the first pass of Hires. fix."""

    settings: Settings
    frames: Sequence[Image.Image]


def upscaling_clips() -> AbstractContextManager[None]:
    """Return a context manager. Inside it, the page's button also works for clips."""
    return wrapped(txt2img, page_errors.function(txt2img, "txt2img_upscale"), _for_clips)


def of(p: Any) -> FirstPass | None:
    """Return the clip that this job upscales, or None."""
    return vars(p).get(CLIP)


def settings_of(p: Any, args: Sequence[Any]) -> Settings | None:
    """Return the Settings of a request: those of the clip that it upscales, or those in its arguments.

    Return None for the Hires. pass of a single picture.
    """
    if clip := of(p):
        return clip.settings
    wanted = request.read(args, getattr(p, axes.ATTRIBUTE, None))
    if wanted is not None and getattr(p, "firstpass_image", None) is not None:
        p.comment("AnimateDiff: the Hires. pass of one picture is made without motion")
        return None
    return wanted


@contextmanager
def in_place_of_the_first_pass(p: Any, clip: FirstPass) -> Iterator[None]:
    """Replace `p.sample`: the host prepares each frame like a single picture, then runs the second pass on all of them.
    """
    plain, second_pass = p.sample, p.sample_hr_pass

    def sample(conditioning: Any, unconditional_conditioning: Any, seeds: Any, subseeds: Any, subseed_strength: Any,
               prompts: Any) -> Any:
        of_pass = (seeds, subseeds, subseed_strength, prompts)
        prepared: list[tuple[Any, Any]] = []  # (latents, decoded); one of the two is None
        with attribute(p, "sample_hr_pass", lambda latents, decoded, *_: prepared.append((latents, decoded))):
            for p.firstpass_image in clip.frames:
                plain(conditioning, unconditional_conditioning, *of_pass)
        latents, decoded = (None if parts[0] is None else torch.cat(parts) for parts in zip(*prepared))
        return second_pass(latents, decoded, *of_pass)

    with attribute(p, "sample", sample):
        yield


def _for_clips(plain: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(plain)
    def txt2img_upscale(id_task: str, request: Any, gallery: Any, gallery_index: int, generation_info: str,
                        *args: Any) -> Any:
        try:
            clip = _clip(gallery, gallery_index, json.loads(generation_info))
            if clip is None:
                return plain(id_task, request, gallery, gallery_index, generation_info, *args)
            return _second_pass(clip, id_task, request, gallery, gallery_index, json.loads(generation_info), args)
        except AnimateDiffError as error:
            print(f"AnimateDiff: {error}")
            return [as_shown(item) for item in gallery], generation_info, page_errors.markup(words.error(error)), ""

    return txt2img_upscale


def _second_pass(clip: FirstPass, id_task: str, request: Any, gallery: Any, index: int, about: dict[str, Any],
                 args: tuple[Any, ...]) -> tuple[list[Any], str, str, str]:
    """Return the gallery with the clip at `index` replaced by its Hires. pass, and the texts under it."""
    p = txt2img.txt2img_create_processing(id_task, request, *args, force_enable_hr=True)
    written = infotext_utils.parse_generation_parameters(about["infotexts"][index], [])
    p.n_iter, p.txt2img_upscale, p.do_not_save_grid = 1, True, True
    p.seed, p.subseed = written.get("Seed", -1), written.get("Variation seed", -1)
    p.override_settings["save_images_before_highres_fix"] = False
    setattr(p, CLIP, clip)
    try:
        made = scripts.scripts_txt2img.run(p, *p.script_args) or processing.process_images(p)
    finally:
        p.close()
    shared.total_tqdm.clear()
    kept = [as_shown(item) for item in gallery]
    about["infotexts"][index:index + 1] = made.infotexts
    return ([*kept[:index], *made.images, *kept[index + 1:]], json.dumps(about), plaintext_to_html(made.info),
            plaintext_to_html(made.comments, classname="comments"))


def as_shown(item: Any) -> Any:
    """Return an item of the gallery for the host's answer.

    The host then lets the page read the item's path, so it must be a path that the page may already read.
    """
    picture: Any = Image.new("RGB", (1, 1))
    path = path_of(item)
    if is_shown(path):
        picture.already_saved_as = path
    return picture


def is_shown(path: str) -> bool:
    """Whether the WebUI has shown the file of this path in a gallery."""
    cache = getattr(shared.demo, "GRADIO_CACHE", None)  # gradio 4 shows copies in this folder
    return any(ui_tempdir.check_tmp_file(shared.demo, name) for name in (path, os.path.abspath(path))) or \
        (bool(cache) and inside(Path(os.path.realpath(path)), Path(os.path.realpath(cache))))


def path_of(item: Any) -> str:
    """Return the file of a gallery item: a path, or gradio 3's dict, alone or with a caption."""
    item = item[0] if isinstance(item, (list, tuple)) else item
    name = item["name"] if isinstance(item, dict) else getattr(item, "filename", item)  # gradio 4 opens the file
    return str(name).rsplit("?", 1)[0]


def _clip(gallery: Any, index: int, about: dict[str, Any]) -> FirstPass | None:
    """Return the clip at this index of the gallery, or None for a picture. MediaError if its frames cannot be read."""
    texts = about.get("infotexts") or []
    text = texts[index] if 0 <= index < len(texts) else ""
    written = infotext_utils.parse_generation_parameters(text, []).get(infotext.KEY) if text else None
    if not isinstance(written, str):
        return None
    wanted = table.parse(infotext.loads(written))
    path = Path(path_of(gallery[index]))
    if not is_shown(str(path)):
        raise MediaError("the clip's file is not in a folder of the WebUI", where=path.name, remedy=REMEDY)
    frames = _frames(path, wanted.frame_count())
    if len(frames) < wanted.frame_count():
        raise MediaError(f"the clip has {wanted.frame_count()} frames, but {len(frames)} can be read", where=path.name,
                         remedy=REMEDY)
    return FirstPass(wanted, frames)


def _frames(path: Path, count: int) -> list[Image.Image]:
    """Return the clip's frames: from its lossless PNG files, or else from the file that plays."""
    folder = path.parent if path.suffix == ".png" and path.stem.isdigit() else path.with_suffix("")
    stills = sorted(folder.glob("[0-9]*.png"))
    try:
        if len(stills) >= count:
            return [next(read.pictures(file)) for file in stills[:count]]
        return list(islice(read.pictures(path), count))
    except AnimateDiffError as error:
        raise MediaError(error.what, where=path.name, remedy=REMEDY) from error
