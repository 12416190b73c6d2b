"""Notices: notes for the user on settings that have no effect or an unexpected one. None of them stops the run."""
from __future__ import annotations

from typing import Any

from animatediff import few_steps, step_reuse, windows
from animatediff.curves import Curve
from animatediff.settings import BY_NAME, Settings


def of_pictures(settings: Settings, *, from_picture: bool) -> list[str]:
    """Return notices on pictures. from_picture: whether the clip starts from one or more pictures."""
    if not from_picture:
        idle = [BY_NAME[name].label for name in ("frame_lock", "denoising_strength_frames")
                if getattr(settings, name) != BY_NAME[name].default]
        said = [f"{label}: without effect, since the clip does not start from a picture" for label in idle]
        return said + of_source(settings, from_video=bool(settings.video))
    if Curve.read(settings.frame_lock).constant == 1:
        return ["the frame lock is 1 everywhere, so nothing moves; use 0: 1, 8: 0 to release the frames over 8 frames"]
    return []


def of_source(settings: Settings, *, from_video: bool) -> list[str]:
    """Return a notice for each parameter of a source video that is given without one."""
    names = [] if from_video else ["video_start", "video_end", "video_fps", "video_every", "video_max_frames"]
    return [f"{BY_NAME[name].label}: without effect, since there is no source video" for name in names
            if getattr(settings, name) != BY_NAME[name].default]


def of_speed(settings: Settings, steps: int) -> list[str]:
    """Return notices on the speed preset. steps: number of steps that are done."""
    if settings.speed == "exact":
        return []
    whole = len(step_reuse.whole_steps(settings.speed, steps))
    if whole == steps:
        return [f"speed {settings.speed}: without effect, since up to {step_reuse.LEAST} steps are always computed "
                "completely"]
    return [f"speed {settings.speed}: the whole UNet runs in {whole} of {steps} steps"]


MANY = 64  # frames in a UNet call above which "views" gets a notice
LONG_SCALES = {32: 1.15, 64: 1.28}  # frames in a window -> motion scale that LongAnimateDiff's authors use


def of_few_steps(found: tuple[str, few_steps.Distilled] | None, run: few_steps.Run, preset: str) -> list[str]:
    """Return notices on distilled models. found: file name and kind of the clip's distilled model, or None."""
    if found is None and preset == few_steps.FEW_STEPS:
        return [f"the preset {preset} is for distilled models, but none was found for this clip; they are "
                "recognised by their names, such as animatediff_lightning_4step or lcm-lora-sdv1-5"]
    return few_steps.notices(*found, run) if found else []


def of_clip(settings: Settings, name: str, family: Any, sampler: str, *, distilled: bool = False) -> list[str]:
    """Return notices on a clip in motion.

    name: file name of the motion module.
    family: its motion.Family.
    sampler: name of the sampler in the WebUI.
    distilled: whether one of the clip's models is distilled.
    """
    said = []
    frames, context = settings.frame_count(), settings.context_length
    window = min(frames, context)
    if window < family.best_frames:
        said.append(f"{name} was trained on {family.best_frames} frames; with {window} in a window, expect noisier "
                    "motion")
    if sampler == "LCM" and not distilled and not family.betas.lcm_steps:
        said.append(f"the LCM sampler is for distilled models; {name} ({family.name}) is not one")
    loop, back = settings.closed_loop, windows.to_and_fro(frames, context, settings.closed_loop)
    if loop in ("R-P", "R+P") and frames <= context:
        said.append(f"{frames} frames are one window, which closed loop {loop} cannot close; use seamless, which can")
    elif loop != "none" and not back and settings.context_schedule not in windows.CLOSING:
        said.append(f"the context schedule {settings.context_schedule} does not close loops; use uniform or views")
    if settings.context_schedule == "views" and frames > max(context, MANY):
        said.append(f"views has all {frames} frames in one UNet call, which needs memory for all of them "
                    "at once; other context schedules take it for one window")
    if settings.seam_repair and back:
        said.append("a clip that plays forwards and backwards has no seam to repair")
    if settings.freeinit_iterations > 1 and not (settings.freeinit_d_s and settings.freeinit_d_t):
        said.append("with a stop frequency of 0, FreeInit keeps nothing from one iteration to the next")
    if settings.noise == "FreeNoise" and frames <= context:
        said.append(f"{frames} frames are one window, so FreeNoise has nothing to shuffle")
    if family.name == "LongAnimateDiff" and window >= min(LONG_SCALES) and settings.motion_scale == "1":
        trained = max(frames for frames in LONG_SCALES if frames <= window)
        said.append(f"LongAnimateDiff's authors use a motion scale of {LONG_SCALES[trained]} "
                    f"with {trained} frames in a window")
    if settings.motion_mask and settings.motion_mask_min == settings.motion_mask_max:
        said.append("black and white in the motion mask mean the same, "
                    "so the mask has no effect")
    return said
