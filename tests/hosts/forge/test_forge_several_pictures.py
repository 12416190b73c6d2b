"""Units of Forge's ControlNet with several pictures: hints of key frames, and an IP-Adapter's pictures by window."""
from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import forge_call
import forge_host
import numpy as np
import pytest
import torch
from PIL import Image
from test_forge_call import FRAMES, Run, ask, plenty
from test_forge_controlnet_units import ControlNetUnit
from torch import Tensor

from animatediff.errors import ModelError, SettingsError
from animatediff.hosts.forge import calls
from animatediff.settings import Settings

NAME = "ControlNet unit 0"
TOKENS = (4, 8)


@pytest.fixture
def forges(lasting_host):
    from animatediff.hosts.neighbours import forge_controlnet

    return forge_controlnet


class Vision:
    """A CLIP vision network. It counts the pictures of its calls."""

    load_device = "cpu"

    def __init__(self):
        self.seen = []

    def encode_image(self, image: Tensor) -> SimpleNamespace:
        self.seen.append(len(image))
        assert image.shape[1:3] == (224, 224)
        return SimpleNamespace(image_embeds=image.mean((1, 2)), mm_projected=None)

    def model(self, *, pixel_values: Tensor):
        self.seen.append(len(pixel_values))
        return {"hidden_states": (pixel_values, pixel_values + 1)}


class Script:
    """The part of ControlNet's script that is used."""

    args_from, args_to = 0, 1

    def __init__(self, unit, pictures, **hint):
        self.unit, self.pictures, self.vision = unit, pictures, Vision()
        self.hint = hint
        made = self.preprocessor(pictures[0], None, 512)
        self.current_params = {0: SimpleNamespace(control_cond=made, control_cond_for_hr_fix=made, control_mask=None,
                                                  control_mask_for_hr_fix=None, preprocessor=self.preprocessor)}

    def preprocessor(self, input_image, input_mask, resolution, slider_1=None, slider_2=None):
        return {"image": input_image[None], "clip_vision": self.vision, "unfold_batch": False, **self.hint}

    def get_enabled_units(self, units):
        return [unit for unit in units if unit.enabled]

    def get_target_dimensions(self, p):
        return 64, 64, 128, 128

    def get_input_data(self, p, unit, preprocessor, height, width):
        return [(picture, None) for picture in self.pictures], None

    def process_unit_before_every_sampling(self, p, unit, params, *args):
        if unit.weight is None:
            raise RuntimeError("no weight")


def units(forges, pictures, keys=(), frames=FRAMES, weight: float | None = 1.0, **hint):
    unit = SimpleNamespace(enabled=True, module="CLIP", processor_res=512, threshold_a=0.5, threshold_b=0.5,
                           weight=weight)
    script = Script(unit, pictures, **hint)
    settings = Settings(enable=True, frames=frames)
    return forges.Units(SimpleNamespace(script_args=(unit,)), script, settings, frames,
                        [forges.Pictures(NAME, unit, keys)])


def shades(count: int, height: int = 32, width: int = 32) -> list[Tensor]:
    return [torch.full((height, width, 3), i / count) for i in range(count)]


@pytest.mark.parametrize("negative", [True, False])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("host", ["KModel", "BaseModel"])
def test_a_window_has_the_pictures_of_its_frames(host, parts, negative):
    patcher = forge_call.Patcher(getattr(forge_call, host)())
    random = torch.Generator().manual_seed(2)
    adapter = forge_call.Adapter(*(torch.randn(FRAMES, *TOKENS, generator=random) for _ in range(2)), True)
    patcher.model_options["transformer_options"]["patches_replace"] = {"attn2": {("input", 1): adapter}}
    whole, run = ask(patcher, parts=parts, negative=negative), Run()
    with calls.called(patcher, run, plenty):
        made = ask(patcher, run, parts=parts, negative=negative)
    assert len(patcher.model.calls) > 3 and torch.allclose(made, whole, atol=1e-5)
    adapter.conds[0] = adapter.conds[0].flip(0)
    assert not torch.allclose(made, ask(patcher, parts=parts, negative=negative), atol=1e-2)


