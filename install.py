"""The WebUI runs this before it starts: what the extension needs and the WebUI does not bring, and nothing else.

A package that is there is left alone, whatever its version, and so are the packages that a new one would like to have
(--no-deps). Nothing is asked of the network when nothing is missing. Without a package the extension works as far as
it can, and says in the page what is missing.
"""
from __future__ import annotations

import importlib.util
from collections.abc import Callable

# Import name and package -> what for. The WebUI itself needs numpy, Pillow, safetensors and torch.
NEEDED = {"av": "MP4 and WEBM files", "dynamicprompts": "{@a|b} in prompts", "pyparsing": "{@a|b} in prompts"}
# The versions that were tested, so that a release of tomorrow does not come into anybody's WebUI by itself.
TESTED = {"av": ">=17,<19", "dynamicprompts": ">=0.30.4,<0.32", "pyparsing": ">=3.0.9,<3.4"}


def missing(find: Callable[[str], object] = importlib.util.find_spec) -> list[str]:
    """Import names that are not there; a package is not imported for this."""
    def there(name: str) -> bool:
        try:
            return find(name) is not None
        except (ImportError, ValueError):
            return False

    return [name for name in NEEDED if not there(name)]


def install(pip: Callable[..., object], find: Callable[[str], object] = importlib.util.find_spec) -> None:
    """pip(command, description): the WebUI's own runner of pip, which keeps to its options."""
    for name in missing(find):
        purpose = NEEDED[name]
        try:
            pip(f'install --no-deps --only-binary :all: "{name}{TESTED[name]}"', f"{name} for AnimateDiff ({purpose})")
            print(f"AnimateDiff: installed {name} for {purpose}")
        except Exception as error:  # no network, no wheel for this machine: GIF, WebP and PNG need none of it
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            print(f"AnimateDiff: {name} was not installed; what wants it is {purpose} ({reason})")


def main() -> None:
    if missing():
        import launch  # of the WebUI; slow to import, so only where there is something to do

        install(launch.run_pip)


if __name__ == "__main__":
    main()
