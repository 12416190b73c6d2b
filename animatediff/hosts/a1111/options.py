"""The extension's page of the WebUI's settings. Keys shared with the older extension keep their users' values."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from modules import shared

from animatediff.errors import AnimateDiffError
from animatediff.media.write.base import WriteOptions
from animatediff.settings import BY_NAME

MOST_WINDOWS = 16
SECTION = ("animatediff", "AnimateDiff")
FOLDER_OPTION = "animatediff_model_path"
OWN_FOLDER = Path(__file__).absolute().parents[3] / "model"
FORMATS_OPTION = "animatediff_default_save_formats"
PREVIEW_OPTION = "animatediff_live_preview"
WINDOWS_OPTION = "animatediff_windows_per_call"
INFOTEXT_OPTION = "enable_pnginfo"  # of the host
KEPT_OPTION = "animatediff_kept_gb"
MOST_KEPT = 1000  # GB
# Fields of WriteOptions on the page: key, label, explanation.
WRITING = {
    "gif_palette": ("animatediff_gif_palette", "GIF palette",
                    "clip: one for all frames; frame: one for each; ffmpeg: its palettegen, needs the package av"),
    "gif_dither": ("animatediff_gif_dither", "Dither GIFs", "hides bands of colour; larger files"),
    "mp4_crf": ("animatediff_mp4_crf", "MP4 quality (CRF)", "0 is lossless, 18 looks the same, 28 is small"),
    "mp4_preset": ("animatediff_mp4_preset", "MP4 encoding preset", "slower presets make smaller files"),
    "webm_crf": ("animatediff_webm_crf", "WEBM quality (CRF)", "lower is better and larger"),
    "webm_pixels": ("animatediff_webm_pixels", "WEBM colours", "yuv444p keeps the full resolution of colours"),
    "webp_quality": ("animatediff_webp_quality", "WEBP quality", "for lossless files: the compression effort"),
    "webp_lossless": ("animatediff_webp_lossless", "Lossless WEBP", "largest files"),
}


def on_ui_settings() -> None:
    for key, info in infos().items():
        info.section = SECTION
        shared.opts.add_option(key, info)


def infos() -> dict[str, Any]:
    """Return the host's OptionInfo of each key."""
    import gradio as gr

    formats = BY_NAME["formats"].for_people()
    found = {
        FOLDER_OPTION: shared.OptionInfo(
            "", "Folder of motion modules", gr.Textbox, {"placeholder": str(OWN_FOLDER)}, restrict_api=True
        ).info("empty for the extension's own folder, which is always searched"),
        FORMATS_OPTION: shared.OptionInfo(
            list(formats.default), "Save formats at start", gr.CheckboxGroup, {"choices": list(formats.choices)}
        ).needs_reload_ui(),
        PREVIEW_OPTION: shared.OptionInfo(
            True, "Live preview plays the clip", gr.Checkbox
        ).info("off: the live preview shows single frames"),
        WINDOWS_OPTION: shared.OptionInfo(
            0, "Windows per call", gr.Slider, {"minimum": 0, "maximum": MOST_WINDOWS, "step": 1}
        ).info("context windows in one UNet call; 0: as many as fit into the GPU's memory, up to 2"),
        KEPT_OPTION: shared.OptionInfo(
            0, "Uploads kept (GB)", gr.Slider, {"minimum": 0, "maximum": MOST_KEPT, "step": 1}
        ).info("for source videos, masks and sounds each; beyond it, files that were not used for the longest time are "
               "deleted, but none that was used within a day; 0: all are kept"),
    }
    for name, (key, label, explanation) in WRITING.items():
        default, choices = getattr(WriteOptions, name), WriteOptions.CHOICES.get(name)
        if isinstance(choices, range):
            made = (gr.Slider, {"minimum": choices.start, "maximum": choices.stop - 1, "step": 1})
        elif choices:
            made = (gr.Dropdown, {"choices": list(choices)})
        else:
            made = (gr.Checkbox, None)
        found[key] = shared.OptionInfo(default, label, *made).info(explanation)
    return found


def write_options() -> WriteOptions:
    """Return the encoding options. A value that is not one of ours, such as another extension's, counts as unset."""
    chosen: dict[str, Any] = {}
    for name, (key, _, _) in WRITING.items():
        default, value = getattr(WriteOptions, name), shared.opts.data.get(key)
        if type(default) is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not type(default):
            continue
        one: dict[str, Any] = {name: value}
        try:
            WriteOptions(**one)
        except AnimateDiffError:
            continue
        chosen |= one
    return WriteOptions(**chosen, embed_text=bool(shared.opts.data.get(INFOTEXT_OPTION, True)))


def default_formats() -> tuple[str, ...]:
    """Return the formats that are selected when the page starts."""
    formats = BY_NAME["formats"]
    chosen = shared.opts.data.get(FORMATS_OPTION) or formats.default
    try:
        return formats.for_people().read([name for name in formats.read(chosen) if name not in formats.api_only])
    except AnimateDiffError:
        return formats.default


def live_preview() -> bool:
    return bool(shared.opts.data.get(PREVIEW_OPTION, True))


def kept_bytes() -> int:
    """Return how many bytes of uploaded files of one kind are kept. 0, also for an invalid value, means all."""
    value = shared.opts.data.get(KEPT_OPTION, 0)
    return int(value * 2**30) if isinstance(value, (int, float)) and 0 <= value <= MOST_KEPT else 0


def windows_per_call() -> int:
    """Return the number of windows per UNet call. 0, also for an invalid value, means as many as fit."""
    value = shared.opts.data.get(WINDOWS_OPTION, 0)
    return int(value) if isinstance(value, (int, float)) and 0 <= value <= MOST_WINDOWS else 0
