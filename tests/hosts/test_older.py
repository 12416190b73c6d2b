"""The older extension beside this one, loaded in either order.

A script with the same outline imitates it here. tests/hosts/webui/test_neighbours.py uses the real one.
"""
from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
STANDIN = Path(__file__).parent / "standin"
REQUEST = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 1, "seed": 7, "sampler_name": "Euler"}
UTILS = """
def get_animatediff_arg(p):
    for script in p.scripts.alwayson_scripts:
        if script.title().lower() == "animatediff":
            argument = p.script_args[script.args_from]
            if isinstance(argument, dict):
                from scripts.animatediff_ui import AnimateDiffProcess
                argument = AnimateDiffProcess(**argument)
                p.script_args = list(p.script_args)
                p.script_args[script.args_from] = argument
            return argument

def get_controlnet_units(p):
    return "theirs"
"""
UI = """
class AnimateDiffProcess:
    def __init__(self, model="mm.ckpt", enable=False, video_length=0, batch_size=16):
        self.model, self.enable, self.video_length, self.batch_size = model, enable, video_length, batch_size
"""
SCRIPT = """
from modules import script_callbacks, scripts
from scripts.animatediff_mm import mm_animatediff as motion_module
from scripts.animatediff_ui import AnimateDiffProcess
from scripts.animatediff_utils import get_animatediff_arg, get_controlnet_units

calls = []

def infotext_pasted(text, params):
    params.pop("AnimateDiff", None)

class AnimateDiffScript(scripts.Script):
    def __init__(self):
        self.hacked = False

    def title(self):
        return "AnimateDiff"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def before_process(self, p, params):
        if p.is_api:
            params = get_animatediff_arg(p)
        calls.append(("before_process", params.enable, params.model))

    def postprocess(self, p, processed, params):
        calls.append(("postprocess", params.enable, params.model))

script_callbacks.on_infotext_pasted(infotext_pasted)
"""
MM = """
class MM:
    mm_injected = False
    ad_params = "stale"

    def set_ad_params(self, params):
        self.ad_params = params

    def restore(self, model):
        MM.mm_injected = False

mm_animatediff = MM()
"""
NAMES = ("animatediff", "animatediff_utils", "animatediff_ui", "animatediff_mm", "animatediff_i2ibatch")


def write(folder: Path) -> Path:
    (folder / "scripts").mkdir(parents=True)
    for name, text in zip(NAMES, (SCRIPT, UTILS, UI, MM,
                                  "def animatediff_i2i_batch(p, *args, **kwargs): return 'theirs'")):
        (folder / "scripts" / f"{name}.py").write_text(text)
    return folder


@pytest.fixture
def load(tmp_path, monkeypatch):
    """load("ours", "theirs"): a host that has loaded the extensions in this order and is about to build its page."""
    monkeypatch.syspath_prepend(str(STANDIN))
    from standin_host import standing_in

    older = write(tmp_path / "extensions" / "sd-webui-animatediff")
    with standing_in(tmp_path) as host:
        host.opts.data["animatediff_model_path"] = str(tmp_path)

        def load(*order):
            for one in order:
                if one == "ours":
                    host.load(ROOT / "scripts" / "animatediff.py")
                    continue
                before = sys.path
                sys.path = [str(older), *before]  # as the host does it
                try:
                    importlib.invalidate_caches()
                    host.theirs = host.load(older / "scripts" / "animatediff.py")
                finally:
                    sys.path = before
            host.untouched = dict(vars(host.theirs.AnimateDiffScript)) \
                if "theirs" in order else {}
            for callback in list(host.script_callbacks.callback_map["callbacks_before_ui"]):
                if callback.__name__ != "_axes":  # the stand-in has no X/Y/Z plot
                    callback()
            host.show()
            return host

        yield load


ORDERS = pytest.mark.parametrize("order", [("ours", "theirs"), ("theirs", "ours")], ids=" before ".join)


def ask(host, **args):
    return host.request("txt2img", REQUEST, args)


def titles(host):
    return {script.title(): type(script).__name__ for script in host.scripts.scripts_txt2img.alwayson_scripts}


@ORDERS
def test_the_title_is_ours_and_the_start_says_so(load, order, capsys):
    host = load(*order)
    assert titles(host) == {"AnimateDiff": "Script", "AnimateDiff (sd-webui-animatediff)": "AnimateDiffScript"}
    said = capsys.readouterr().out
    assert "older AnimateDiff extension" in said and "sd-webui-animatediff" in said and "disable" in said


def test_alone_nothing_is_said(load, capsys):
    host = load("ours")
    assert titles(host) == {"AnimateDiff": "Script"}
    assert "older" not in capsys.readouterr().out


@pytest.mark.parametrize(("names", "said"), [
    (("motion_module.py", "scripts/animatediff_mm.py"), True),  # its script could not be loaded
    (("scripts/animatediff_mm.py",), False),  # ours has a module of this name, too
    (("motion_module.py", "scripts/motion.py"), False)])