def test_an_adapter_gets_all_pictures_once_and_one_by_one(forges):
    found = units(forges, shades(FRAMES))
    params = found.script.current_params[0]
    for _ in range(2):  # clips of a job
        with found.around_clip():
            hint = params.control_cond
    assert params.control_cond_for_hr_fix is hint and hint["unfold_batch"]
    assert hint["image"].shape == (FRAMES, 224, 224, 3) and hint["clip_vision"].load_device == "cpu"
    embeds = hint["clip_vision"].encode_image(hint["image"]).image_embeds
    assert torch.allclose(embeds[:, 0], torch.arange(FRAMES) / FRAMES, atol=1e-6)
    zeros = hint["clip_vision"].model(pixel_values=torch.zeros(FRAMES, 3)).hidden_states[-2]
    assert zeros.shape == (FRAMES, 3) and found.script.vision.seen == [1] * (FRAMES + 1)


def test_uploaded_pictures_are_repeated_as_hints_are(forges):
    found = units(forges, shades(2))
    found.pictures = []
    [unit] = found.p.script_args
    for mode, count in (("SIMPLE", 1), ("MERGE", FRAMES)):
        unit.input_mode = SimpleNamespace(name=mode)
        found.prepared = False
        with found.around_clip():
            assert len(found.script.current_params[0].control_cond["image"]) == count
    shown = found.script.current_params[0].control_cond["image"][:, 0, 0, 0]
    assert torch.allclose(shown, torch.arange(FRAMES) % 2 / 2)


@pytest.mark.parametrize(("faces", "size"), [(False, (224, 224)), (True, (90, 70))])
def test_pictures_may_have_any_size(forges, faces, size):
    sizes = [(32, 70), (90, 50), (64, 64)]
    pictures = [torch.full((*size, 3), 0.5) for size in sizes]
    found = units(forges, pictures, frames=3, **({"insightface": object()} if faces else {}))
    with found.around_clip():
        image = found.script.current_params[0].control_cond["image"]
    assert image.shape == (3, *size, 3)
    for picture, (height, width) in zip(image, sizes):
        assert torch.allclose(picture[:height, :width] if faces else picture, torch.tensor(0.5), atol=1e-6)
        assert not faces or (not picture[height:].any() and not picture[:, width:].any())


def test_pictures_of_key_frames_travel(forges):
    found = units(forges, shades(2), keys=[2, 6])
    with found.around_clip():
        mark = found.script.current_params[0].control_cond["unfold_batch"]
        at_keys = torch.stack([torch.eye(*TOKENS), torch.eye(*TOKENS).flip(0)])
        patch, other = forge_call.Adapter(at_keys, at_keys * 0, mark), forge_call.Adapter(at_keys, at_keys, True)
        options = {"patches_replace": {"attn2": {1: patch, 2: other}}}
        found.check(options)
        found.check(options)  # a second run of the sampler in the same pass
    made = patch.conds[0]
    assert len(made) == len(patch.unconds[0]) == FRAMES and patch.unfold_batch[0] and other.conds[0] is at_keys
    assert all(torch.allclose(made[frame], at_keys[0]) for frame in range(3))
    assert all(torch.allclose(made[frame], at_keys[1]) for frame in range(6, FRAMES))
    assert torch.allclose(made[4], made[4].flip(0), atol=1e-6), "half of each"


