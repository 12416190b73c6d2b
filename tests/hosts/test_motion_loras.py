"""Motion LoRAs in the stand-in for the WebUI.

The oracle is a motion module into whose file the LoRA was merged, with up @ down in float64.
"""
from __future__ import annotations

import sys
from types import SimpleNamespace

import lora_files_by_hand as by_hand
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from slow_cases import slow
from test_standin_adapter import REQUEST, WIDTHS, animate, frames_of, host, library, plain, snapshot  # noqa: F401

FRAMES = {"returns": "frames"}
IMAGE = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
HIRES = {"enable_hr": True, "denoising_strength": 0.6, "hr_scale": 2, "steps": 2}


@pytest.fixture(scope="module")
def loras(tmp_path_factory):
    """The two files' tensors, written by hand, and their pairs."""
    first, second = by_hand.pairs(WIDTHS), by_hand.pairs(WIDTHS, seed=9)
    folder = tmp_path_factory.mktemp("loras")
    save_file(by_hand.original(first), folder / "zoom.safetensors")
    torch.save({"state_dict": by_hand.original(second, "module.")}, folder / "pan.ckpt")
    save_file(by_hand.original(by_hand.pairs((64,) * 4)), folder / "broad.safetensors")
    save_file({f"{IMAGE}.lora_down.weight": torch.ones(4, 32), f"{IMAGE}.lora_up.weight": torch.ones(32, 4)},
              folder / "style.safetensors")
    return SimpleNamespace(folder=folder, zoom=first, pan=second)


@pytest.fixture
def there(host, library, loras):
    """zoom lies beside the motion modules, the others in the host's LoRA folder.

    merged.safetensors contains 0.8 of zoom and -0.5 of pan.
    """
    theirs = host.data / "models" / "Lora"
    theirs.mkdir(parents=True)
    (library / "zoom.safetensors").write_bytes((loras.folder / "zoom.safetensors").read_bytes())
    for name in ("pan.ckpt", "broad.safetensors", "style.safetensors"):
        (theirs / name).write_bytes((loras.folder / name).read_bytes())
    state = load_file(library / "moving.safetensors")
    for weight, found in ((0.8, loras.zoom), (-0.5, loras.pan)):
        for (site, attention, layer), (down, up) in found.items():
            key = (f"{site}.temporal_transformer.transformer_blocks.0.attention_blocks.{attention}."
                   f"{layer.replace('out', 'out.0')}.weight")
            state[key] = (state[key].double() + weight * up.double() @ down.double()).float()
    save_file(state, library / "merged.safetensors")
    yield host
    for name in ("zoom", "merged"):
        (library / f"{name}.safetensors").unlink()


@pytest.fixture
def networks(monkeypatch):
    """The calls of the host's extra networks, one dictionary for each activation."""
    active = []

    def activate(p, data):
        active.append({kind: [network.items for network in found] for kind, found in (data or {}).items() if found})

    def install(host):
        monkeypatch.setattr(sys.modules["modules.extra_networks"], "activate", activate)
        return active

    return install


def near(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.abs(a.astype(int) - b).max() <= 2


def test_parameter_and_tags_give_the_merged_modules_clip_and_nothing_is_left(there, networks):
    before = snapshot(there), plain(there)
    active = networks(there)
    expected = frames_of(animate(there, {**FRAMES, "model": "merged.safetensors"}))
    named = frames_of(animate(there, {**FRAMES, "motion_lora": "zoom: 0.8; pan: -0.5"}))
    tags = f"{REQUEST['prompt']}<lora:zoom:0.8><lyco:pan:1:-0.5><lora:style:0.3>"
    tagged = frames_of(animate(there, FRAMES, prompt=tags))
    assert near(named, expected) and np.array_equal(named, tagged)
    assert active[-1] == {"lora": [["style", "0.3"]]}, "the image LoRA stays with the host, the others do not"
    assert not near(named, frames_of(animate(there, FRAMES)))
    assert (snapshot(there), plain(there)) == before


@pytest.mark.slow
def test_the_module_that_stays_in_memory_keeps_nothing(there):
    from animatediff.hosts.a1111 import job

    first = frames_of(animate(there, FRAMES))
    kept = job.loaded.cache_info().misses
    animate(there, {"motion_lora": "zoom; pan: 0: 1, 5: 0"})
    assert np.array_equal(frames_of(animate(there, FRAMES)), first) and job.loaded.cache_info().misses == kept


@pytest.mark.slow
def test_two_modules_that_take_turns_are_read_once(there, monkeypatch):
    from animatediff.hosts.a1111 import job

    job.loaded.cache_clear()
    models = ("moving.safetensors", "merged.safetensors")
    modules, load = [], job.load_module
    monkeypatch.setattr(job, "load_module", lambda *given, **more: modules.append(load(*given, **more)) or modules[-1])
    clips = [frames_of(animate(there, {**FRAMES, "model": models[k % 2]})) for k in range(4)]
    assert len(modules) == 2
    kept = [site.temporal_transformer.packed for module in modules for site in module.sites().values()]
    assert not any(kept), "copies of the weights go with the pass"
    assert np.array_equal(clips[0], clips[2]) and np.array_equal(clips[1], clips[3]) and not near(*clips[:2])


@pytest.mark.parametrize("error", [slow(RuntimeError), torch.OutOfMemoryError])
def test_what_fails_leaves_nothing(there, error):
    before, first = (snapshot(there), plain(there)), frames_of(animate(there, FRAMES))
    unet = there.shared.sd_model.model.diffusion_model
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) >= 2:
            raise error("no")

    handle = unet.register_forward_pre_hook(fail)
    answer = animate(there, {"motion_lora": "zoom: 0.8; pan: 0: 1, 5: 0"})
    handle.remove()
    assert answer.status == 500 and len(calls) >= 2
    assert (snapshot(there), plain(there)) == before and np.array_equal(frames_of(animate(there, FRAMES)), first)


