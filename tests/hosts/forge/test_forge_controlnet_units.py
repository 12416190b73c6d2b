"""Units of Forge's own ControlNet, whose attributes have other names, in a request for a clip."""
from __future__ import annotations

import sys
from copy import copy
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file


class InputMode(Enum):
    SIMPLE = "simple"
    BATCH = "batch"
    MERGE = "merge"


@dataclass
class ControlNetUnit:
    """The attributes of Forge's class that others may use (extensions-builtin/sd_forge_controlnet/lib_controlnet)."""

    input_mode: InputMode = InputMode.SIMPLE
    batch_image_dir: str = ""
    enabled: bool = True
    image: Any = None
    model: str = "None"

    @staticmethod
    def from_dict(d):
        return ControlNetUnit(**{key: value for key, value in d.items() if key in vars(ControlNetUnit)})


@pytest.fixture
def control(lasting_host, monkeypatch):
    external = ModuleType("lib_controlnet.external_code")
    external.ControlNetUnit = ControlNetUnit
    monkeypatch.setitem(sys.modules, "lib_controlnet.external_code", external)
    listed = lambda folder: sorted(str(path) for path in Path(folder).iterdir() if path.is_file())  # noqa: E731
    monkeypatch.setattr(lasting_host.shared, "listfiles", listed, raising=False)
    from animatediff.hosts.neighbours import controlnet

    return controlnet


@pytest.fixture
def pictures(lasting_host):
    folder = lasting_host.data / "hints"
    folder.mkdir(exist_ok=True)
    for i in range(5):
        Image.new("RGB", (8, 8)).save(folder / f"{i}.png")
    return folder


def job(*units, ready: int = 9):
    script = SimpleNamespace(title=lambda: "ControlNet", args_from=0, args_to=len(units),
                             current_params=dict.fromkeys(range(ready)))
    return SimpleNamespace(scripts=SimpleNamespace(alwayson_scripts=[script]), script_args=units, is_api=True)


@pytest.mark.parametrize("unit", [{"enabled": False}, {"enabled": True, "image": "a picture"}, ControlNetUnit(image=1),
                                  ControlNetUnit(enabled=False, batch_image_dir="/gone"), None], ids=str)
def test_units_without_a_folder_stay_as_they_are(control, unit):
    p = job(unit)
    found = control.folders(p)
    control.use(p, found, 16)
    assert found == [] and control.limit(found) is None and p.script_args == (unit,)


@pytest.mark.parametrize("as_dict", [True, False])
def test_a_folder_gives_a_picture_to_each_frame(control, pictures, as_dict):
    unit = ControlNetUnit(batch_image_dir=str(pictures))
    p = job({"batch_image_dir": str(pictures)} if as_dict else unit)
    before = copy(unit)
    found = control.folders(p)
    assert control.limit(found) == 5
    control.use(p, found, 3)
    [used] = p.script_args
    assert used.input_mode is InputMode.BATCH and unit == before, "the page's own unit is not changed"
    files = ["any"]
    for modifier in used.batch_modifiers:
        files = modifier(files, p)
    assert [Path(file).name for file in files] == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize(("text", "words"), [("/gone", "does not read files there"),
                                             ("{}\nkeyframe: 0, 2, 0", "0 is named twice"),
                                             ("{}\nkeyframe: 0, x", "does not name frames")])
def test_what_cannot_work_is_refused(control, pictures, text, words):
    from animatediff.errors import AnimateDiffError

    with pytest.raises(AnimateDiffError, match=words):
        control.folders(job({"batch_image_dir": text.format(pictures)}))


def test_key_frames_have_the_folders_first_pictures(control, pictures):
    p = job({"batch_image_dir": f"{pictures}\nkeyframe: 1, 6"})
    found = control.folders(p)
    assert control.limit(found) is None and found[0].keys == [1, 6]
    control.use(p, found, 8)
    [used] = p.script_args
    [modifier] = used.batch_modifiers
    assert used.batch_image_dir == str(pictures), "the host lists this folder"
    assert [Path(file).name for file in modifier([], p)] == ["0.png", "1.png"]


def test_a_folder_has_the_pictures_that_the_host_reads(control, pictures, lasting_host):
    (pictures / "1.png").rename(pictures / "1.webp")
    try:
        [found] = control.folders(job({"batch_image_dir": str(pictures)}))
        assert [Path(path).name for path in found.pictures] == ["0.png", "2.png", "3.png", "4.png"]
    finally:
        (pictures / "1.webp").rename(pictures / "1.png")


