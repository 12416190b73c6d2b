"""The page's controls, settings and plot axes, built with a gradio that accepts what 3.41.2 and 4.40.0 both accept."""
from __future__ import annotations

import html
import inspect
import re
import shutil
import sys
import time
from pathlib import Path
from threading import Thread
from types import ModuleType, SimpleNamespace

import pytest
from fake_gradio import Blocks, gradio
from tiny_models import write_module

from animatediff import windows
from animatediff.settings import PARAMETERS, Settings

STANDIN = Path(__file__).parent / "standin"
SAME = "Use same sampler"
CLIP = {p.name: p for p in PARAMETERS if p.group == "clip"}


@pytest.fixture(params=["3.41.2", "4.40.0"])
def version(request):
    return request.param


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    write_module(folder / "v2.safetensors")
    write_module(folder / "xl.safetensors", "HotShot-XL", widths=(32, 32, 32))
    return folder


@pytest.fixture
def host(tmp_path, monkeypatch, version, written):
    """The stand-in for the WebUI with two motion modules, and `.gr`."""
    monkeypatch.syspath_prepend(str(STANDIN))
    from standin_host import standing_in

    with standing_in(tmp_path) as host:
        host.gr = gradio(version)
        sys.modules["gradio"] = host.gr
        host.models = tmp_path / "motion"
        shutil.copytree(written, host.models)
        host.opts.data["animatediff_model_path"] = str(host.models)
        sys.modules["modules.sd_models"].model_data = SimpleNamespace(sd_model=host.shared.sd_model)
        host.shared.sd_model.sd_checkpoint_info.name_for_extra = "photo"
        yield host


class Page:
    """One tab as the WebUI builds it: its own controls, ours, and the gallery last."""

    def __init__(self, host, tab="txt2img", controls=True):
        from animatediff.hosts.a1111 import ui

        gr, self.host, self.tab, self.connect = host.gr, host, tab, {}
        script = SimpleNamespace(on_after_component=lambda f, elem_id: self.connect.update({elem_id: f}))
        with Blocks() as self.root:
            self.theirs = {
                f"{tab}_steps": gr.Slider(elem_id=f"{tab}_steps", value=20),
                f"{tab}_sampling": gr.Dropdown(elem_id=f"{tab}_sampling", choices=["Euler", "DDIM"], value="Euler"),
                f"{tab}_batch_count": gr.Slider(elem_id=f"{tab}_batch_count", value=1),
            } if controls else {}
            if tab == "txt2img" and controls:
                self.theirs |= {
                    "txt2img_hr-checkbox": gr.Checkbox(elem_id="txt2img_hr-checkbox", value=False),
                    "txt2img_hires_steps": gr.Slider(elem_id="txt2img_hires_steps", value=0),
                    "hr_sampler": gr.Dropdown(elem_id="hr_sampler", choices=[SAME], value=SAME)}
            elif controls:
                self.theirs["img2img_denoising_strength"] = gr.Slider(elem_id="img2img_denoising_strength", value=0.75)
            self.controls = ui.build(tab == "img2img", script)
            gallery = gr.Gallery(elem_id=f"{tab}_gallery")
            self.connect[f"{tab}_gallery"](SimpleNamespace(component=gallery))
        self.all = {c.elem_id: c for c in self.root.inside() if c.elem_id}

    def __getitem__(self, name):
        if name == "enable" and self.host.gr.__version__.startswith("3"):
            name = "checkbox"  # gradio's name of the checkbox in the accordion's header
        return self.all[f"{self.tab}-ad-{name}"]

    def change(self, component, **values):
        """Return the output of a control's single event. All inputs have their first values except `values`."""
        (name, event), = component.events
        given = []
        for source in event["inputs"]:
            key = (source.elem_id or "").removeprefix(f"{self.tab}-ad-").replace("-", "_").replace("checkbox", "enable")
            value = values.get(key, values.get(source.elem_id, source.value))
            given.append(source.preprocess(value) if hasattr(source, "preprocess") else value)
        return event["fn"](*given)

    def told(self, **values):
        return text(self.change(self["enable"], **values))


def text(markup):
    tags = r"(?:<(?:div|p|span|b)(?: class=\"[\w -]+\")?(?: data-number=\"\d+\")?>|</(?:div|p|span|b)>|[^<>]+)*"
    assert re.fullmatch(tags, markup), markup
    return html.unescape(re.sub(r"<[^>]+>", "|", markup))