def test_a_tag_in_a_key_frame_acts_where_its_prompt_does(there, networks):
    active = networks(there)
    cut = {**FRAMES, "travel_interpolation": "linear"}
    tagged = animate(there, cut, prompt="0: a star <lora:zoom:1>\n5: a star<lora:style:1>")
    expected = animate(there, {**cut, "motion_lora": "zoom: 0: 1, 5: 0"}, prompt="0: a star\n5: a star")
    assert near(frames_of(tagged), frames_of(expected))
    assert active[0] == {"lora": [["style", "1"]]}
    notes = tagged.info["extra_generation_params"]["AnimateDiff notes"]
    assert [note for note in notes if "whole clip" in note] == [
        "extra networks act on the whole clip, not only at the key frames that name them: style"]


@pytest.mark.slow
def test_hires_fix_has_its_own_prompts_loras(there, monkeypatch):
    from animatediff.hosts.a1111 import scope

    seen = []
    applied = scope.lora.applied
    monkeypatch.setattr(scope.lora, "applied", lambda module, loras, frames: seen.append(
        [(each.name, weight.constant) for each, weight in loras]) or applied(module, loras, frames))
    star = {"prompt": "a star <lora:zoom:0.8>", **HIRES}
    for more, second in (({}, [("zoom.safetensors", 0.8)]),
                         ({"hr_prompt": "a star <lora:pan:0.3>"}, [("pan.ckpt", 0.3)]), ({"hr_prompt": "a star"}, [])):
        seen.clear()
        assert animate(there, **star, **more).status == 200
        assert seen == [[("zoom.safetensors", 0.8)], second]


def test_the_domain_adapter_acts_on_the_unet(there, loras):
    from animatediff.motion.lora import unet_layers

    layers = unet_layers(there.shared.sd_model.model.diffusion_model)
    random = torch.Generator().manual_seed(4)
    state, merged = {}, {}
    for name, layer in layers.items():
        if "_attn1_to_" in name or "_attn2_to_" in name:
            down, up = (torch.randn(*shape, generator=random) * 0.2 for shape in
                        ((2, layer.in_features), (layer.out_features, 2)))
            head, last = name.removesuffix("_0" if name.endswith("to_out_0") else "").rsplit("_to_", 1)
            key = (head.replace("down_blocks_", "down_blocks.").replace("up_blocks_", "up_blocks.")
                   .replace("_attentions_", ".attentions.").replace("_transformer_blocks_", ".transformer_blocks.")
                   .replace("_attn", ".attn"))
            state |= {f"{key}.processor.to_{last}_lora.down.weight": down,
                      f"{key}.processor.to_{last}_lora.up.weight": up}
            merged[layer] = 0.5 * up.double() @ down.double()
    torch.save(state, there.data / "models" / "Lora" / "v3_sd15_adapter.ckpt")
    before = snapshot(there)
    named = frames_of(animate(there, {**FRAMES, "motion_lora": "v3_sd15_adapter: 0.5"}))
    tagged = frames_of(animate(there, FRAMES, prompt=f"{REQUEST['prompt']} <lora:v3_sd15_adapter:0.5>"))
    assert snapshot(there) == before and np.array_equal(named, tagged)
    without = frames_of(animate(there, FRAMES))
    kept = {layer: layer.weight.data.clone() for layer in merged}
    for layer, change in merged.items():
        layer.weight.data = (kept[layer].double() + change).float()
    expected = frames_of(animate(there, FRAMES))
    for layer, weight in kept.items():
        layer.weight.data = weight
    assert near(named, expected) and not near(named, without)