@pytest.mark.parametrize("layers", ["input_hint_block.0.weight", "controlnet_cond_embedding.conv_in.weight"])
def test_a_sparsectrl_model_is_refused(control, monkeypatch, tmp_path, layers):
    from animatediff.errors import SettingsError

    temporal = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.to_q.weight"
    models = {"control": {layers: torch.zeros(1)}, "sparse": {layers: torch.zeros(1), temporal: torch.zeros(1, 1)}}
    for name, weights in models.items():
        save_file(weights, tmp_path / name)
    state = SimpleNamespace(controlnet_filename_dict={name: str(tmp_path / name) for name in models})
    monkeypatch.setitem(sys.modules, "lib_controlnet.global_state", state)
    control.ControlNet().in_job(job({"model": "control", "image": 1}))
    with pytest.raises(SettingsError, match="unit 1: 'sparse' is a SparseCtrl model"):
        control.ControlNet().in_job(job({"model": "control", "image": 1}, {"model": "sparse", "image": 1}))


def test_a_unit_that_was_not_set_up_stops_the_clip(control):
    from animatediff.errors import ModelError

    control.check(job({"enabled": True}, {"enabled": False}, ready=1))
    with pytest.raises(ModelError, match="could not set up"):
        control.check(job({"enabled": True}, {"enabled": True}, ready=1))


@dataclass
class NeosUnit:
    """The attributes of Forge Neo's class, which has no folder."""

    enabled: bool = True
    image: Any = None
    image_fg: Any = None
    use_preview_as_input: bool = False
    model: str = "None"

    @staticmethod
    def from_dict(d):
        return NeosUnit(**{key: value for key, value in d.items() if key in vars(NeosUnit)})


class Page:
    """ControlNet's page."""

    GLOBAL_CONTROLNET_BATCH_DIR = ""


class NeosScript:
    args_from, args_to = 0, 1

    def title(self):
        return "ControlNet"

    def get_input_data(self, p, unit, preprocessor, h, w):
        assert not Page.GLOBAL_CONTROLNET_BATCH_DIR, "it would be read in place of the unit's picture"
        assert not unit.use_preview_as_input and not unit.image_fg[:, :, 3].any()
        return [[unit.image, None]], "mode"


@pytest.fixture
def neo(control, monkeypatch):
    sys.modules["lib_controlnet.external_code"].ControlNetUnit = NeosUnit
    module = ModuleType("lib_controlnet.controlnet_ui.controlnet_ui_group")
    module.ControlNetUiGroup = Page
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(Page, "GLOBAL_CONTROLNET_BATCH_DIR", "")
    return control


def neos_job(unit):
    scripts = SimpleNamespace(alwayson_scripts=[NeosScript()])
    return SimpleNamespace(scripts=scripts, script_args=(unit,), is_api=True)


def read(p, beside):
    """Return the first pixel of each picture that ControlNet reads in the job."""
    [script] = p.scripts.alwayson_scripts
    with beside.around_job():
        pairs, mode = script.get_input_data(p, p.script_args[0], None, 8, 8)
    assert mode == "mode" and "get_input_data" not in vars(script)
    return [int(image[0, 0, 0]) for image, _ in pairs]


@pytest.mark.parametrize("given", ["request", "page"])
def test_neos_units_read_a_picture_for_each_frame(neo, pictures, monkeypatch, given):
    for i in range(5):
        Image.new("RGB", (8, 8), (10 * i, 0, 0)).save(pictures / f"{i}.png")
    pages = NeosUnit(image=np.zeros((8, 8, 3)), use_preview_as_input=True)
    if given == "page":
        monkeypatch.setattr(Page, "GLOBAL_CONTROLNET_BATCH_DIR", str(pictures))
    p = neos_job(pages if given == "page" else {"batch_image_dir": str(pictures)})
    beside = neo.ControlNet().in_job(p)
    assert beside.frames == 5
    beside.use(3, list)
    assert read(p, beside) == [0, 10, 20]
    assert pages.image is not None and not hasattr(pages, "batch_image_dir"), "the page's own unit is not changed"
    assert str(pictures) == Page.GLOBAL_CONTROLNET_BATCH_DIR or given == "request"


def test_neos_units_without_a_picture_have_the_sources_frames(neo, pictures):
    Image.new("RGB", (8, 8), (70, 0, 0)).save(pictures / "3.png")
    p = neos_job({"enabled": True})
    beside = neo.ControlNet().in_job(p)
    assert beside.frames is None and beside.use(2, lambda: [str(pictures / "3.png"), str(pictures / "4.png")])
    assert read(p, beside)[0] == 70


def test_neos_units_with_a_picture_stay_as_they_are(neo):
    p = neos_job({"enabled": True, "image": np.full((8, 8, 3), 5), "image_fg": np.zeros((8, 8, 4))})
    beside = neo.ControlNet().in_job(p)
    assert not beside.use(3, list) and isinstance(p.script_args[0], dict)
