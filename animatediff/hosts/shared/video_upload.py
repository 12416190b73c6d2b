"""Uploading a source video on the page: a player, whose file is kept under a name that goes into the text field of the
settings; so it reaches the run, infotexts, plots and the other tab as every other value does."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

LABEL = "Upload a source video"
HEIGHT = 240  # pixels on the page


class VideoUpload:
    """The player, in the gradio context that is open. keep: saves a file that gradio has stored and names it."""

    def __init__(self, gr: Any, tab: str, keep: Callable[[str | None], str]):
        self.gr, self.keep = gr, keep
        self.video = gr.Video(label=LABEL, height=HEIGHT, elem_id=f"{tab}-ad-source-upload")
        self.video.do_not_save_to_config = True

    def connect(self, field: Any, fps: Any, **event: Any) -> None:
        """field: of the settings. fps: the rate of playback, which is then the source's."""
        self.video.change(fn=self.taken, inputs=[self.video], outputs=[field, fps], **event)

    def taken(self, path: str | None) -> list[Any]:
        try:
            return [self.keep(path), self.gr.update(value=0) if path else self.gr.update()]
        except Exception as error:
            raise self.gr.Error(str(error)) from error
