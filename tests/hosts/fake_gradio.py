"""A gradio that records the components, and refuses arguments that gradio 3.41.2 and 4.40.0 do not both accept.

ACCEPTED was read from both versions with inspect.signature. `gradio(version)` returns a module for sys.modules.
"""
from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar

_COMMON = "elem_classes elem_id label visible "
_FORM = _COMMON + "container every info interactive min_width scale show_label value "
ACCEPTED = {
    "Accordion": "elem_id label open visible",
    "Row": "elem_id equal_height variant visible",
    "Checkbox": _FORM,
    "CheckboxGroup": _FORM + "choices type",
    "Radio": _FORM + "choices type",
    "Dropdown": _FORM + "choices type allow_custom_value max_choices multiselect",
    "Textbox": _FORM + "autofocus lines max_lines placeholder rtl show_copy_button text_align type",
    "Slider": _FORM + "maximum minimum randomize step",
    "Number": _FORM + "maximum minimum precision step",
    "HTML": _COMMON + "every show_label value",
    "Button": "elem_classes elem_id icon interactive link min_width scale size value variant visible",
    "Gallery": _COMMON,
    # source, tool and brush_color exist in 3.41, which paints in an Image.
    "Image": _FORM.replace("info ", "") + "brush_color height image_mode mirror_webcam show_download_button source "
             "streaming tool type width",
    "Video": _FORM.replace("info ", "") + "autoplay format height include_audio width",
    "File": _FORM.replace("info ", "") + "file_count file_types height type",
    "ImageMask": _COMMON + "brush height image_mode show_label type",
}
EVENT = set("fn inputs outputs api_name queue show_progress batch max_batch_size postprocess preprocess cancels every "
            "scroll_to_output".split())
EVENTS = {"Button": "click", "Gallery": "select", "Radio": "change input", "Slider": "change release"}
FIRST = {"Accordion": "label", "Button": "value", "HTML": "value"}


class Block:
    """A component or layout block on the page. `events`: the attached events as (name, arguments)."""

    stack: ClassVar[list[Block]] = []
    script = "_js"  # the event argument for JavaScript

    def __init__(self, *args: Any, **kwargs: Any):
        name = next(kind.__name__ for kind in type(self).__mro__ if kind.__name__ in ACCEPTED)
        kwargs |= dict(zip([FIRST.get(name, "value")], args, strict=True)) if args else {}
        extra = set(kwargs) - set(ACCEPTED[name].split())
        assert not extra, f"{name} does not take {extra} in every gradio"
        self.given, self.children, self.events = kwargs, [], []
        self.elem_id, self.label, self.value = kwargs.get("elem_id"), kwargs.get("label"), kwargs.get("value")
        self.parent = Block.stack[-1] if Block.stack else None
        if self.parent:
            self.parent.children.append(self)
        for event in EVENTS.get(name, "change blur").split():
            setattr(self, event, self._attach(event))

    def _attach(self, event: str) -> Callable[..., None]:
        def attach(**kwargs: Any) -> None:
            known = EVENT | {self.script}
            assert set(kwargs) <= known, f"events do not take {set(kwargs) - known} in every gradio"
            self.events.append((event, kwargs))

        return attach

    def __enter__(self) -> Block:
        Block.stack.append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        Block.stack.pop()

    def inside(self) -> list[Block]:
        return [found for child in self.children for found in (child, *child.inside())]


class Blocks(Block):
    def __init__(self) -> None:
        self.given, self.children, self.events, self.elem_id, self.parent = {}, [], [], None, None


def gradio(version: str = "3.41.2") -> ModuleType:
    module = ModuleType("gradio")
    module.__version__ = version
    module.Blocks = Blocks
    module.update = lambda **kwargs: kwargs | {"__type__": "update"}
    for name in ACCEPTED:
        setattr(module, name, type(name, (Block,), {"script": "js" if version.startswith("4") else "_js"}))
    if not version.startswith("4"):
        del module.ImageMask
    module.Brush = lambda **kwargs: kwargs

    class Dropdown(module.Dropdown):
        """The Dropdown of 3.41, whose choices are texts. In 4 they are pairs of label and value."""

        def __init__(self, **kwargs: Any):
            super().__init__(**kwargs)
            pairs = version.startswith("4")
            self.choices = [c if isinstance(c, tuple) else (c, c) if pairs else str(c) for c in kwargs["choices"]]

        def get_config(self) -> dict[str, Any]:
            return {"choices": self.choices, "value": self.value, "elem_id": self.elem_id}

        def preprocess(self, value: Any) -> Any:
            return value

        postprocess = preprocess

    module.Dropdown = Dropdown
    return module
