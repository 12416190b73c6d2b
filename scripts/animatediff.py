"""The WebUI's entry: hooks that delegate to animatediff.hosts.a1111."""
import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parent.parent)
if ROOT not in sys.path:
    sys.path.append(ROOT)

from modules import scripts  # noqa: E402

from animatediff.hosts.a1111 import entry  # noqa: E402

entry.register()


class Script(entry.Hooks, scripts.Script):
    def title(self):
        return "AnimateDiff"

    def show(self, is_img2img):
        return scripts.AlwaysVisible
