"""Saving pictures as files, and grids."""
import math
import os
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo


def get_next_sequence_number(path, basename):
    """Return one more than the greatest number at the beginning of the names in a folder."""
    found = [-1]
    for name in os.listdir(path):
        head = name.removeprefix(f"{basename}-" if basename else "").split(".")[0].split("-")[0]
        found += [int(head)] if head.isdigit() else []
    return max(found) + 1


def image_grid(imgs, batch_size=1, rows=None):
    columns = math.ceil(math.sqrt(len(imgs)))
    w, h = imgs[0].size
    grid = Image.new("RGB", (columns * w, math.ceil(len(imgs) / columns) * h))
    for i, picture in enumerate(imgs):
        grid.paste(picture, (i % columns * w, i // columns * h))
    return grid


def resize_image(mode, image, width, height, upscaler_name=None):
    return image.resize((width, height), Image.Resampling.LANCZOS)


def flatten(image, background):
    return image.convert("RGB")


def save_image(image, path, basename, seed=None, prompt=None, extension="png", info=None, p=None, **_):
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{get_next_sequence_number(folder, basename):05}-{seed}.{extension}"
    text = PngInfo()
    text.add_text("parameters", info or "")
    image.save(target, pnginfo=text)
    image.already_saved_as = str(target)
    return str(target), None