@pytest.mark.parametrize("clips", [1, 2])
def test_hints_of_key_frames_are_in_their_places(forges, clips):
    """reForge has hints for all clips of a job. Both hosts repeat the folder's pictures."""
    found = units(forges, shades(1), keys=[1, 4])
    hints = (torch.arange(FRAMES * clips) % 2 + 1.0)[:, None, None, None].expand(-1, 3, 8, 8).contiguous()
    params = found.script.current_params[0]
    params.control_cond, params.control_cond_for_hr_fix, params.control_mask = hints, hints + 2, hints[:, :1]
    for _ in range(2):
        with found.around_clip():
            pass
    shown = [0, 1, 0, 0, 2, 0, 0, 0, 0]
    assert params.control_cond[:, 0, 0, 0].tolist() == shown * clips
    assert params.control_cond_for_hr_fix[:, 0, 0, 0].tolist() == [value and value + 2 for value in shown] * clips
    assert params.control_mask[:, 0, 0, 0].tolist() == [1, 1, 1, 1, 2, 2, 2, 2, 2] * clips


@pytest.mark.parametrize("hint", [{"instant_id": True}, None], ids=["InstantID", "no picture"])
def test_a_preprocessor_for_one_picture_is_refused(forges, hint):
    found = units(forges, shades(2), frames=2, **(hint or {}))
    if hint is None:
        found.script.current_params[0].control_cond = SimpleNamespace(image_embeds=torch.zeros(1))
    with pytest.raises(SettingsError, match=f"{NAME}: ControlNet's preprocessor 'CLIP' takes one picture"):
        found.around_clip().__enter__()


def test_a_picture_that_cannot_be_prepared_stops_the_clip(forges):
    found = units(forges, shades(2), frames=2)
    found.script.current_params[0].preprocessor = None
    with pytest.raises(ModelError, match=f"{NAME}: ControlNet could not prepare its pictures .'NoneType'"):
        found.around_clip().__enter__()


def test_a_unit_that_could_not_be_applied_stops_the_clip(forges):
    """The host prints the error and would go on without the unit."""
    found = units(forges, shades(FRAMES), weight=None)
    script, params = found.script, found.script.current_params[0]
    with found.around_clip():
        with pytest.raises(RuntimeError, match="no weight"):
            script.process_unit_before_every_sampling(found.p, found.script.unit, params)
        with pytest.raises(ModelError, match=f"{NAME}: ControlNet could not apply it .no weight."):
            found.check({})
    assert "process_unit_before_every_sampling" not in vars(script)


def test_lllite_has_the_pictures_of_a_windows_frames(forges):
    pictures = torch.rand(FRAMES, 3, 8, 8)
    modules = {"a": SimpleNamespace(cond_image=pictures, cond_emb="of all"),
               "b": SimpleNamespace(cond_image=pictures[:1], cond_emb="of one"), "c": SimpleNamespace()}
    patch = SimpleNamespace(modules=modules)
    options = {"patches": {"attn1_patch": [patch, print], "attn2_patch": [patch]}}
    with forges.in_window(options, FRAMES, (3, 4, 5)):
        assert torch.equal(modules["a"].cond_image, pictures[3:6]) and modules["a"].cond_emb is None
        assert modules["b"].cond_emb == "of one"
    assert modules["a"].cond_image is pictures and modules["a"].cond_emb == "of all"


# -- whole jobs --------------------------------------------------------------------------------------------------------


@dataclass
class Unit(ControlNetUnit):
    module: str = "CLIP"
    processor_res: int = 512
    threshold_a: float = 0.5
    threshold_b: float = 0.5
    weight: float | None = 1.0

    @staticmethod
    def from_dict(d):
        return Unit(**d)


@pytest.fixture
def job_host(bare_host, monkeypatch):
    """The stand-in as Forge, with a script like ControlNet's and an IP-Adapter that adds the shade of a picture."""
    external = ModuleType("lib_controlnet.external_code")
    external.ControlNetUnit = Unit  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "lib_controlnet.external_code", external)
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "packages"))
    listed = lambda folder: sorted(str(path) for path in Path(folder).iterdir() if path.is_file())  # noqa: E731
    monkeypatch.setattr(bare_host.shared, "listfiles", listed, raising=False)
    bare_host.patcher = forge_host.become_forge(bare_host, monkeypatch)
    bare_host.load(Path(__file__).parents[3] / "scripts" / "animatediff.py")
    bare_host.scripts.scripts_data.append((_controlnet(bare_host), "controlnet.py"))
    bare_host.show()
    yield bare_host
    for name in [name for name in sys.modules if name.split(".")[0] in ("backend", "modules_forge")]:
        del sys.modules[name]


