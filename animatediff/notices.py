"""What a user may not expect of a clip's settings; none of it stops the run."""
from __future__ import annotations

from typing import Any

from .settings import Settings

LONG_SCALES = {32: 1.15, 64: 1.28}


def of_clip(settings: Settings, name: str, family: Any, sampler: str) -> list[str]:
    """`name` and `family` (motion.Family): of the motion module. `sampler`: under its name in the WebUI."""
    said = []
    frames, context = settings.frame_count(), settings.context_length
    window = min(frames, context)
    if window < family.best_frames:
        said.append(f"{name} was trained on {family.best_frames} frames; with {window} in a window expect noisier "
                    "motion")
    if sampler == "LCM" and not family.betas.lcm_steps:
        said.append(f"the LCM sampler is for distilled models; {name} ({family.name}) is none")
    if settings.closed_loop != "N" and frames > context and settings.context_schedule != "uniform":
        said.append(f"the context schedule {settings.context_schedule} does not close loops; use uniform")
    if settings.closed_loop in ("R-P", "R+P") and frames <= context:
        said.append(f"{frames} frames are one window, which closed loop {settings.closed_loop} cannot close; use A to "
                    "play to and fro, or more frames than the context length")
    if family.name == "LongAnimateDiff" and window >= min(LONG_SCALES) and settings.motion_scale == "1":
        trained = max(frames for frames in LONG_SCALES if frames <= window)
        said.append(f"LongAnimateDiff's authors use a motion scale of {LONG_SCALES[trained]} with {trained} frames in a window")
    if settings.motion_mask and settings.motion_mask_min == settings.motion_mask_max:
        said.append("black and white in the motion mask stand for the same, so it says nothing of where there is motion")
    return said
