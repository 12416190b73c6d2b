"""Uploading a file on the page for a text field that also takes a path.

The file is kept under a name that goes into the field. From there it reaches the run, infotexts, plots and the other
tab like any other value.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Upload:
    """An upload by a control of gradio. keep: saves a file stored by gradio and returns its new name."""

    def __init__(self, gr: Any, control: Any, keep: Callable[[str | None], str]):
        self.gr, self.control, self.keep = gr, control, keep
        control.do_not_save_to_config = True

    def connect(self, *fields: Any, **event: Any) -> None:
        """Connect the control to the text field, and to further controls if `values` returns values for them."""
        self.control.change(fn=self.values, inputs=[self.control], outputs=[*fields], **event)

    def values(self, file: Any) -> Any:
        """Return the values of the connected controls.

        file: gradio's value: a path in 4.40, an object with a name in 3.41, or None.
        """
        try:
            return self.keep(file if file is None or isinstance(file, str) else file.name)
        except Exception as error:
            raise self.gr.Error(str(error)) from error


class SourceUpload(Upload):
    """An upload of a source video. It also sets the playback rate to 0, which means the video's."""

    def values(self, file: Any) -> list[Any]:
        return [super().values(file), self.gr.update(value=0) if file else self.gr.update()]
