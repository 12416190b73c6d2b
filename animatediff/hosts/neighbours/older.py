"""The older extension (sd-webui-animatediff, or a fork of it) installed beside this one.

Both have the title "AnimateDiff", both have modules that ControlNet imports as `scripts.animatediff_…`, and a UNet
cannot have two motion modules. Therefore this extension always gets the title, whichever folder the host loads first.
The older one stays on the page under the name of its folder. It is inactive in jobs that ask for this one, and a job
that asks for both is stopped. All changes are made in memory and undone before scripts are loaded again.
"""
from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

from modules import extensions, script_callbacks, scripts

from animatediff.errors import SettingsError
from animatediff.hosts.a1111 import jobs
from animatediff.hosts.a1111.neighbour import InJob, Neighbour
from animatediff.hosts.neighbours import controlnet

ROOT = Path(__file__).resolve().parents[3]
TITLE = "AnimateDiff"
SHARED_NAMES = ("animatediff_utils", "animatediff_i2ibatch", "animatediff_mm")  # modules that ControlNet imports
HOOKS = (
    "before_process", "process", "before_process_batch", "after_extra_networks_activate", "process_batch",
    "process_before_every_sampling", "before_hr", "post_sample", "on_mask_blend", "postprocess_batch",
    "postprocess_batch_list", "postprocess_image", "postprocess_maskoverlay", "postprocess_image_after_composite",
    "postprocess")  # fmt: skip


@dataclass(frozen=True)
class Older:
    """An older extension."""

    kind: type  # its Script class
    names: dict[str, Any]  # globals of the module that defines the class
    folder: str  # the extension's folder name

    def argument(self, p: Any) -> Any:
        """Return its parameters in a request, an object with `enable`, or None."""
        for script in getattr(p.scripts, "alwayson_scripts", None) or ():
            if not isinstance(script, self.kind) or script.args_to <= script.args_from:
                continue
            value, make = p.script_args[script.args_from], self.names.get("AnimateDiffProcess")
            if make and not hasattr(value, "enable"):  # a dict from the API, or nothing
                value = make(**value) if isinstance(value, dict) else make()
                args = list(p.script_args)
                args[script.args_from] = value
                p.script_args = tuple(args)
            return value
        return None

    def enabled(self, p: Any) -> bool:
        return getattr(self.argument(p), "enable", False) is True

    def tidy(self, script: Any, p: Any) -> None:
        """Remove its motion module from the UNet, where a failed job may have left it, and stop its warnings."""
        module: Any = self.names.get("motion_module")
        if getattr(module, "mm_injected", False):
            module.restore(p.sd_model)
        if hasattr(module, "set_ad_params"):
            module.set_ad_params(None)
        script.hacked = False


class OlderExtensions(Neighbour):
    """The older extensions found, and their modules whose names ours have taken."""

    def __init__(self) -> None:
        self.met: list[Older] = []
        self.unloaded: list[str] = []  # folder names of those whose script the host could not load
        self.modules: dict[str, ModuleType] = {}

    @contextmanager
    def _beside(self) -> Iterator[None]:
        with ExitStack() as undo:
            undo.callback(self.met.clear)
            undo.callback(self.unloaded.clear)
            undo.callback(self.modules.clear)
            for name in SHARED_NAMES:
                self._take_name(name, undo)
            for data in scripts.scripts_data:
                kind = data[0]
                if not issubclass(kind, jobs.OurScript) and _has_our_title(kind):
                    self.met.append(_meet(kind, self.modules, undo))
            self.unloaded += sorted(_folders() - {older.folder for older in self.met})
            if self.met:
                _rename_axes(undo)
            if notice := self.notice():
                print(f"{TITLE}: {notice}")
            yield

    def beside(self) -> AbstractContextManager[None]:
        return self._beside()

    def notice(self) -> str:
        notices = []
        if self.met:
            folders = " and ".join(older.folder for older in self.met)
            notices.append(f"An older AnimateDiff extension is installed too ({folders}). Requests for AnimateDiff "
                           "come to this one, which also uses the older one's settings and motion modules. The two "
                           "cannot run in one job: disable the older one in the Extensions tab, or leave its Enable "
                           "off.")
        if self.unloaded:
            folders = " and ".join(self.unloaded)
            notices.append(f"An older AnimateDiff extension ({folders}) does not run in this WebUI. The errors in the "
                           "log are its own: disable it in the Extensions tab.")
        return " ".join(notices)

    def in_job(self, p: Any) -> InJob:
        """Raise a SettingsError for a job that also enables an older extension."""
        for older in self.met:
            if older.enabled(p):
                what = f"the older AnimateDiff extension ({older.folder}) is enabled for this job too"
                raise SettingsError(f"{what}, and the two cannot run together", where="Enable AnimateDiff",
                                    remedy="Untick Enable in one of the two, or disable the older one "
                                    "in the Extensions tab.")
        return InJob()

    def argument(self, p: Any) -> Any:
        """Return the older extension's parameters in a request that enables it, or None."""
        return next((older.argument(p) for older in self.met if older.enabled(p)), None)

    def _take_name(self, name: str, undo: ExitStack) -> None:
        """Make `scripts.NAME` our module. Attributes that it lacks come from the older extension's module.

        The host runs scripts under other names, so an import of `scripts.NAME` would not find ours.
        """
        full = f"scripts.{name}"
        before = sys.modules.get(full)
        spec: Any = importlib.util.spec_from_file_location(full, ROOT / "scripts" / f"{name}.py")
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if before is not None:
            self.modules[name] = before

        def attribute_of_theirs(attribute: str) -> Any:
            theirs = self.modules.get(name)
            if theirs is None or attribute.startswith("__"):
                raise AttributeError(f"{full} has no attribute {attribute}")
            return getattr(theirs, attribute)

        module.__getattr__ = attribute_of_theirs
        for function in (self.get_animatediff_arg, self.animatediff_i2i_batch):
            if hasattr(module, function.__name__):
                setattr(module, function.__name__, function)
        sys.modules[full] = module
        undo.callback(_put_back, full, module, before)

    def get_animatediff_arg(self, p: Any) -> Any:
        return controlnet.get_animatediff_arg(p, self.argument)

    def animatediff_i2i_batch(self, p: Any, *args: Any, **kwargs: Any) -> Any:
        theirs = self.modules.get("animatediff_i2ibatch")
        if theirs is not None and jobs.settings_of(p) is None and self.argument(p) is not None:
            return theirs.animatediff_i2i_batch(p, *args, **kwargs)
        return controlnet.animatediff_i2i_batch(p, *args, **kwargs)


