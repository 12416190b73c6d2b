"""The Batch tab of img2img: make one clip whose frames start from the tab's pictures.

The host's loop over the pictures reads them, scales the size, finds masks and infotext settings, and starts a job for
each picture. Here that loop runs with the job disabled, and one job is then started with everything that the loop read.
"""
from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any

from modules import img2img, processing, shared

from animatediff.attribute import attribute, wrapped
from animatediff.errors import AnimateDiffError, SettingsError
from animatediff.hosts.a1111 import jobs
from animatediff.hosts.shared import stop

ONE_CLIP = "one clip"
# Attributes that the loop sets for each picture. A clip has one value, that of the first picture.
ONCE = ("prompt", "negative_prompt", "seed", "cfg_scale", "sampler_name", "steps", "width", "height", "image_mask")


def making_one_clip() -> AbstractContextManager[None]:
    """Return a context manager. Inside it, the tab makes one clip if the request asks for it."""
    return wrapped(img2img, "process_batch", _for_clips)


def _for_clips(plain: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(plain)
    def process_batch(p: Any, *args: Any, **kwargs: Any) -> Any:
        return _one_clip(p, plain, args, kwargs) if _asks(p) else plain(p, *args, **kwargs)

    return process_batch


def _asks(p: Any) -> bool:
    try:
        wanted = jobs.settings_of(p)
    except AnimateDiffError:
        return False  # the host's first job reports the error
    return wanted is not None and wanted.batch_tab == ONE_CLIP


def _one_clip(p: Any, plain: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the host's result, or None if there is no picture."""
    read: list[dict[str, Any]] = []

    def note(p: Any, *_: Any, **__: Any) -> None:
        read.append({name: getattr(p, name, None) for name in (*ONCE, "init_images")})

    with attribute(p.scripts, "run", lambda *_: None), attribute(img2img, "process_images", note):
        plain(p, *args, **kwargs)
    if not read:
        return None
    if any(not _same(one["image_mask"], read[0]["image_mask"]) for one in read):
        raise stop.AnimateDiffStopped(SettingsError(
            "the masks differ from picture to picture, and one clip has one mask", where="Batch tab",
            remedy="Give a folder with one mask, or set Batch tab to: a clip each."))
    for name in ONCE:
        setattr(p, name, read[0][name])
    p.init_images = [one["init_images"][0] for one in read]
    shared.state.job, shared.state.job_count = "", -1
    made = p.scripts.run(p, *p.script_args)
    if made is None:
        p.override_settings.pop("save_images_replace_action", None)
        made = processing.process_images(p)
    return made


def _same(mask: Any, other: Any) -> bool:
    if mask is None or other is None:
        return mask is other
    return mask.size == other.size and mask.tobytes() == other.tobytes()
