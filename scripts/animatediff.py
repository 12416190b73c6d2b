"""The WebUI's entry: hooks that delegate to animatediff.hosts.a1111."""
import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parent.parent)
if ROOT not in sys.path:
    sys.path.append(ROOT)

from modules import scripts  # noqa: E402

from animatediff.hosts.a1111 import entry  # noqa: E402
from animatediff.hosts.neighbours.known import known  # noqa: E402

NEIGHBOURS = known()
entry.register(NEIGHBOURS)


class Script(entry.Hooks, scripts.Script):
    neighbours = NEIGHBOURS

    def title(self):
        return "AnimateDiff"

    def show(self, is_img2img):
        return scripts.AlwaysVisible
