"""The page's list of motion modules, which shows more than their file names."""
from __future__ import annotations

from typing import Any, ClassVar

AUTOMATIC = "Automatic"


class ModuleList:
    """File names everywhere but in the browser, which shows labels.

    gradio 4 has names for a list's values. For 3.41, whose Dropdown has none, this translates on the way to the browser
    and back; the host, which reads `value` and `choices` for its API and its stored defaults, sees file names.
    Labels are common to both tabs, which send their values to each other.
    """

    names: ClassVar[dict[str, str]] = {}  # by label; a label that was shown once stays known
    labels: ClassVar[dict[str, str]] = {}  # by name, as of the last reading

    def __init__(self, gr: Any, **common: Any):
        self.pairs = int(gr.__version__.split(".")[0]) >= 4
        self.read()
        self.control = gr.Dropdown(choices=self.shown() if self.pairs else list(self.labels), value="", **common)
        if not self.pairs:
            plain = self.control.get_config
            self.control.get_config = lambda: plain() | {
                "choices": self.shown(), "value": self.label(self.control.value)}
            self.control.preprocess = lambda label: self.names.get(label, label)
            self.control.postprocess = self.label

    def read(self) -> None:
        """Look into the folders, and at the checkpoint that is loaded now. What cannot be used comes last."""
        from animatediff.hosts.a1111 import library

        image = library.checkpoint()
        found = sorted(library.entries(), key=lambda entry: bool(library.misfit(entry, image)) + bool(entry.problem))
        self.labels.clear()
        self.labels.update({"": AUTOMATIC} | {entry.name: library.label(entry, image) for entry in found})
        self.names.update({label: name for name, label in self.labels.items()})

    def shown(self) -> list[Any]:
        """The choices as gradio takes them in an update."""
        return [(label, name) for name, label in self.labels.items()] if self.pairs else list(self.labels.values())

    def label(self, name: Any) -> Any:
        return self.labels.get(name, name)
