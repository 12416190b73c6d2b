"""Read a `render` command: settings, model files and target. No model is loaded."""
from __future__ import annotations

import argparse
import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from animatediff import few_steps, user_paths
from animatediff import settings as table
from animatediff.errors import MediaError, ModelError, SettingsError
from animatediff.faces.cli.output import FLAGS
from animatediff.settings import Settings

if TYPE_CHECKING:
    from animatediff.clip.finished import Finished
    from animatediff.clip.inputs import Inputs
    from animatediff.clip.interpolation import Interpolation
    from animatediff.media.write import Target

NOT_REPEATED = ("device", "request_id")  # settings that belong to one machine or one request
NUMBERED = re.compile(r"(\d{5,})-")


def settings_of(arguments: argparse.Namespace, begun: dict[str, Any] | None = None) -> tuple[Settings, dict[str, Any]]:
    """Return the run's settings and the metadata of the --from file.

    begun: settings of a run to resume. They are used for all settings that are not given.
    """
    given = table.from_namespace(arguments)
    if begun and given.get("seed") == -1:
        del given["seed"]
    if not begun and "formats" not in given and (suffix := _ending(arguments.out)):
        given["formats"] = [suffix]
    given = {**(begun or {}), **given, "enable": True}
    if not arguments.source:
        return table.parse(given), {}
    from animatediff.clip import pictures

    about = carried(arguments.source)
    values = _repeated(about["settings"])
    if given.get("preset") == few_steps.FEW_STEPS:
        values = {name: value for name, value in values.items() if name not in few_steps.FILLED}
    if any(given.get(name) for name in pictures.NAMES):
        values = {name: value for name, value in values.items() if name not in pictures.NAMES}
    values |= given
    values |= pictures.found_again({name: values.get(name) for name in pictures.SOURCES if name not in given},
                                   arguments.source)
    try:
        return table.parse(values), about
    except SettingsError as error:
        if error.where in given:
            raise
        flag = FLAGS.get(error.where)
        raise SettingsError(error.what, where=f"{arguments.source}, {flag or error.where}",
                            remedy=error.remedy if flag else "A newer version wrote it: update to it") from None


def carried(path: str) -> dict[str, Any]:
    """Return the metadata in a file. Raises MediaError if it has none from this program."""
    from animatediff.media import metadata

    text = metadata.read(path)
    try:
        about = json.loads(text or "")
        if not isinstance(about["settings"], dict):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise MediaError("carries no AnimateDiff settings", where=path,
                         remedy="Use a file that this program wrote; editors and chats often remove them") from None
    return about


def differences(source: dict[str, Any], about: dict[str, Any]) -> list[str]:
    """Return notes on inputs that differ from the original clip's although the settings are the same."""
    if not source:
        return []
    said = [f"{FLAGS[name]}: the picture has changed since the clip was made"
            for name, now in about.get("pictures", {}).items()
            if (before := (source.get("pictures") or {}).get(name)) and before.get("sha256") != now["sha256"]]
    for key, what in (("motion_module", "motion module"), *FILES.items()):
        before, now = source.get(key) or {}, about.get(key) or {}
        if before.get("sha256") and now.get("sha256") and before["sha256"] != now["sha256"]:
            said.append(f"the clip was made with another {what}, {before.get('name')}; this run uses {now.get('name')}")
    return said


def model_files(settings: Settings, arguments: argparse.Namespace) -> tuple[Path, Path]:
    """Return the files of the motion module and the image model.

    Raises ModelError. If the --from file names models that are missing, one error names them all.
    """
    from animatediff.engine import models

    found, missing = [], []
    for name, what, find in (("motion_module", "motion module", models.find),
                             ("checkpoint", "checkpoint", models.find_checkpoint)):
        value = getattr(settings, name)
        try:
            found.append(find(value))
        except ModelError:
            if hasattr(arguments, name) or not arguments.source or not value:
                raise
            missing.append((f"the {what} {value}", FLAGS[name]))
    if missing:
        things, flags = zip(*missing)
        raise ModelError(f"was made with {' and '.join(things)}, which {'is' if len(missing) == 1 else 'are'} not here",
                         where=arguments.source, remedy=f"Give {' and '.join(f'{flag} PATH' for flag in flags)}")
    return found[0], found[1]


