"""The page's list of motion modules, with labels that say more than the file names."""
from __future__ import annotations

from typing import Any, ClassVar

AUTOMATIC = "Automatic"


class ModuleList:
    """A dropdown whose values are file names and whose choices are labels.

    gradio 4 supports labels for a list's values. Gradio 3.41 does not, so labels are translated on the way to the
    browser and back; the host reads `value` and `choices` for its API and its stored defaults, and sees file names.
    Both tabs share the labels, since they send their values to each other.
    """

    names: ClassVar[dict[str, str]] = {}  # by label; labels shown earlier stay known
    labels: ClassVar[dict[str, str]] = {}  # by name, as of the last `read`

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
        """Read the folders and the loaded checkpoint again. Unusable modules come last."""
        from animatediff.hosts.a1111 import library

        image = library.checkpoint()
        found = sorted(library.entries(), key=lambda entry: bool(library.misfit(entry, image)) + bool(entry.problem))
        self.labels.clear()
        self.labels.update({"": AUTOMATIC} | {entry.name: library.label(entry, image) for entry in found})
        self.names.update({label: name for name, label in self.labels.items()})

    def shown(self) -> list[Any]:
        """Return the choices in the form of a gradio update."""
        return [(label, name) for name, label in self.labels.items()] if self.pairs else list(self.labels.values())

    def label(self, name: Any) -> Any:
        return self.labels.get(name, name)
