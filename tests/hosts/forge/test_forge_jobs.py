"""Whole jobs in the stand-in as Forge and as reForge: the same request makes the clip of the stand-in as the WebUI."""
from __future__ import annotations

import io
import sys
from pathlib import Path

import forge_call
import numpy as np
import pytest
from PIL import Image

HERE = Path(__file__).parent
PACKAGES = {"Forge": "packages", "reForge": "packages_reforge"}
ROOT = HERE.parents[2]
CLIP = {"enable": True, "model": "moving.safetensors", "video_length": 6, "batch_size": 4, "overlap": 1,
        "format": ["GIF"], "returns": "frames"}
REQUEST = {"prompt": "a red circle", "negative_prompt": "blue", "width": 64, "height": 64, "steps": 2, "seed": 7,
           "sampler_name": "Euler", "cfg_scale": 5.0}
ASKED = {
    "AND": {"prompt": "a red circle AND white :0.5"},
    "travel": {"prompt": "0: a red circle\n5: a blue square AND grass :0.5"},
    "lengths": {"prompt": ", ".join(["a red circle"] * 40)}, "CFG 1": {"cfg_scale": 1.0},
    "speed draft": {"steps": 10, "cfg_scale": 15.0},
}
SPEED = {"speed draft": "draft"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Run each request in the stand-in as the WebUI, as Forge and as reForge.

    Return, by the request's name, each host's frames, and Forge's and reForge's calls of the UNet and what they leave.
    """
    for path in (HERE.parent / "standin", HERE.parent.parent):
        sys.path.insert(0, str(path))
    from standin_host import standing_in
    from tiny_models import write_module

    def frames(host, name):
        clip = {**CLIP, "speed": SPEED.get(name, "exact")}
        answer = host.request("txt2img", {**REQUEST, **ASKED[name]}, {"AnimateDiff": [clip]})
        assert answer.status == 200, answer
        return np.stack([np.asarray(Image.open(io.BytesIO(raw)).convert("RGB")) for raw in answer.images]).astype(int)

    found = {name: {} for name in ASKED}
    for kind in ("WebUI", *PACKAGES):
        folder = tmp_path_factory.mktemp(kind)
        write_module(folder / "moving.safetensors", widths=(32, 32, 32, 32))
        with pytest.MonkeyPatch.context() as patch, standing_in(folder) as host:
            host.opts.data["animatediff_model_path"] = str(folder)
            if kind in PACKAGES:
                import forge_host

                patch.syspath_prepend(str(HERE / PACKAGES[kind]))
                patcher = forge_host.become_forge(host, patch, reforge=kind == "reForge")
            host.load(ROOT / "scripts" / "animatediff.py")
            host.show()
            for name in ASKED:
                if kind in PACKAGES:
                    before = _state(patcher, host.shared.sd_model)
                    patcher.model.calls.clear()
                found[name][kind] = frames(host, name)
                if kind in PACKAGES:
                    found[name] |= {f"{kind} calls": list(patcher.model.calls),
                                    f"{kind} left": _state(patcher, host.shared.sd_model) - before}
        for name in [name for name in sys.modules if name.split(".")[0] in ("backend", "modules_forge", "ldm_patched")]:
            del sys.modules[name]
    return found


def _state(patcher, checkpoint):
    model = patcher.model
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    own = [f"{type(m).__name__}.{k}" for m in model.modules() for k, v in vars(m).items()
           if callable(v) and not k.startswith("_")]
    return {("options", id(patcher.model_options), *patcher.model_options), ("hooks", hooks, *own),
            ("buffers", id(model.predictor.sigmas), id(model.predictor.log_sigmas)),
            ("alphas", id(getattr(checkpoint, "alphas_cumprod", None))),
            ("estimate", id(forge_call.KModel.memory_required), "memory_required" in vars(type(model)))}


@pytest.mark.parametrize("host", PACKAGES)
@pytest.mark.parametrize("name", ASKED)
def test_the_hosts_clip_is_the_webuis(made, name, host):
    """Equal except for the timestep, which the host rounds to an integer. See docs/hosts.md for real hosts."""
    difference = np.abs(made[name][host] - made[name]["WebUI"])
    assert made[name][host].shape == (6, 64, 64, 3) and difference.mean() < 0.1, difference.mean()
    assert np.abs(made[name][host] - made[name]["WebUI"][::-1]).mean() > 5 * difference.mean()


@pytest.mark.parametrize("host", PACKAGES)
@pytest.mark.parametrize("name", ASKED)
def test_the_unet_sees_windows_and_nothing_is_left(made, name, host):
    assert {call["rows"] // len(call["chunks"]) for call in made[name][f"{host} calls"]} == {4}
    assert made[name][f"{host} left"] == set()