def test_a_control_for_every_parameter_of_a_clip(host):
    from animatediff.hosts.a1111 import request

    controls = Page(host).controls
    ids = [f"txt2img-ad-{name.replace('_', '-')}" for name in request.ORDER]
    assert [c.elem_id.replace("checkbox", "enable") for c in controls.components] == ids
    for name, control in zip(CLIP, controls.components):
        assert control.label == CLIP[name].label and control.webui_tooltip
        default = list(CLIP[name].default) if CLIP[name].type is tuple else CLIP[name].default
        if CLIP[name].form == "picture":
            default = None
        assert control.value == default and type(control.value) is type(default)
    read = request.read([True, *(c.value for c in controls.components[1:])])
    assert read == Settings(enable=True)


def test_kinds_of_controls(host):
    page = Page(host)
    kinds = {name: type(page[name.replace("_", "-")]).__name__ for name in CLIP}
    assert isinstance(page["enable"], host.gr.Checkbox)
    assert kinds | { "motion_module": "Dropdown", "formats": "CheckboxGroup", "fps": "Number",
                    "closed_loop": "Dropdown", "seam_repair": "Slider", "frames": "Number",
                    "request_id": "Textbox"} == kinds


def test_a_later_parameter_is_shown_without_further_ado(host, monkeypatch):
    from animatediff.hosts.a1111 import ui
    from animatediff.hosts.shared import infotext
    from animatediff.parameters import Parameter

    new = [Parameter("strength", float, 0.5, "Strength", "How much.", minimum=0, maximum=1),
           Parameter("count", int, 3, "Count", "How many.", minimum=1, maximum=9),
           Parameter("kind", str, "a", "Kind", "Which.", choices=tuple("abcdef"))]
    monkeypatch.setattr(ui, "CLIP", (*ui.CLIP, *new))
    monkeypatch.setattr(infotext, "CLIP", infotext.CLIP | {p.name: p for p in new})
    monkeypatch.setattr(ui, "lines", lambda ours, theirs, from_picture: repr(ours))
    page = Page(host)
    assert [type(page[p.name]).__name__ for p in new] == ["Slider", "Slider", "Dropdown"]
    assert page["count"].given["step"] == 1 and page["strength"].given["step"] < 1
    assert "'strength': 0.9" in page.change(page["strength"], strength=0.9)


def test_enable_comes_first_and_the_lines_next(host, version):
    page = Page(host)
    ours = [c.elem_id for c in page.root.inside() if c.elem_id and c.elem_id.startswith("txt2img-ad")]
    in_header = ["txt2img-ad-checkbox", "txt2img-ad"]
    in_front = in_header if version.startswith("3") else ["txt2img-ad", "txt2img-ad-enable"]
    assert ours[:4] == [*in_front, "txt2img-ad-preflight", "txt2img-ad-motion-module"]
    assert page["enable"].label == "Enable AnimateDiff"
    header = next(c for c in page.root.inside() if c.elem_id == "txt2img-ad")
    # ui-config.json stores the accordion's state under its label: it must be that of the checkbox.
    assert header.label == ("Enable AnimateDiff" if version.startswith("3") else "AnimateDiff")


def test_both_tabs_and_repeated_building(host):
    from animatediff.hosts.a1111 import ui

    assert Page(host, "img2img")["enable"].elem_id.startswith("img2img-ad-")
    with Blocks():  # the API requests default values outside of a page
        once, again = (ui.build(False, SimpleNamespace()) for _ in range(2))
    assert [c.value for c in once.components] == [c.value for c in again.components]


def test_no_event_writes_to_a_control_but_lists_and_buttons(host):
    page = Page(host)
    ours = set(map(id, page.controls.components))
    for component in page.root.inside():
        for _, event in component.events:
            written = [c.elem_id for c in event["outputs"] if id(c) in ours]
            assert event["queue"] is False and event["show_progress"] == "hidden"
            writers = {"txt2img-ad-motion-module": ("txt2img-ad-refresh", "txt2img-ad-update"),
                       "txt2img-ad-motion-lora": ("txt2img-ad-lora-add",),
                       "txt2img-ad-motion-mask": ("txt2img-ad-mask-take",),
                       "txt2img-ad-mask-path": ("txt2img-ad-mask-upload",),
                       "txt2img-ad-audio": ("txt2img-ad-sound-upload",),
                       "txt2img-ad-video-source": ("txt2img-ad-source-upload",)}
            assert not written or component.elem_id in writers[written[0]]
            rate = ["txt2img-ad-fps"] if component.elem_id == "txt2img-ad-source-upload" else []
            assert written[1:] == rate


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_every_control_that_matters_renews_the_lines(host, tab):
    page = Page(host, tab)
    ours = [c for c in page.controls.components if type(c).__name__ != "Image"]  # pictures are not sent
    for component in (*ours, *page.theirs.values()):
        (event, wired), = [attached for attached in component.events if attached[0] != "input"]
        assert event == ("release" if type(component).__name__ == "Slider" else "change"), component.elem_id
        assert [c.elem_id for c in wired["outputs"]] == [f"{tab}-ad-preflight"]
        assert wired["inputs"] == [*ours, *page.theirs.values()]