REFUSED = [
    ("nothing", "x",
     r"nothing: there is no such motion LoRA. There are zoom.safetensors, broad.safetensors, pan.ckpt; put one"),
    ("style", "x", "style.safetensors is an image LoRA, not a motion LoRA. Name it in the prompt"),
    ("moving", "x", "moving.safetensors is not a motion LoRA"),
    ("broad", "x",
     "broad.safetensors is made for 64/64/64/64 channels per level but moving.safetensors has 32/32/32/32"),
    ("", "x <lora:broad:1>", "broad.safetensors is made for"),
    ("", "x <lora:zoom:much>", "prompt, <lora:zoom:much>: 'much' is not a weight"),
    ("a: b", "x", "motion_lora: entry 1, column 4"),
]


def test_refusals_come_with_a_message(there):
    before = snapshot(there), plain(there)
    for parameter, prompt, said in REFUSED:
        answer = animate(there, {"motion_lora": parameter}, prompt=prompt)
        assert answer.status == 422 and said in answer.detail
        assert snapshot(there) == before[0]
    assert plain(there) == before[1]


def test_unknown_names_in_tags_are_the_hosts(there, networks):
    active = networks(there)
    assert animate(there, prompt="x <lora:unknown:1>").status == 200
    assert active[0] == {"lora": [["unknown", "1"]]}


def test_names_that_stand_inside_files_are_the_hosts_to_know(there, monkeypatch, networks):
    """The host's Lora extension also finds a file by the name in its metadata."""
    path = there.data / "models" / "Lora" / "pan.ckpt"
    monkeypatch.setitem(sys.modules, "networks", SimpleNamespace(
        available_network_aliases={"alias": SimpleNamespace(filename=str(path))}))
    active = networks(there)
    tagged = frames_of(animate(there, FRAMES, prompt=f"{REQUEST['prompt']}<lora:alias:0.5>"))
    assert np.array_equal(tagged, frames_of(animate(there, {**FRAMES, "motion_lora": "pan: 0.5"}))) and active[0] == {}


def test_where_extra_networks_are_off_tags_are(there):
    from animatediff.hosts.a1111 import motion_loras
    from animatediff.settings import Settings
    from animatediff.travel import Schedule

    prompts = ["a <lora:zoom:1>"] * 4
    p, prompt = SimpleNamespace(disable_extra_networks=True), Schedule.of_frames(prompts)
    assert [each.path.name for each in motion_loras.named(p, Settings(motion_lora="pan"), prompt)] == ["pan.ckpt"]
    p.disable_extra_networks = False
    assert len(motion_loras.named(p, Settings(motion_lora="pan"), prompt)) == 2


def test_before_the_run(there):
    from animatediff.hosts.a1111.run_facts import of_run
    from animatediff.settings import Settings

    def told(parameter, prompt="x"):
        return of_run(Settings(enable=True, motion_module="moving.safetensors", motion_lora=parameter),
                      {"prompt": prompt}, from_picture=False)

    found = told("zoom: 0.8; pan: 0: 1, 8: 0", "x <lora:zoom:-1> <lora:style:1>")
    assert "Motion LoRA: zoom.safetensors × 0.8, pan.ckpt × 0…1, zoom.safetensors × -1" in found.lines
    assert not found.problems
    for parameter, said in (("nothing", "no such motion LoRA"), ("broad", "is made for 64"),
                            ("style", "is an image LoRA")):
        assert any(said in problem for problem in told(parameter).problems), parameter
    assert any("column" in problem or "is not a weight" in problem for problem in told("", "<lora:zoom:x>").problems)


def test_lists(there):
    from animatediff.hosts.a1111 import axes
    from animatediff.hosts.a1111 import library as ours
    from animatediff.settings import BY_NAME

    assert [entry.name for entry in ours.lora_entries()] == ["zoom.safetensors", "broad.safetensors", "pan.ckpt"]
    assert "zoom.safetensors" not in [entry.name for entry in ours.entries()]
    assert axes.choices(BY_NAME["motion_lora"])()[:2] == ["", "zoom.safetensors"]


def test_the_infotext_has_them_and_is_read_again(there):
    from animatediff.hosts.shared import infotext

    text = 'zoom: 0.8; pan: 0: 1, 5: -0.5'
    answer = animate(there, {"motion_lora": text}, prompt="a star <lora:zoom:0.5>")
    found = answer.info["infotexts"][0]
    assert found.startswith("a star <lora:zoom:0.5>\n")
    written = answer.info["extra_generation_params"]["AnimateDiff"]
    assert infotext.loads(written)["motion_lora"] == text


@pytest.mark.slow
def test_nothing_is_left_on_the_request(there, monkeypatch):
    from animatediff.hosts.a1111 import job, travelling

    requests = []
    begin = travelling.in_clip
    monkeypatch.setattr(job.travelling, "in_clip", lambda p, settings: requests.append(p) or begin(p, settings))
    assert animate(there, {"motion_lora": "zoom"}, prompt="a <lora:pan:1>", n_iter=2).status == 200
    assert len(requests) == 2 and not set(travelling.METHODS) & vars(requests[0]).keys()
