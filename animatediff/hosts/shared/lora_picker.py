"""Picking a motion LoRA on the page: a list, a weight, and a button that writes both into the settings' text."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from animatediff import loras
from animatediff.curves import Curve
from animatediff.errors import AnimateDiffError

LIST, WEIGHT, ADD = "Motion LoRAs in your folders", "Weight", "Add"
ADD_HELP = "Write the chosen motion LoRA with this weight into the text above; a weight of 0 takes it out"
MOST = 2.0  # the slider's limit; larger weights are typed by hand


class LoraPicker:
    """The controls, created in the open gradio context. names: returns the names of the available motion LoRAs."""

    def __init__(self, gr: Any, tab: str, names: Callable[[], Sequence[str]]):
        self.gr, self.names = gr, names
        with gr.Row():
            self.list = gr.Dropdown(choices=list(names()), value=None, label=LIST, elem_id=f"{tab}-ad-lora-list")
            self.weight = gr.Slider(value=1.0, minimum=-MOST, maximum=MOST, step=0.05, label=WEIGHT,
                                    elem_id=f"{tab}-ad-lora-weight")
            self.add = gr.Button(ADD, elem_id=f"{tab}-ad-lora-add", scale=0, min_width=80)
        self.add.webui_tooltip = ADD_HELP
        for control in (self.list, self.weight, self.add):
            control.do_not_save_to_config = True

    def connect(self, field: Any, **event: Any) -> None:
        """Connect the button. field: text field of the settings."""
        self.add.click(fn=with_lora, inputs=[field, self.list, self.weight], outputs=[field], **event)

    def read(self) -> Any:
        """Return an update of the list after reading the folders."""
        return self.gr.update(choices=list(self.names()))


def with_lora(text: str, name: str | None, weight: float | None) -> str:
    """Return the text with this motion LoRA in it once, or without it if the weight is 0.

    A text that cannot be parsed is returned unchanged; the lines on the page show its error.
    """
    if not name:
        return text
    try:
        wishes = loras.read(text or "")
    except AnimateDiffError:
        return text
    wish = loras.Wish(name, Curve(numbers=(1.0 if weight is None else float(weight),)))
    if any(there.name == name for there in wishes):
        wishes = tuple(replace(there, weight=wish.weight) if there.name == name else there for there in wishes)
    else:
        wishes += (wish,)
    return loras.write(there for there in wishes if there.name != name or weight != 0)
