"""Uploading a file on the page for a text field that also takes a path.

The file is kept under a name that goes into the field. From there it reaches the run, infotexts, plots and the other
tab like any other value.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

HEIGHT = 90  # on the page, in pixels


class FileUpload:
    """The control, created in the open gradio context.

    kinds: of files that the browser offers: "image", "video" or "audio".
    keep: saves a file stored by gradio and returns its new name.
    """

    def __init__(self, gr: Any, elem_id: str, label: str, kinds: Sequence[str], keep: Callable[[str | None], str]):
        self.gr, self.keep = gr, keep
        self.file = gr.File(label=label, file_types=[*kinds], height=HEIGHT, elem_id=elem_id)
        self.file.do_not_save_to_config = True

    def connect(self, field: Any, **event: Any) -> None:
        """Connect the control to the text field."""
        self.file.change(fn=self.taken, inputs=[self.file], outputs=[field], **event)

    def taken(self, file: Any) -> str:
        """Return the kept name of gradio's value: a path in 4.40, an object with a name in 3.41, or None."""
        try:
            return self.keep(file if file is None or isinstance(file, str) else file.name)
        except Exception as error:
            raise self.gr.Error(str(error)) from error