def test_what_the_lines_say(host):
    page = Page(host)
    assert page.told().startswith("|||Not enabled.")
    said = page.told(enable=True, frames=40, closed_loop="A", txt2img_batch_count=3)
    total = windows.total(40, 16, steps=20, closed_loop="A")
    assert "Not enabled" not in said and "|Frames|" in said and f"{total} × 3 = {3 * total:,}" in said
    assert "v2.safetensors" in said and "v2 (SD1.5)" in said
    said = page.told(enable=True, **{"txt2img_hr-checkbox": True, "txt2img_hires_steps": 7})
    assert "20 + 7 = 27" in said
    assert "20 + 20 = 40" in page.told(**{"txt2img_hr-checkbox": True})
    assert "UNet calls| |19|" in page.told(txt2img_sampling="DDIM")
    xl = page.told(motion_module="xl.safetensors")
    assert "xl.safetensors is an SDXL motion module but the checkpoint is SD1.5" in xl
    assert "FPS: -1 is out of range" in page.told(fps=-1)
    assert "Frames" in page.told(fps=None)  # an emptied box sets nothing
    assert "names none" in page.told(formats=[])
    assert "no such motion module" in page.told(motion_module="<b>gone</b>")


@pytest.mark.parametrize("frames", [4, 100_000])
def test_the_lines_unfold_to_what_each_frame_shows(host, frames):
    from animatediff.hosts.a1111 import ui

    ours = {p.name: p.default for p in CLIP.values()} | {"frames": frames}
    said = ui.lines(ours, {"prompt": f"0: a\n{frames - 1}: <b>"}, from_picture=False)
    rows = [re.findall("<t[dh]>(.*?)</t[dh]>", row) for row in re.findall("<tr>(.*?)</tr>", said)]
    assert rows[:2] == [["Frames", "Share", "Prompt"], ["0", "100%", "a"]]
    if frames == 4:
        assert rows[2:] == [["1", "67%", "a"], ["", "33%", "&lt;b&gt;"], ["2", "67%", "&lt;b&gt;"], ["", "33%", "a"],
                            ["3", "100%", "&lt;b&gt;"]]
    else:
        assert rows[-1] == ["…", "", ""] and 100 < len(rows) < 1000