def inputs(settings: Settings, arguments: argparse.Namespace, place: Target | None) -> Inputs:
    """Read the inputs that the settings name, before any model is loaded.

    Raises AnimateDiffError for every error that can be found without a model.
    place: target of a resumed run, None for a new one.
    """
    from animatediff.clip import pictures, writing
    from animatediff.clip.inputs import Inputs
    from animatediff.engine import models
    from animatediff.media import write

    if not settings.prompt:
        raise SettingsError("the prompt is empty", where="prompt",
                            remedy='Say what to show: animatediff render "a red circle moving right"')
    settings = with_files(settings, arguments)
    files = settings.sound_file, *(getattr(settings, name) for name in (*pictures.SOURCES, "motion_mask"))
    asked = place or target(arguments.out, settings)
    write.check(asked, settings.formats, map(user_paths.named, filter(None, files)))
    if not asked.new:  # a new target skips numbers that other runs use
        write.check_free(asked)
    write.probe(settings.formats, writing.options(settings), sound=bool(settings.sound_file))
    return Inputs.read(settings, models.find_lora)


def interpolation(inputs: Inputs) -> Interpolation | None:
    """Return the frame interpolation, or None. Raises AnimateDiffError if it is not possible."""
    from animatediff.clip import interpolation
    from animatediff.engine import models

    return interpolation.of(inputs.settings, inputs.settings.frames, models.find_network)


FILES = {"motion_mask": "motion mask", "audio": "sound"}  # files that the clip of --from may have used


def with_files(settings: Settings, arguments: argparse.Namespace) -> Settings:
    """Return the settings with the paths of the mask and the sound that the --from file names.

    They are searched at their original paths, then beside the --from file. Raises MediaError if one is missing.
    """
    for parameter, what in FILES.items():
        name = settings.sound_file if parameter == "audio" else getattr(settings, parameter)
        if not name or not arguments.source or hasattr(arguments, parameter):
            continue
        places = user_paths.named(name), Path(arguments.source).parent / Path(name).name
        found = next((path for path in places if user_paths.there(path, Path.is_file)), None)
        if found is None:
            raise MediaError(f"was made with the {what} {name}, which is not here", where=arguments.source,
                             remedy=f"Give {FLAGS[parameter]} PATH")
        change: dict[str, Any] = {parameter: str(found)}
        settings = dataclasses.replace(settings, **change)
    return settings


def target(out: str, settings: Settings, passed: int = 0) -> Target:
    """Return the target of the files. In a folder, their name is the next number: NUMBER-SEED[-REQUEST].

    passed: how many further numbers to skip, because other runs have taken them.
    """
    from animatediff.media.write import Target

    whole = Target(out)
    if not is_folder(out) or not whole.stem:  # `stem` raises FormatError for other endings
        return whole
    folder = Path(out)
    try:
        taken = [int(match[1]) for path in folder.iterdir() if (match := NUMBERED.match(path.name))]
    except OSError:
        taken = []  # the folder does not exist yet; ClipWriter checks whether it can be written to
    parts = [f"{max(taken, default=0) + 1 + passed:05d}", str(settings.seed), settings.request_id]
    return Target(out if out.endswith(("/", "\\")) else f"{out or '.'}/", "-".join(filter(None, parts)), new=True)


def clip(file: str | None, fps: float | None = None) -> Finished:
    """Read the finished clip that a command names. fps: replaces the file's frame rate unless it is 0 or None."""
    from animatediff.clip.finished import Finished

    if not file:
        raise SettingsError("no clip is named", where="FILE", remedy="Name a file or a folder of pictures")
    try:
        return Finished.read(user_paths.named(file), fps or None)
    except MediaError as error:
        raise error.named({"from_fps": "--from-fps"}) from error


def result(out: str, file: str, what: str) -> Target:
    """Return the target of a clip that is made from `file`. In a folder, it is named after the file, with `-what`."""
    from animatediff.media.write import Target

    whole, path = Target(out), Path(file)
    if not is_folder(out) or not whole.stem:  # `stem` raises FormatError for other endings
        return whole
    name = path.resolve().name if path.is_dir() else path.stem  # the path "." has no name
    return Target(out if out.endswith(("/", "\\")) else f"{out or '.'}/", f"{name}-{what}")


def _repeated(values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a file that a run from the command line repeats."""
    values = {name: value for name, value in values.items() if name not in NOT_REPEATED}
    if isinstance(values.get("formats"), list):
        values["formats"] = [name for name in values["formats"] if name not in table.BY_NAME["formats"].api_only]
        if not values["formats"]:
            del values["formats"]
    return values


def _ending(out: str) -> str | None:
    """Return the format that the ending of the file `out` names, or None for a folder."""
    from animatediff.media.write import format_of

    return None if out.endswith(("/", "\\")) else format_of(out)


def is_folder(out: str) -> bool:
    """Return whether `out` is a folder, in which clips are numbered."""
    return not _ending(out)