def test_an_older_one_that_does_not_run_in_this_host_is_named(load, tmp_path, capsys, names, said):
    folder = tmp_path / "extensions" / "sd-forge-animatediff"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    listed = importlib.import_module("modules.extensions")
    listed.extensions.append(SimpleNamespace(name=folder.name, path=str(folder)))
    host = load("ours")
    out = capsys.readouterr().out
    assert ("(sd-forge-animatediff) does not run in this WebUI" in out) is said
    assert ("disable it" in out) is said
    answer = ask(host, AnimateDiff=[{"enable": True, "model": "moving.safetensors", "video_length": 2}])
    assert answer.status == 422 and "moving.safetensors" in answer.detail  # the job is ours, and has no module


@ORDERS
def test_a_request_comes_to_ours_alone(load, order):
    host = load(*order)
    answer = ask(host, AnimateDiff=[{"enable": True, "model": "nothing.ckpt"}])
    assert (answer.status, answer.detail.split(":")[0]) == (422, "nothing.ckpt"), \
        "ours refuses a module that is not there"
    assert host.theirs.calls == []


@ORDERS
def test_the_older_one_alone_goes_on_working(load, order):
    host = load(*order)
    asked = {"AnimateDiff": [False], "AnimateDiff (sd-webui-animatediff)": [{"enable": True, "model": "theirs.ckpt"}]}
    answer = ask(host, **asked)
    assert answer.status == 200
    assert host.theirs.calls == [("before_process", True, "theirs.ckpt"), ("postprocess", True, "theirs.ckpt")]


@ORDERS
def test_both_in_one_job_are_refused(load, order):
    host = load(*order)
    asked = {"AnimateDiff": [{"enable": True, "model": "x.ckpt"}],
             "AnimateDiff (sd-webui-animatediff)": [{"enable": True}]}
    answer = ask(host, **asked)
    assert answer.status == 422
    assert "sd-webui-animatediff" in answer.detail and "Untick" in answer.detail
    assert host.theirs.calls == []


@ORDERS
def test_a_plain_picture_lets_the_older_one_do_what_it_always_does(load, order):
    host = load(*order)
    ask(host, **{"AnimateDiff (sd-webui-animatediff)": [None]})
    assert host.theirs.calls == [("before_process", False, "mm.ckpt"), ("postprocess", False, "mm.ckpt")]


@ORDERS
def test_what_the_older_one_left_in_the_model_is_taken_out_first(load, order):
    host = load(*order)
    module = host.theirs.motion_module
    type(module).mm_injected = True
    ask(host, AnimateDiff=[{"enable": True, "model": "nothing.ckpt"}])
    assert (module.mm_injected, module.ad_params) == (False, None)


@ORDERS
def test_controlnets_imports_find_ours_and_the_older_one_still_finds_its_own(load, order):
    host = load(*order)
    utils, batch, mm = (importlib.import_module(f"scripts.animatediff_{name}") for name in ("utils", "i2ibatch", "mm"))
    for module in (utils, batch, mm):
        assert Path(module.__file__).parent == ROOT / "scripts"
    assert utils.get_controlnet_units(None) == "theirs"
    assert mm.mm_animatediff is host.theirs.motion_module

    seen = []
    probe = type("Probe", (host.scripts.Script,), {
        "title": lambda self: "Probe", "show": lambda self, is_img2img: host.scripts.AlwaysVisible,
        "process": lambda self, p: seen.append(utils.get_animatediff_arg(p))})
    host.scripts.scripts_data.append((probe, "probe.py"))
    host.show()
    older = "AnimateDiff (sd-webui-animatediff)"
    ask(host, **{older: [{"enable": True, "model": "theirs.ckpt"}]})
    ask(host, **{older: [{"enable": False}]})
    assert seen[0].model == "theirs.ckpt" and seen[1] is None


@ORDERS
def test_pasted_texts_are_ours(load, order):
    host = load(*order)
    names = {callback.__name__ for callback in host.script_callbacks.callback_map["callbacks_infotext_pasted"]}
    assert names == {"_pasted"}


@ORDERS
def test_all_is_put_back_before_scripts_are_loaded_again(load, order):
    host = load(*order)
    kind = host.theirs.AnimateDiffScript
    assert kind.title is not host.untouched["title"]
    host.script_callbacks.script_unloaded_callback()
    assert dict(vars(kind)) == host.untouched
    assert host.theirs.get_animatediff_arg.__module__ == "scripts.animatediff_utils"
    modules = {name: module.__file__ for name, module in sys.modules.items() if name.startswith("scripts.animatediff")}
    assert modules and not any(Path(file).parent == ROOT / "scripts" for file in modules.values())


def test_alone_our_names_go_with_us(load):
    host = load("ours")
    assert "scripts.animatediff_utils" in sys.modules
    host.script_callbacks.script_unloaded_callback()
    assert not [name for name in sys.modules if name.startswith("scripts.animatediff")]
