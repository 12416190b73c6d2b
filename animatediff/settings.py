"""THE table of parameters.

Command-line flags, help texts, JSON schema, and a WebUI's controls, API and X/Y/Z axes derive from it. A `Settings`
object cannot hold a value outside its range: every way to make one reads each value by its row of the table.
"""
from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any

from animatediff import few_steps, fuse, loras, sampler_table, step_reuse, travel, windows
from animatediff.curves import Curve
from animatediff.errors import SettingsError, quoted
from animatediff.parameters import Parameter
from animatediff.travel.expressions import Levels

CLOSED_LOOPS = windows.CLOSED_LOOPS
CONTEXT_SCHEDULES = tuple(windows.SCHEDULES)
FUSE_METHODS = tuple(fuse.METHODS)
FORMATS = ("GIF", "MP4", "WEBM", "MOV", "MKV", "WEBP", "APNG", "PNG", "TXT", "Frame")
SAMPLERS = tuple(sampler_table.SAMPLERS)
NOISE_KINDS = ("per frame", "per clip", "constant", "repeated context", "FreeNoise")
FREEINIT_FILTERS = ("butterworth", "gaussian", "ideal", "box")
SILENT = "none"  # value of `audio`: the clip has no sound
INTERPOLATIONS = ("off", "auto", "flow", "RIFE", "FILM", "blend")
COLOUR_MATCHES = ("off", "first frame", "source")
VIDEO_CODECS = ("auto", "H.264", "H.265", "AV1", "VP9", "ProRes 422 HQ", "ProRes 4444", "FFV1")
VIDEO_PRESETS = ("auto", "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
BIT_DEPTHS = ("8", "10", "16")
FITS = ("crop", "pad", "stretch")
BATCH_TAB = ("one clip", "a clip each")
SPEEDS = tuple(step_reuse.SHARES)
DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("auto", "fp32", "fp16", "bf16")
GROUPS = ("clip", "image", "host")
SLOWEST = 0.01  # frames per second


def _row(default: Any, label: str, help: str, **more: Any) -> Any:
    """A field of Settings that carries its row of the table."""
    return field(default=default, metadata={"row": dict(default=default, label=label, help=help, **more)})


@dataclass(frozen=True)
class Settings:
    """What a run is asked to do. Every value has been read by its row, however the object was made."""

    enable: bool = _row(
        False, "Enable AnimateDiff", "Make a clip instead of pictures. The command line always makes a clip.")
    motion_module: str = _row(
        "", "Motion module", "File name of the motion module; empty for that of the demo model.",
        aliases=("model",), cli="--motion-module")
    frames: int = _row(
        0, "Number of frames", "Frames in the clip; 0 means as many as the source video has, or the context length "
        "without one.",
        minimum=0, maximum=100_000, aliases=("video_length",), cli="--frames")
    fps: float = _row(
        8.0, "FPS", "Frames per second of playback. Fractions such as 23.976 or 24000/1001 are exact. 0 means the "
        "source video's, or 8 without one.", minimum=0, maximum=1000, cli="--fps")
    loop_number: int = _row(
        0, "Display loop number", "How many times a GIF, WebP or APNG plays; 0 means without end.",
        minimum=0, maximum=65535, cli="--loop-number")
    closed_loop: str = _row(
        "none", "Closed loop", "How the last frame leads to the first. none: not at all. seamless: the motion "
        "continues over the seam. ping-pong: the clip plays forwards and backwards. R-P, R+P and A: the older "
        "extension's windows across the seam; with R-P a travelling prompt does not return to its beginning, with A a "
        "clip of one window plays forwards and backwards.",
        choices=CLOSED_LOOPS, spellings=(("N", "none"),), cli="--closed-loop")
    context_length: int = _row(
        16, "Context length", "Frames that the motion module processes at once. Use the number that it was trained "
        "on, mostly 16 (HotShot-XL: 8).", minimum=1, maximum=1024, aliases=("batch_size",), cli="--context")
    stride: int = _row(
        1, "Stride", "Above 1, windows of frames 2, 4, … up to 2^(stride-1) frames apart are added, which connect "
        "distant frames.", minimum=1, cli="--stride")
    overlap: int = _row(
        -1, "Overlap", "Frames that neighbouring windows share, less than the context length; -1 means a quarter of "
        "it.",
        minimum=-1, cli="--overlap")
    formats: tuple[str, ...] = _row(
        ("GIF", "PNG"), "Save format", "File formats to save. PNG: every frame. TXT: the settings. Frame: the API "
        "also returns the frames.", choices=FORMATS, aliases=("format",), cli="--format", api_only=("Frame",))
    returns: str = _row(
        "clip", "Results shown", "What the gallery and the API's answer contain: the clip's files, the frames, or "
        "both.", choices=("clip", "frames", "both"))
    request_id: str = _row(
        "", "Request id", "A text that becomes part of the file names, so that a client finds its own files.",
        maximum=120, form="file name", cli="--request-id")
    context_schedule: str = _row(
        "uniform", "Context schedule", "The positions of the windows in a clip longer than the context length. "
        "uniform and uniform standard shift them from step to step. views: the UNet gets the whole clip at once, and "
        "only the motion module uses windows. Only uniform and views can close a loop.",
        choices=CONTEXT_SCHEDULES, cli="--context-schedule")
    fuse_method: str = _row(
        "pyramid", "Fuse method", "The weights of overlapping windows.", choices=FUSE_METHODS, cli="--fuse")
    noise: str = _row(
        "per frame", "Noise", "The noise that each frame starts from. per frame: seed, seed+1, … as in the WebUI. "
        "FreeNoise: the first window's noise, shuffled for each following window.", choices=NOISE_KINDS, cli="--noise")

    travel_interpolation: str = _row(
        "auto", "Prompt interpolation", "The interpolation between two key frames of a travelling prompt. auto: "
        "linear for FizzNodes' syntax, slerp for others. hold: none, the prompt cuts at the key frame.",
        choices=travel.INTERPOLATIONS, cli="--travel-interpolation")
    travel_hold: float = _row(
        0.0, "Prompt hold", "The share of the way to the next key frame during which a prompt stays unchanged. With 1 "
        "it cuts.", minimum=0, maximum=1, cli="--travel-hold")
    travel_easing: str = _row(
        "linear", "Prompt easing", "The easing between two key frames; a key frame can name its own.",
        choices=tuple(travel.EASINGS), cli="--travel-easing")
    prompt_weights: str = _row(
        "", "Prompt weights", "The values of pw_a, pw_b, pw_c and pw_d in FizzNodes' expressions, such as pw_a = 0.5; "
        "pw_b = t/max_f.", form="prose", cli="--prompt-weights")

    seam_repair: float = _row(
        0.0, "Seam repair", "How strongly the frames around the seam are denoised again when the clip is finished, so "
        "that the last frame leads to the first; 0 means not at all, 0.5 for half of the steps.",
        minimum=0, maximum=1, cli="--seam-repair")

    freeinit_iterations: int = _row(
        1, "FreeInit iterations", "How many times the clip is sampled. Repetitions start from noise that keeps the "
        "coarse shape of the previous clip. 1 is without FreeInit, 3 is usual.",
        minimum=1, maximum=20, cli="--freeinit")
    freeinit_filter: str = _row(
        "butterworth", "FreeInit filter", "The low-pass filter for what is kept of the previous clip. gaussian is "
        "softer and leaves more motion.", choices=FREEINIT_FILTERS, cli="--freeinit-filter")
    freeinit_d_s: float = _row(
        0.25, "FreeInit spatial stop frequency", "The filter's stop frequency within a frame, as a share of the "
        "highest frequency; 0 keeps nothing.", minimum=0, maximum=1, aliases=("freeinit_ds",), cli="--freeinit-d-s")
    freeinit_d_t: float = _row(
        0.25, "FreeInit temporal stop frequency", "The filter's stop frequency over the frames, as a share of the "
        "highest frequency; 0 keeps nothing.", minimum=0, maximum=1, aliases=("freeinit_dt",), cli="--freeinit-d-t")
    freeinit_order: int = _row(
        4, "FreeInit order", "How sharp the filter butterworth is.", minimum=1, maximum=20, cli="--freeinit-order")
    freeinit_fast: bool = _row(
        False, "FreeInit fast sampling", "Use fewer steps in all iterations but the last: faster and coarser.",
        cli="--freeinit-fast")

    motion_lora: str = _row(
        "", "Motion LoRA", "Motion LoRAs with their weights, such as zoom-in: 0.8; pan-left: 0: 1, 8: 0. A weight is "
        "one number, a list with a number for each frame, or key frames. You can also name them in the prompt, like "
        "other LoRAs.",
        form="prose", cli="--motion-lora")

    last_frame: str = _row(
        "", "Last frame", "The picture that the clip ends with, in addition to the start picture. For img2img.",
        form="picture", cli="--last-frame")
    frame_lock: str = _row(
        "0", "Frame lock", "How long a frame is held to the start picture, by its distance from the first frame. 1: "
        "until the end of sampling, so the frame becomes that picture. 0.5: for half of the steps. 0: not at all. 0: "
        "1, 8: 0 starts with the picture and leaves it over 8 frames. A last frame is approached in the same way. For "
        "img2img.",
        minimum=0, maximum=1, form="curve", cli="--frame-lock")
    latent_power: float = _row(
        1.0, "Latent power", "Frame i of a clip from one picture starts from the share 1 - i^power/scale of the "
        "picture and from noise for the rest. For img2img.", minimum=0.1, maximum=10, cli="--latent-power")
    latent_scale: float = _row(
        32.0, "Latent scale", "The scale in this formula: the larger it is, the more frames start from the picture; "
        "with 0, all frames start from the whole picture. For img2img.", minimum=0, cli="--latent-scale")
    latent_power_last: float = _row(
        1.0, "Latent power of the last frame", "The same as latent power, counted back from the last frame.",
        minimum=0.1, maximum=10, cli="--latent-power-last")
    latent_scale_last: float = _row(
        32.0, "Latent scale of the last frame", "The same as latent scale, counted back from the last frame.",
        minimum=0, cli="--latent-scale-last")

    motion_scale: str = _row(
        "1", "Motion scale", "The strength of motion: below 1 there is less motion, above 1 more. One number, a list "
        "with a number for each frame, or key frames.", minimum=0, maximum=10, form="curve", cli="--motion-scale")
    motion_scale_steps: str = _row(
        "1", "Motion scale over the steps", "A number for each sampling step that the motion scale is multiplied by: "
        "one number, a list, or key steps such as 0%: 1.3, 50%: 1.", minimum=0, maximum=10, form="curve",
        cli="--motion-scale-steps")
    motion_effect: str = _row(
        "1", "Motion effect", "The strength of the motion module's output. With 0, every frame is an independent "
        "picture. One number, a list with a number for each frame, or key frames.",
        minimum=0, maximum=2, form="curve", cli="--motion-effect")
    motion_mask: str = _row(
        "", "Motion mask", "A picture that says where there is motion: white for full motion, black for the least. An "
        "animated picture or a video has a mask for each frame.", form="mask", cli="--motion-mask")
    motion_mask_min: float = _row(
        0.0, "Motion scale in black", "In black parts of the motion mask, the motion scale is multiplied by this "
        "number; 0.4 keeps most things still.", minimum=0, maximum=10, cli="--motion-mask-min")
    motion_mask_max: float = _row(
        1.0, "Motion scale in white", "In white parts of the motion mask, the motion scale is multiplied by this "
        "number.",
        minimum=0, maximum=10, cli="--motion-mask-max")

    speed: str = _row(
        "exact", "Speed", "How much of the UNet runs in each step. exact: all of it. balanced: nearly half of the "
        "steps reuse most of an earlier step's work, which is hardly visible. draft: three in five steps do.",
        choices=SPEEDS, cli="--speed")
    batch_tab: str = _row(
        "one clip", "Batch tab", "What the Batch tab of img2img makes. one clip: one clip, each frame of which starts "
        "from one of the pictures. a clip each: a clip from each picture.", choices=BATCH_TAB)
    preset: str = _row(
        few_steps.PRESETS[0], "Preset", "few steps: chooses sampler, schedule type, CFG scale and steps for the "
        "clip's distilled model (AnimateDiff-Lightning, AnimateLCM; an LCM, Hyper or Lightning LoRA), except those "
        "that you give.",
        choices=few_steps.PRESETS, cli="--preset")
    interp: str = _row(
        "off", "Frame interpolation", "How frames between the clip's own are made; the clip plays as long as before, "
        "at more frames per second. flow: by optical flow. RIFE, FILM: by a network, from its file. auto: RIFE if its "
        "file is there, else flow; so is FILM without its file. blend: a mix of both frames.",
        choices=INTERPOLATIONS, spellings=(("optical flow", "flow"), ("none", "off")), cli="--interp")
    interp_x: int = _row(
        2, "Interpolation factor", "How many times as many frames interpolation makes; 1 for none.",
        minimum=1, maximum=64, cli="--interp-x")
    interp_model: str = _row(
        "", "Interpolation model", "File of the network: RIFE's flownet.pkl of version 4.0 to 4.26, or FILM's "
        "film_net_fp32.pt; empty for the one in a folder of motion modules.", cli="--interp-model")
    audio: str = _row(
        "", "Sound", "A sound file, or a video with sound, that is heard with the clip and cut to its length. MP4, "
        "WebM, MOV and MKV files can contain sound. Curves can follow it, such as motion scale 0.5 + audio(bass). "
        "Empty: the source video's sound. none: no sound.",
        form="sound", cli="--audio")
    audio_start: float = _row(
        0.0, "Sound start", "Seconds of the sound that are left out at its beginning.", minimum=0, maximum=86400,
        cli="--audio-start")
    audio_loop: bool = _row(
        False, "Repeat sound", "Repeat the sound where the clip is longer.", cli="--audio-loop")

    video_codec: str = _row(
        "auto", "Video codec", "The codec of video files. auto: H.264 in MP4, VP9 in WebM, ProRes 422 HQ in MOV, FFV1, "
        "which is lossless, in MKV.", choices=VIDEO_CODECS, cli="--video-codec",
        spellings=(("x264", "H.264"), ("h264", "H.264"), ("AVC", "H.264"), ("x265", "H.265"), ("h265", "H.265"),
                   ("HEVC", "H.265"), ("ProRes", "ProRes 422 HQ"), ("ProRes 422", "ProRes 422 HQ")))
    video_crf: int = _row(
        -1, "Video CRF", "The quality of H.264 and H.265 (0 to 51), AV1 and VP9 (0 to 63): a lower number is better "
        "and makes larger files. -1 is the codec's default: 18, 20, 25 and 24.",
        minimum=-1, maximum=63, cli="--video-crf")
    video_preset: str = _row(
        "auto", "Video preset", "The speed of the encoder of H.264, H.265, AV1 and VP9. Slower presets make smaller "
        "files. auto: medium.", choices=VIDEO_PRESETS, cli="--video-preset")
    bit_depth: str = _row(
        "8", "Bit depth", "The bits of each colour channel, in formats that have so many. 10: H.264, H.265 and AV1 "
        "have 10. 16: PNG, APNG and FFV1 have 16. ProRes always has 10.",
        choices=BIT_DEPTHS, cli="--bit-depth")
    video_repeat: bool = _row(
        False, "Write repetitions", "Video files contain the clip as many times as the display loop number says, since "
        "they cannot store this number.", cli="--video-repeat")

    video_source: str = _row(
        "", "Source video", "The video or animated picture whose frames the clip starts from, each of its frames from "
        "one of them.", form="video")
    video_path: str = _row(
        "", "Path of the source video", "The same by its path: a video, an animated picture, or a folder with a "
        "picture for each frame. It has priority over an uploaded video.", form="path", cli="--video")
    mask_path: str = _row(
        "", "Path of the source's mask", "A picture, or a video or folder with a picture for each frame: the source "
        "changes where it is white, stays where it is black, and changes less where it is grey.",
        form="mask", cli="--mask")
    video_start: float = _row(
        0.0, "Start of the source", "The time in the source video, in seconds, at which its frames are taken from.",
        minimum=0, maximum=86400, cli="--video-start")
    video_end: float = _row(
        0.0, "End of the source", "The time in the source video, in seconds, up to which its frames are taken; 0 means "
        "its end.", minimum=0, maximum=86400, cli="--video-end")
    video_fps: float = _row(
        0.0, "Source frames per second", "How many frames of each second of the source video are taken, at equal "
        "distances in time; 0 takes each frame.", minimum=0, maximum=1000, cli="--video-fps")
    video_every: int = _row(
        1, "Every n-th source frame", "2 takes every second of these frames, 3 every third, and so on.",
        minimum=1, maximum=100_000, cli="--video-every")
    video_max_frames: int = _row(
        0, "Most source frames", "Takes the first so many of these frames; 0 means all of them.",
        minimum=0, maximum=100_000, cli="--video-max-frames")
    fit: str = _row(
        FITS[0], "Fit", "How the source video and its mask, and on the command line start picture and last frame, are "
        "brought to the clip's size: crop cuts what is too long, pad adds black, stretch distorts.", choices=FITS,
        spellings=(("Crop and resize", "crop"), ("Just resize", "stretch"), ("Resize and fill", "pad")),
        aliases=("resize_mode",), cli="--fit")
    denoising_strength_frames: str = _row(
        "1", "Denoising strength over the frames", "A number for each frame that the denoising strength is multiplied "
        "by; with 0 a frame stays as its picture is. One number, a list with a number for each frame, or key frames.",
        minimum=0, maximum=1, form="curve", cli="--denoising-strength-frames")
    color_match: str = _row(
        "off", "Colour match", "Correct colours that drift while the clip goes on. first frame: what changes in the "
        "whole picture is undone, so all frames keep the colours of the first one. source: each frame gets the colours "
        "of the picture that it starts from.",
        choices=COLOUR_MATCHES, aliases=("colour_match",), cli="--color-match")
    score: bool = _row(
        False, "Score", "Measure the clip's flicker and colour drift and write the figures into its files.",
        cli="--score")
    windows_per_call: int = _row(
        0, "Windows per call", "How many context windows are in one UNet call; 0 means as many as fit into the GPU's "
        "memory, up to 2, and one on a CPU. The clip is the same.", minimum=0, maximum=64,
        cli="--windows-per-call", group="host")

    prompt: str = _row("", "Prompt", "What the clip shows.", group="image", form="prose")
    negative: str = _row(
        "", "Negative prompt", "What the clip should not show.",
        aliases=("negative_prompt",), cli="--negative", group="image", form="prose")
    seed: int = _row(
        -1, "Seed", "The same seed gives the same clip; -1 chooses a new seed every time.",
        minimum=-1, maximum=2**32 - 1, cli="--seed", group="image")
    steps: int = _row(
        20, "Sampling steps", "The number of sampling steps.", minimum=1, maximum=1000, cli="--steps", group="image")
    cfg: float = _row(
        5.0, "CFG scale", "How strictly the clip follows the prompt; 1 ignores the negative prompt and takes half the "
        "time.",
        minimum=0, maximum=100, aliases=("cfg_scale",), cli="--cfg", group="image")
    sampler: str = _row(
        "DDIM", "Sampling method", "The sampler, by its name in the WebUI.",
        choices=SAMPLERS, spellings=sampler_table.OLDER_SAMPLERS, aliases=("sampler_name",), cli="--sampler",
        group="image")
    schedule_type: str = _row(
        sampler_table.AUTOMATIC, "Schedule type",
        "The timesteps of the sampler, by their name in the WebUI. Automatic is Karras for DPM++ 2M and DPM++ SDE, "
        "Exponential for DPM++ 2M SDE, Uniform for Euler, Euler a and Heun. DDIM, UniPC and LCM have their own "
        "timesteps.",
        choices=sampler_table.SCHEDULE_TYPES, aliases=("scheduler",), cli="--schedule-type", group="image")
    size: str = _row(
        "", "Size", "Width and height of the clip in pixels. Empty means the size of the start picture, rounded to a "
        "multiple of 8, or the size that the image model was made for (SD1.5: 512x512, the demo model: 64x64).",
        minimum=16, maximum=8192, form="size", multiple_of=8, cli="--size", group="image")

    init: str = _row(
        "", "Start picture", "The picture that the clip starts from. A video, an animated picture or a folder is the "
        "same as a source video.", form="picture", cli="--init", group="image")
    denoising_strength: float = _row(
        0.75, "Denoising strength", "How far the clip may differ from its start picture: 0 hardly, 1 completely. As "
        "in the WebUI, only about this share of the steps runs.",
        minimum=0, maximum=1, cli="--denoising-strength", group="image")

    checkpoint: str = _row(
        "", "Checkpoint", "The image model: a .safetensors or .ckpt file or a diffusers folder; empty for the demo "
        "model.", cli="--checkpoint", group="host")
    device: str = _row(
        "auto", "Device", "Where the models run; auto uses a GPU if there is one; cuda:1 is the second GPU.",
        choices=DEVICES, form="device", spellings=(("gpu", "cuda"),), cli="--device", group="host")
    dtype: str = _row(
        "auto", "Precision", "The precision of the models; auto is fp16 with CUDA and fp32 elsewhere.",
        choices=DTYPES, spellings=(("float32", "fp32"), ("float16", "fp16"), ("half", "fp16"), ("bfloat16", "bf16")),
        cli="--dtype", group="host")

    # What `audio(…)` in a curve or prompt is in each frame, where the clip has a sound and it has been read.
    levels: Levels | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for parameter in PARAMETERS:
            object.__setattr__(self, parameter.name, parameter.read(getattr(self, parameter.name)))
        _check_together(self)
        if not self.fps and not (self.init or self.video):
            object.__setattr__(self, "fps", self.played_fps())

    @property
    def overlap_frames(self) -> int:
        """The overlap in frames, -1 resolved."""
        return windows.resolved_overlap(self.overlap, self.context_length)

    @property
    def is_silent(self) -> bool:
        """Whether the clip is to have no sound, also not the source video's."""
        return self.audio.strip().lower() == SILENT

    @property
    def sound_file(self) -> str:
        """The path of the sound file, "" without one."""
        return "" if self.is_silent else self.audio

    @property
    def asks_for_a_loop(self) -> bool:
        """Whether the last frame is to lead to the first."""
        return self.closed_loop != "none" or self.seam_repair > 0

    @property
    def width(self) -> int:
        """In pixels; 0 where the size is left to the image model."""
        return int((self.size or "0x0").split("x")[0])

    @property
    def height(self) -> int:
        """In pixels; 0 where the size is left to the image model."""
        return int((self.size or "0x0").split("x")[1])

    def curve(self, name: str, frames: int) -> list[float]:
        """The values of a curve over the frames, within the parameter's range. SettingsError for an expression that
        cannot be computed."""
        row, curve = BY_NAME[name], Curve.read(getattr(self, name))
        try:
            values = curve.values(frames, self.levels)
        except SettingsError as error:
            raise SettingsError(error.what, where=name, remedy=error.remedy) from None
        low, high = row.minimum or 0.0, row.maximum or math.inf
        return [min(max(value, low), high) for value in values] if curve.expressions else values

    def frame_count(self, source: int | None = None) -> int:
        """How many frames the clip has; `source` is the number of frames of a source video, if there is one."""
        return self.frames or source or self.context_length

    def played_fps(self, source: float | None = None) -> float:
        """Frames per second of playback; `source`: the source video's."""
        return self.fps or source or BY_NAME["fps"].default

    @property
    def video(self) -> str:
        """The source video's path; "" for none. A start picture may be one, too."""
        return self.video_path or self.video_source

    def iterations(self, steps: int) -> list[int]:
        """The sampler steps of each of FreeInit's iterations; one without it. FreeInit's "coarse to fine" is
        steps·(i+1)/N."""
        n = self.freeinit_iterations
        return [max(1, steps * (i + 1) // n) if self.freeinit_fast else steps for i in range(n)]

    def schedules(self, prompt: str, negative: str, frames: int,
                  most: int = 0) -> tuple[travel.Schedule, travel.Schedule]:
        """What a prompt and a negative prompt say of each of the clip's frames; SettingsError as `travel.both`. most:
        as in travel.Options."""
        return travel.both(prompt, negative, frames, replace(self.travel_options(frames), most=most))

    def travel_options(self, frames: int) -> travel.Options:
        """How a prompt that travels gets from one key frame to the next."""
        to_and_fro = windows.to_and_fro(frames, self.context_length, self.closed_loop)
        return travel.Options(
            closed=windows.closes_prompt(self.closed_loop) and not to_and_fro, easing=self.travel_easing,
            interpolation=self.travel_interpolation, hold=self.travel_hold,
            weights=travel.weights(self.prompt_weights), levels=self.levels)

    def converted(self, texts: Mapping[str, str], to: str) -> tuple[dict[str, str], list[str]]:
        """Prompts, by what they are called, in another syntax of prompt travel, and what is not the same in it."""
        frames = self.frame_count()
        options = self.travel_options(frames)
        found = {where: travel.convert(text, to, frames, where, options) for where, text in texts.items()}
        notes = [f"{where}: {note}" for where, text in found.items()
                 for note in travel.changes(texts[where], text, frames, options)]
        return found, notes

    def to_dict(self, groups: tuple[str, ...] = GROUPS) -> dict[str, Any]:
        """Plain values that JSON keeps; `parse` makes equal settings of them."""
        values = {p.name: getattr(self, p.name) for p in PARAMETERS if p.group in groups}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


_TYPES = {"bool": bool, "int": int, "float": float, "str": str, "tuple[str, ...]": tuple}
PARAMETERS: tuple[Parameter, ...] = tuple(
    Parameter(name=f.name, type=_TYPES[str(f.type)], **f.metadata["row"])
    for f in fields(Settings) if "row" in f.metadata
)
BY_NAME: dict[str, Parameter] = {name: p for p in PARAMETERS for name in (p.name, *p.aliases)}


def parse(mapping: Mapping[str, Any], base: Settings | None = None) -> Settings:
    """Settings from names (ours or the aliases) and values; what is not named is as the preset says that is, as in
    `base`, or the default.

    SettingsError names the key as the caller wrote it, the value, the range and the remedy.
    """
    if not isinstance(mapping, Mapping):
        raise SettingsError(f"settings are names with values, not {type(mapping).__name__}",
                            remedy='Send an object such as {"frames": 16}.')
    values: dict[str, Any] = {}
    came_as: dict[str, str] = {}
    for key, value in mapping.items():
        parameter = BY_NAME.get(key) if isinstance(key, str) else None
        if parameter is None:
            raise _unknown(key, value)
        value = parameter.read(value, key)
        if parameter.name in values and values[parameter.name] != value:
            other = f"{came_as[parameter.name]} = {quoted(values[parameter.name])}"
            raise SettingsError(f"{quoted(value)} contradicts {other}, which means the same parameter", where=key,
                                remedy=f"Give {parameter.name} only.")
        values[parameter.name], came_as[parameter.name] = value, key
    merged = {**(base.to_dict() if base else {}), **values}
    if values.get("preset") == few_steps.FEW_STEPS:
        names = (str(merged.get(name, "")) for name in ("motion_module", "prompt", "checkpoint"))
        merged |= {name: value for name, value in few_steps.preset(*names).items() if name not in values}
    if "fps" not in merged and any(merged.get(name) for name in ("init", "video_source", "video_path")):
        merged["fps"] = 0
    return Settings(**merged)


def json_schema(groups: tuple[str, ...] = GROUPS) -> dict[str, Any]:
    """The table as a JSON schema (draft 2020-12). Aliases are properties that refer to the parameter they mean."""
    chosen = [p for p in PARAMETERS if p.group in groups]
    properties = {p.name: p.json_schema() for p in chosen}
    properties |= {alias: {"$ref": f"#/properties/{p.name}"} for p in chosen for alias in p.aliases}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "AnimateDiff settings",
            "type": "object", "properties": properties, "additionalProperties": False}


def add_cli_arguments(parser: argparse.ArgumentParser, groups: tuple[str, ...] = GROUPS,
                      names: tuple[str, ...] = (), *, otherwise: str = "") -> None:
    """A flag for each parameter that has one, or for `names` only. otherwise: what holds where a flag is not given, if
    it is not the default. Only flags that were given appear in the namespace.

    Values stay text there; `from_namespace` reads them by the table, which says more of a bad value than argparse.
    Lists are given with commas or by repeating the flag.
    """
    titles = {"clip": "clip", "image": "picture", "host": "model and machine"}
    for group in groups:
        section = parser.add_argument_group(titles[group])
        for p in (row.for_people() for row in PARAMETERS if row.group == group and row.cli):
            if names and p.name not in names:
                continue
            default = ",".join(p.default) if p.type is tuple else p.default
            shown = f"{p.help} ({p.range}; default: {otherwise or (default if default != '' else 'empty')})"
            text = {"size": "WxH", "prose": "TEXT", **dict.fromkeys(("picture", "mask", "path", "sound"), "PATH")}.get(
                p.form, "NAME")
            metavar = {int: "N", float: "X", tuple: "LIST", bool: "BOOL"}.get(p.type, text)
            section.add_argument(p.cli, dest=p.name, default=argparse.SUPPRESS, metavar=metavar,
                                 action="append" if p.type is tuple else "store", help=shown.replace("%", "%%"))


def from_namespace(namespace: argparse.Namespace) -> dict[str, Any]:
    """What the command line named, ready for `parse`. SettingsError names the flag."""
    given = {p: getattr(namespace, p.name, None) for p in PARAMETERS}
    return {p.name: p.for_people().read(value, p.cli) for p, value in given.items() if value is not None}


def _check_together(settings: Settings) -> None:
    """Ranges that depend on another parameter."""
    if settings.overlap >= settings.context_length:
        raise SettingsError(
            f"{settings.overlap} is not less than the context length, {settings.context_length}", where="overlap",
            remedy=f"Use -1 to {settings.context_length - 1}, or a longer context_length; -1 is a quarter of it.")
    if Curve.read(settings.motion_scale_steps).follows:
        raise SettingsError("a sound has no value at a sampling step", where="motion_scale_steps",
                            remedy="Use the sound in motion_scale.")
    for name in ("fps", "video_fps"):
        if 0 < getattr(settings, name) < SLOWEST:
            raise SettingsError(f"{getattr(settings, name):g} is out of range", where=name,
                                remedy=f"Use 0, or a number from {SLOWEST} to 1000.")
    if 0 < settings.video_end <= settings.video_start:
        raise SettingsError(f"{settings.video_end:g} s is not after video_start, {settings.video_start:g} s",
                            where="video_end", remedy="Use a later time, or 0 for the source's end.")
    travel.weights(settings.prompt_weights)
    loras.read(settings.motion_lora)


def _unknown(key: Any, value: Any) -> SettingsError:
    flags = {p.cli.strip("-").replace("-", "_"): p.name for p in PARAMETERS if p.cli}
    names = flags | {name: name for name in BY_NAME}
    written = key[:60].lower().strip("- ").replace("-", "_") if isinstance(key, str) else ""
    close = get_close_matches(written, names, 1, 0.6)
    remedy = f"Did you mean {names[close[0]]}? " if close else ""
    shown = key if isinstance(key, str) and len(key) <= 60 else quoted(key)
    return SettingsError(f"unknown parameter, with the value {quoted(value)}", where=shown,
                         remedy=f"{remedy}Known are {', '.join(p.name for p in PARAMETERS)}.")
