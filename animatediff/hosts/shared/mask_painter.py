"""Painting a motion mask on the page: a canvas, a button that makes it black, and one that saves the mask.

The mask is saved as a file whose name goes into the settings' text field. From there it reaches the run, infotexts,
plots and the other tab like any other value. gradio 3.41 paints with Image, gradio 4 with ImageMask.
"""
from __future__ import annotations

import io
from collections.abc import Callable
from functools import reduce
from typing import Any

from PIL import Image, ImageChops

LABEL = "Paint the motion mask"
BLANK, TAKE = "Black canvas", "Use as motion mask"
HEIGHT = 400  # of the canvas on the page, in pixels
WHITE = "#ffffff"
LARGEST = 4096  # limit of a side of the canvas in pixels, since a client may send any size


class Painter:
    """The controls, created in the open gradio context. keep: saves a PNG file's bytes and returns the mask's name."""

    def __init__(self, gr: Any, tab: str, keep: Callable[[bytes], str]):
        self.gr, self.keep = gr, keep
        common = {"show_label": False, "type": "pil", "image_mode": "RGBA", "elem_id": f"{tab}-ad-mask-canvas"}
        with gr.Accordion(LABEL, open=False, elem_id=f"{tab}-ad-painter"):
            if int(gr.__version__.split(".")[0]) >= 4:
                self.canvas = gr.ImageMask(brush=gr.Brush(colors=[WHITE], color_mode="fixed"), **common)
            else:
                self.canvas = gr.Image(source="upload", tool="sketch", brush_color=WHITE, height=HEIGHT, **common)
            with gr.Row():
                self.blank = gr.Button(BLANK, elem_id=f"{tab}-ad-mask-blank")
                self.take = gr.Button(TAKE, elem_id=f"{tab}-ad-mask-take")
        for control in (self.canvas, self.blank, self.take):
            control.do_not_save_to_config = True

    def connect(self, field: Any, size: list[Any], **event: Any) -> None:
        """Connect the buttons.

        field: text field of the settings.
        size: the host's controls of width and height, if the page has them.
        """
        self.blank.click(fn=self.blackened, inputs=size, outputs=[self.canvas], **event)
        self.take.click(fn=lambda value: taken(value, self.keep), inputs=[self.canvas], outputs=[field], **event)

    def blackened(self, width: Any = 512, height: Any = 512) -> Any:
        size = [min(max(int(side or 512), 1), LARGEST) for side in (width, height)]
        return self.gr.update(value=Image.new("RGB", size))


def taken(value: Any, keep: Callable[[bytes], str]) -> str:
    """Save the mask on the canvas. Return its name, or "" for an empty canvas.

    keep: saves a PNG file's bytes and returns the mask's name.
    """
    mask = painted(value)
    if mask is None:
        return ""
    file = io.BytesIO()
    mask.save(file, "PNG")
    return keep(file.getvalue())


def painted(value: Any) -> Image.Image | None:
    """Return the strokes in white on black, or the picture itself if there are no strokes. value: gradio's value."""
    if not isinstance(value, dict):
        return value
    if "mask" in value:
        picture, strokes = value["image"], value["mask"].convert("L")
    else:
        picture, alphas = value["background"], [layer.getchannel("A") for layer in value["layers"] or ()]
        strokes = reduce(ImageChops.lighter, alphas) if alphas else None
    return strokes if strokes and strokes.getbbox() else picture