def _controlnet(host):
    class Controls(host.scripts.Script, Script):
        def __init__(self):
            pass

        def title(self):
            return "ControlNet"

        def show(self, is_img2img):
            return host.scripts.AlwaysVisible

        def process(self, p, *units):
            self.current_params = {}
            for i, unit in enumerate(self.get_enabled_units(units)):
                Script.__init__(self, unit, [self.picture(path) for path in self.files(p, unit)])

        def files(self, p, unit):
            files = host.shared.listfiles(unit.batch_image_dir)
            for modifier in unit.batch_modifiers:
                files = modifier(files, p)
            return files

        def picture(self, path):
            return torch.from_numpy(np.asarray(Image.open(path)).copy()) / 255

        def process_before_every_sampling(self, p, *units, **kwargs):
            for i, unit in enumerate(self.get_enabled_units(units)):
                self.process_unit_before_every_sampling(p, unit, self.current_params[i])

        def process_unit_before_every_sampling(self, p, unit, params, *args):
            super().process_unit_before_every_sampling(p, unit, params)
            hint = params.control_cond
            shades = hint["clip_vision"].encode_image(hint["image"]).image_embeds[:, None]
            host.adapter = forge_call.Adapter(shades * unit.weight, shades * 0, hint["unfold_batch"])
            patcher = p.sd_model.forge_objects.unet
            patcher.model_options = {"transformer_options": {"patches_replace": {"attn2": {1: host.adapter}}}}

    return Controls


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "pictures"
    place.mkdir()
    for i in range(6):
        Image.new("RGB", (32, 32), (40 * i,) * 3).save(place / f"{i}.png")
    return place


CLIP = {"enable": True, "model": "moving.safetensors", "video_length": 6, "batch_size": 4, "overlap": 1,
        "format": ["GIF"], "returns": "frames"}
REQUEST = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 2, "seed": 7, "sampler_name": "Euler",
           "cfg_scale": 5.0}


def clip(host, unit):
    return host.request("txt2img", REQUEST, {"AnimateDiff": [CLIP], "ControlNet": [unit]})


@pytest.mark.parametrize(("keys", "shown"), [("", [0.0, 1, 2, 3, 4, 5]),
                                             ("\nkeyframe: 1, 5", [0, 0, 0.25, 0.5, 0.75, 1])])
def test_a_job_gives_each_frame_its_picture(job_host, folder, keys, shown):
    assert clip(job_host, {"enabled": True, "batch_image_dir": f"{folder}{keys}"}).status == 200
    assert torch.allclose(job_host.adapter.conds[0].mean((1, 2)) * 255 / 40, torch.tensor(shown), atol=1e-4)
    windows = [call for call in job_host.patcher.model.calls if call["rows"] < 12]
    assert len(windows) >= 4


@pytest.mark.parametrize(("unit", "words"), [({"weight": None}, "could not apply it (no weight)"),
                                             ({"module": "InstantID"}, "'InstantID' takes one picture")])
def test_a_unit_that_fails_stops_the_job(job_host, folder, monkeypatch, unit, words):
    plain = Script.preprocessor
    if "module" in unit:
        monkeypatch.setattr(Script, "preprocessor", lambda *args, **kwargs: {**plain(*args, **kwargs), "instant_id": 1})
    answer = clip(job_host, {"enabled": True, "batch_image_dir": str(folder), **unit})
    assert answer.status == 422 and words in answer.detail and NAME in answer.detail
    assert not job_host.patcher.model.calls