def _folders() -> set[str]:
    """Return the folder names of the older extensions that are installed and not disabled."""
    paths = (Path(one.path) for one in extensions.active())
    return {path.name for path in paths
            if (path / "motion_module.py").is_file() and (path / "scripts" / "animatediff_mm.py").is_file()}


def _has_our_title(kind: type) -> bool:
    code = getattr(getattr(kind, "before_process", None), "__code__", None)
    if getattr(code, "co_filename", "").replace("\\", "/").split("/")[-1] != "animatediff.py":
        return False  # do not instantiate unrelated scripts
    try:
        return kind().title().strip().lower() == TITLE.lower()
    except Exception:
        return False


def _meet(kind: type, modules: Mapping[str, ModuleType], undo: ExitStack) -> Older:
    """Return the older extension of this Script class, after changing it so that it can run beside ours."""
    names = kind.before_process.__globals__
    older = Older(kind, names, Path(kind.before_process.__code__.co_filename).parent.parent.name)

    def change(name: str, value: Any) -> None:
        undo.callback(setattr, kind, name, vars(kind)[name])
        setattr(kind, name, value)

    change("title", lambda self: f"{TITLE} ({older.folder})")
    if "ui" in vars(kind):
        change("ui", _renamed_ui(older, kind.ui))
    for name in HOOKS:
        if name in vars(kind):
            change(name, _sitting_out(older, name, vars(kind)[name]))
    if function := names.get("infotext_pasted"):
        script_callbacks.remove_callbacks_for_function(function)  # it would parse and discard our infotext
    _settings_last()
    # The older extension finds its parameters by title, which is now ours.
    theirs = [names, *(vars(module) for name, module in list(sys.modules.items())
                       if name.startswith("scripts.animatediff_") and getattr(module, "__file__", None))]
    for namespace in [*theirs, *map(vars, modules.values())]:
        if "get_animatediff_arg" in namespace and ROOT not in Path(namespace.get("__file__", "")).resolve().parents:
            undo.callback(namespace.__setitem__, "get_animatediff_arg", namespace["get_animatediff_arg"])
            namespace["get_animatediff_arg"] = older.argument
    return older


def _sitting_out(older: Older, name: str, plain: Any) -> Any:
    @wraps(plain)
    def hook(self: Any, p: Any, *args: Any, **kwargs: Any) -> Any:
        if not jobs.wants_clip(p):
            return plain(self, p, *args, **kwargs)
        if name == "before_process":
            older.tidy(self, p)

    return hook


def _renamed_ui(older: Older, plain: Any) -> Any:
    """Wrap its `ui`: its controls get distinct names and take no pasted infotexts."""
    @wraps(plain)
    def ui(self: Any, is_img2img: bool) -> Any:
        from gradio.context import Context

        def rename(block: Any) -> None:
            if getattr(block, "label", None) == TITLE:
                block.label = f"{TITLE} ({older.folder})"
            if elem_id := getattr(block, "elem_id", None):
                block.elem_id = elem_id.replace("-ad-", "-older-ad-")
            for child in getattr(block, "children", ()):
                rename(child)

        around = Context.block
        there = len(around.children) if around else 0
        made = plain(self, is_img2img)
        for block in around.children[there:] if around else ():
            rename(block)
        for fields in (self.infotext_fields, self.paste_field_names):
            if fields:
                fields.clear()
        return made

    return ui


def _rename_axes(undo: ExitStack) -> None:
    """Rename its X/Y/Z plot axes, which have the same labels as ours."""
    grids = [data.module for data in scripts.scripts_data if hasattr(getattr(data, "module", None), "axis_options")]
    for option in (option for grid in grids for option in grid.axis_options):
        label, apply = getattr(option, "label", ""), getattr(option, "apply", None)
        if label.startswith("[AnimateDiff]") and getattr(apply, "__module__", "") == "scripts.animatediff_xyz":
            undo.callback(setattr, option, "label", label)
            option.label = label.replace("[AnimateDiff]", "[AnimateDiff, older]")


def _settings_last() -> None:
    """Move our settings callback to the end: the last callback defines the settings that both extensions have."""
    from animatediff.hosts.a1111 import options

    script_callbacks.remove_callbacks_for_function(options.on_ui_settings)
    script_callbacks.on_ui_settings(options.on_ui_settings)


def _put_back(name: str, ours: ModuleType, before: ModuleType | None) -> None:
    """Restore the previous module of this name, unless ours has been replaced since."""
    if sys.modules.get(name) is not ours:
        return
    if before is None:
        del sys.modules[name]
    else:
        sys.modules[name] = before
