"""Find motion modules, motion LoRAs, checkpoints and the demo model on disk."""
from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from animatediff import user_paths
from animatediff.errors import ModelError, end_of

if TYPE_CHECKING:
    from animatediff.motion.library import Entry

DEMO = Path(__file__).with_name("demo")
DEMO_CHECKPOINT = DEMO / "demo.safetensors"
DEMO_MODULE = DEMO / "motion.safetensors"
DEMO_LORAS = DEMO / "lora"
FOLDER_VARIABLE = "ANIMATEDIFF_MODELS"


def folders() -> list[Path]:
    """Return the folders of motion modules in order of preference. They may be missing.

    The last one is the folder to name if all are empty.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    places = [user_paths.named(named)] if named else []
    places += [Path.cwd() / "model", Path(__file__).resolve().parents[2] / "model"]
    return list(dict.fromkeys(places))


def listing(folder: Path | None = None) -> list[Entry]:
    """Return the motion modules and motion LoRAs in `folder`, or in all folders and the package."""
    from animatediff.motion import library

    entries = library.listing([folder] if folder else [place for place in folders() if place.is_dir()])
    if folder is None and DEMO_MODULE.is_file():
        entries.append(library.entry(DEMO_MODULE, "the demo module"))
        entries += [library.entry(path, path.stem) for path in sorted(DEMO_LORAS.glob("*.safetensors"))]
    return entries


def find(name: str) -> Path:
    """Return the path of a motion module. Raise ModelError if there is none.

    name: "" for the demo's module, a path, or a name in a folder, with or without extension.
    """
    if not name:
        if not DEMO_MODULE.is_file():
            raise ModelError("this installation has no demo motion module", where=str(DEMO_MODULE),
                             remedy="Name a motion module with --motion-module")
        return DEMO_MODULE
    path = user_paths.named(name)
    if user_paths.there(path):
        return path
    if name == DEMO_MODULE.name and DEMO_MODULE.is_file():
        return DEMO_MODULE
    if not path.is_absolute():
        from animatediff.motion import library

        found = library.find(name, folders())
        if found:
            return found
    places = ", ".join(map(str, folders()))
    raise ModelError("there is no such motion module", where=end_of(name),
                     remedy=f"Looked in {places}; `animatediff models` lists what is there")


def find_lora(name: str) -> Path:
    """Return the path of a motion LoRA. Raise ModelError if there is none.

    name: a path, or a name in a folder of motion modules or in the package.
    """
    path = user_paths.named(name)
    # A plain name such as zoom-in does not mean a folder with that name in the current folder.
    if user_paths.there(path, Path.is_file) or (len(path.parts) > 1 and user_paths.there(path, Path.is_dir)):
        return path
    from animatediff.motion import library

    found = None if path.is_absolute() else library.find(name, [*folders(), DEMO_LORAS])
    if found:
        return found
    there = ", ".join(entry.name for entry in listing() if not entry.problem and entry.kind != library.MODULE)
    raise ModelError("there is no such motion LoRA", where=end_of(name),
                     remedy=f"There are {there or 'none'}; `animatediff models` says in which folders")


def find_network(name: str, method: str) -> Path | None:
    """Return the path of the weights of a network for frame interpolation.

    name: a path, or a name in a folder of motion modules. "": the first file of the method that is found, or None.
    Raise ModelError if there is no file with that name.
    """
    from animatediff.clip import interpolation

    path = user_paths.named(name)
    if name and user_paths.there(path, Path.is_file):
        return path
    found = interpolation.find_in(name, folders(), method)
    if name and found is None:
        raise ModelError("there is no such file of a network for frame interpolation", where=end_of(name),
                         remedy=f"Give its path, or put it into {folders()[0]}")
    return found


def find_upscaler(name: str) -> Path:
    """Return the path of an upscaler model. Raise ModelError if there is none.

    name: a path, or a name in a folder of motion modules.
    """
    from animatediff.clip import enlargement

    return enlargement.find_in(name, folders())


def find_checkpoint(name: str) -> Path:
    """Return the path of an image model. Raise ModelError if there is none. name: a path, or "" for the demo's."""
    if not name:
        if not DEMO_CHECKPOINT.is_file():
            raise ModelError("this installation has no demo model", where=str(DEMO_CHECKPOINT),
                             remedy="Name a Stable Diffusion checkpoint with --checkpoint")
        return DEMO_CHECKPOINT
    path = user_paths.named(name)
    if user_paths.there(path):
        return path
    if name == DEMO_CHECKPOINT.name and DEMO_CHECKPOINT.is_file():
        return DEMO_CHECKPOINT
    raise ModelError("there is no such file or folder", where=end_of(name),
                     remedy="--checkpoint takes the path of a .safetensors or .ckpt file or of a diffusers folder")