def test_events_are_answered_one_by_one(host, monkeypatch):
    """Otherwise the result of an older event could arrive after that of a newer one, and stay on the page."""
    from animatediff.hosts.a1111 import ui

    running, at_once = [], []

    def lines(*_, **__):
        running.append(True)
        at_once.append(len(running))
        time.sleep(0.05)
        running.pop()
        return ""

    monkeypatch.setattr(ui, "lines", lines)
    page = Page(host)
    threads = [Thread(target=page.told, kwargs={"frames": frames}) for frames in (16, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert at_once == [1, 1]


def test_steps_of_img2img(host):
    page = Page(host, "img2img")
    assert "UNet calls| |16|" in page.told()
    host.opts.data["img2img_fix_steps"] = True
    assert "UNet calls| |20|" in page.told()


def test_a_page_without_the_hosts_controls(host):
    assert "UNet calls" in Page(host, controls=False).told()


def test_an_unexpected_error_is_shown_and_reported(host, monkeypatch):
    page = Page(host)
    from animatediff.hosts.a1111 import library

    reported = []
    monkeypatch.setattr(library, "described", lambda name: 1 / 0)
    monkeypatch.setattr(sys.modules["modules.errors"], "report", lambda *a, **k: reported.append(a))
    assert "ZeroDivisionError" in page.told() and reported


def test_no_checkpoint_is_loaded_for_the_page(host):
    class Loading(ModuleType):
        @property
        def sd_model(self):
            raise AssertionError("this loads the checkpoint and blocks the start")

    shared = sys.modules["modules.shared"]
    del shared.sd_model
    shared.__class__ = Loading
    sys.modules["modules.sd_models"].model_data = SimpleNamespace(sd_model=None)
    assert "No checkpoint is loaded yet" in Page(host).told()


class Browser:
    """The list of modules as the browser shows it, and the value that it sends."""

    def __init__(self, control, version):
        self.control, self.pairs = control, version.startswith("4")

    def show(self, config):
        return [c[0] for c in config["choices"]] if self.pairs else config["choices"]

    def send(self, label, choices):
        return self.control.preprocess(dict(choices).get(label, label) if self.pairs else label)


def test_the_list_of_modules(host, version):
    page = Page(host)
    control = page["motion-module"]
    browser = Browser(control, version)
    config = control.get_config()
    fits = "v2.safetensors (v2, 16 frames)"
    misfit = "xl.safetensors (HotShot-XL, 8 frames; does not fit the checkpoint)"
    assert browser.show(config) == ["Automatic", fits, misfit]
    assert control.value == "" and config["value"] == ("" if version.startswith("4") else "Automatic")
    assert browser.send("Automatic", config["choices"]) == ""
    assert browser.send(fits, config["choices"]) == "v2.safetensors"
    # The host stores default values and its API lists choices. Both must be file names.
    names = [c[1] if isinstance(c, tuple) else c for c in control.choices]
    assert names == ["", "v2.safetensors", "xl.safetensors"]

    (host.models / "v2.safetensors").unlink()
    write_module(host.models / "v3.ckpt", "v3")
    update, _, said = page.change(page["refresh"], motion_module="v2.safetensors")
    assert browser.show(update) == ["Automatic", "v3.ckpt (v3, 16 frames)", misfit]
    assert "no such motion module" in text(said) and "v3.ckpt" in text(said)
    assert control.postprocess(update["value"]) in ("v2.safetensors", fits)  # it stays, although the file was removed
    assert browser.send("v3.ckpt (v3, 16 frames)", update["choices"]) == "v3.ckpt"


def test_what_cannot_be_used_comes_last_in_the_list(host):
    (host.models / "a_cut.ckpt").write_bytes(b"")
    (host.models / "v2.safetensors").rename(host.models / "z_v2.safetensors")
    labels = Page(host)["motion-module"].get_config()["choices"]
    names = [(label[1] if isinstance(label, tuple) else label).split(" ")[0] for label in labels]
    assert names == [names[0], "z_v2.safetensors", "xl.safetensors", "a_cut.ckpt"]


def test_a_choice_sent_to_the_other_tab_keeps_its_label(host, version):
    from animatediff.hosts.a1111.module_list import ModuleList

    first, second = Page(host), Page(host, "img2img")
    write_module(host.models / "new.ckpt", "v3")
    first.change(first["refresh"])
    assert ModuleList.labels["new.ckpt"] == "new.ckpt (v3, 16 frames)"
    if version.startswith("3"):
        assert second["motion-module"].postprocess("new.ckpt") == "new.ckpt (v3, 16 frames)"
        assert second["motion-module"].preprocess("new.ckpt (v3, 16 frames)") == "new.ckpt"


def test_an_empty_folder(host):
    for path in host.models.iterdir():
        path.unlink()
    said = Page(host).told()
    assert str(host.models) in said and "v3_sd15_mm.ckpt" in said and "refresh button" in said


# Settings.


def test_settings_page(host):
    from animatediff.hosts.a1111 import options
    from animatediff.media.write.base import WriteOptions

    options.on_ui_settings()
    labels = host.opts.data_labels
    ours = {key: info for key, info in labels.items() if key.startswith("animatediff_")}
    assert len(ours) >= 10 and all(info.section == ("animatediff", "AnimateDiff") for info in ours.values())
    assert ours["animatediff_model_path"].restrict_api  # a request must not select other folders
    assert options.write_options() == WriteOptions()
    for info in ours.values():
        info.component(label=info.label, value=info.default, **(info.component_args or {}))


def test_values_of_the_older_extension(host):
    """The older extension's defaults, as config.json has them after its page was saved."""
    from animatediff.hosts.a1111 import options
    from animatediff.media.write.base import WriteOptions

    host.opts.data |= {"animatediff_mp4_crf": 23, "animatediff_mp4_preset": "", "animatediff_webp_quality": 80.0,
                       "animatediff_webp_lossless": True, "animatediff_default_save_formats": ["WEBM", "PNG"],
                       "animatediff_gif_palette": None}
    assert options.write_options() == WriteOptions(mp4_crf=23, webp_quality=80, webp_lossless=True)
    assert options.default_formats() == ("WEBM", "PNG")
    assert Page(host)["formats"].value == ["WEBM", "PNG"]
    for nonsense in (["AVI"], [], "no", 7):
        host.opts.data["animatediff_default_save_formats"] = nonsense
        assert options.default_formats() == CLIP["formats"].default
    host.opts.data["enable_pnginfo"] = False
    assert not options.write_options().embed_text
    host.opts.data["animatediff_mp4_crf"] = 99
    assert options.write_options().mp4_crf == WriteOptions().mp4_crf


# The X/Y/Z plot.


@pytest.fixture
def grid(host):
    """The script's module as the host loads it, with the arguments of its AxisOption (scripts/xyz_grid.py of 1.10.1).
    """
    module = ModuleType("xyz_grid.py")

    class AxisOption:
        def __init__(self, label, type, apply, format_value=None, confirm=None, cost=0.0, choices=None, prepare=None):
            self.label, self.type, self.apply, self.confirm, self.cost, self.choices = (
                label, type, apply, confirm, cost, choices)

    module.AxisOption, module.axis_options = AxisOption, [AxisOption("Steps", int, None)]
    script = type("Script", (), {"__module__": "xyz_grid.py"})
    host.scripts.scripts_data[:] = [SimpleNamespace(script_class=script, module=module)]
    return module


def test_axes(grid):
    from animatediff.hosts.a1111 import axes, request

    axes.add()
    axes.add()  # the host builds its page again
    found = {option.label: option for option in grid.axis_options}
    assert list(found) == ["Steps", *(f"[AnimateDiff] {p.label}" for p in CLIP.values()
                                        if p.form != "picture" and p.name != "preset")]
    assert len(found) == len(grid.axis_options)
    overlap, frames = found["[AnimateDiff] Overlap"], found["[AnimateDiff] Number of frames"]
    assert overlap.type is int and found["[AnimateDiff] FPS"].type is float
    p = SimpleNamespace()
    cells = []
    for value in (0, 8):
        cell = SimpleNamespace(**vars(p))  # copy(p)
        overlap.apply(cell, value, (0, 8))
        frames.apply(cell, 24, (24,))
        cells.append(cell)
    assert not vars(p)
    read = [request.read([True], cell.animatediff_xyz) for cell in cells]
    assert [(s.overlap, s.frames) for s in read] == [(0, 24), (8, 24)]
    formats = found["[AnimateDiff] Save format"]
    formats.apply(p, formats.type("MP4, gif"), ())
    enable = found["[AnimateDiff] Enable AnimateDiff"]
    assert [enable.type(choice) for choice in enable.choices()] == ["True", "False"]
    enable.apply(p, "False", ())
    assert p.animatediff_xyz == {"formats": ("GIF", "MP4"), "enable": False}
    assert found["[AnimateDiff] Motion module"].choices() == ["v2.safetensors", "xl.safetensors"]


@pytest.mark.parametrize(("label", "name", "good", "bad"), [
    ("Number of frames", "frames", [8, 16], -1), ("FPS", "fps", [0.0, 8.0], 0.001),
    ("Overlap", "overlap", [-1, 20], -2), ("Motion scale", "motion_scale", ["1", "0: 1, 8: 0"], "0: 1, 8")])
def test_axes_refuse_before_the_first_picture(grid, label, name, good, bad):
    from animatediff.errors import SettingsError
    from animatediff.hosts.a1111 import axes

    axes.add()
    axis = next(option for option in grid.axis_options if option.label == f"[AnimateDiff] {label}")
    axis.confirm(None, good)
    with pytest.raises(SettingsError, match=name) as caught:
        axis.confirm(None, [good[0], bad])
    assert vars(caught.value)["status_code"] == 422 and name in vars(caught.value)["detail"]  # for the API


def test_axes_without_the_script(host):
    from animatediff.hosts.a1111 import axes

    host.scripts.scripts_data[:] = []
    axes.add()


def test_the_axis_option_is_the_hosts():
    import os

    folder = os.environ.get("WEBUI_DIR")
    if not folder:
        pytest.skip("needs WEBUI_DIR")
    source = (Path(folder) / "scripts" / "xyz_grid.py").read_text("utf-8")
    taken = ("self, label, type, apply, format_value=format_value_add_label, confirm=None, cost=0.0, choices=None, "
             "prepare=None")
    assert f"class AxisOption:\n    def __init__({taken}):" in source
    assert "format_value=None, confirm=None, cost=0.0, choices=None, prepare=None" in inspect.getsource(grid)
