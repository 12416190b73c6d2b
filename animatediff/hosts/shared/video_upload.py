"""Uploading a source video on the page with a player.

The file is kept under a name that goes into the settings' text field. From there it reaches the run, infotexts, plots
and the other tab like any other value.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

LABEL = "Upload a source video"
HEIGHT = 240  # of the player on the page, in pixels


class VideoUpload:
    """The player, created in the open gradio context. keep: saves a file stored by gradio and returns its new name."""

    def __init__(self, gr: Any, tab: str, keep: Callable[[str | None], str]):
        self.gr, self.keep = gr, keep
        self.video = gr.Video(label=LABEL, height=HEIGHT, elem_id=f"{tab}-ad-source-upload")
        self.video.do_not_save_to_config = True

    def connect(self, field: Any, fps: Any, **event: Any) -> None:
        """Connect the player.

        field: text field of the settings.
        fps: control of the playback rate. It is set to 0, which means the source's rate.
        """
        self.video.change(fn=self.taken, inputs=[self.video], outputs=[field, fps], **event)

    def taken(self, path: str | None) -> list[Any]:
        try:
            return [self.keep(path), self.gr.update(value=0) if path else self.gr.update()]
        except Exception as error:
            raise self.gr.Error(str(error)) from error
