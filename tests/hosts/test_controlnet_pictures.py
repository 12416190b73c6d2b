"""Several pictures for an IP-Adapter of ControlNet, mixed by our PromptScheduler when ControlNet sets up a unit.

The calling code is ControlNet's own if it is installed (WEBUI_EXTENSIONS), otherwise a copy of its statements.
"""
from __future__ import annotations

import ast
import logging
import os
import sys
import textwrap
from copy import deepcopy
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from tiny_models import write_module

ROOT = Path(__file__).parents[2]
STANDIN = Path(__file__).parent / "standin"
INSTALLED = Path(os.environ.get("WEBUI_EXTENSIONS", "/nowhere")) / "sd-webui-controlnet" / "scripts" / "controlnet.py"
FRAMES = 12
REQUEST = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 1, "seed": 7, "sampler_name": "Euler"}
AS_WRITTEN = """
from scripts.animatediff_utils import get_animatediff_arg
ip_adapter_emb = c
c = c.cond_emb
c_full = torch.zeros((p.batch_size, *c.shape[1:]), dtype=c.dtype, device=c.device)
for i, idx in enumerate(cn_ad_keyframe_idx[:-1]):
    c_full[idx:cn_ad_keyframe_idx[i + 1]] = c[i]
c_full[cn_ad_keyframe_idx[-1]:] = c[-1]
ad_params = get_animatediff_arg(p)
prompt_scheduler = deepcopy(ad_params.prompt_scheduler)
prompt_scheduler.prompt_map = {i: "" for i in cn_ad_keyframe_idx}
prompt_closed_loop = (ad_params.video_length > ad_params.batch_size) and (ad_params.closed_loop in ['R+P', 'A'])
c_full = prompt_scheduler.multi_cond(c_full, prompt_closed_loop)
if shared.opts.batch_cond_uncond:
    c_full = torch.cat([c_full, c_full], dim=0)
c = ImageEmbed(c_full, ip_adapter_emb.uncond_emb, True)
"""


class ImageEmbed(NamedTuple):
    """The type in versions of ControlNet whose call has a third value."""

    cond_emb: torch.Tensor
    uncond_emb: torch.Tensor
    bypass_average: bool = False


def of_the_installed() -> str:
    """Return the statements around the call of `multi_cond` in the installed ControlNet."""
    tree = ast.parse(INSTALLED.read_text("utf-8"))
    blocks = [node.body for node in ast.walk(tree) if isinstance(node, ast.If)]
    [found] = [body for body in blocks
               if any(isinstance(line, ast.Assign) and "multi_cond" in ast.unparse(line) for line in body)]
    return "\n".join(ast.unparse(line) for line in found)


@pytest.fixture(params=["as it was", "installed"])
def call(request):
    if request.param == "installed" and not INSTALLED.is_file():
        pytest.skip("needs WEBUI_EXTENSIONS with sd-webui-controlnet")
    return textwrap.dedent(AS_WRITTEN) if request.param == "as it was" else of_the_installed()


@pytest.fixture
def host(tmp_path, monkeypatch, call):
    monkeypatch.syspath_prepend(str(STANDIN))
    from standin_host import standing_in

    write_module(tmp_path / "moving.safetensors", widths=(32, 32, 32, 32))
    with standing_in(tmp_path) as host:
        host.opts.data["animatediff_model_path"] = str(tmp_path)
        host.load(ROOT / "scripts" / "animatediff.py")
        host.keys, host.error = [0, 6], None

        def process(self, p):
            from animatediff.hosts.neighbours.controlnet import get_animatediff_arg

            utils = ModuleType("scripts.animatediff_utils")
            utils.get_animatediff_arg = get_animatediff_arg
            monkeypatch.setitem(sys.modules, "scripts", ModuleType("scripts"))
            monkeypatch.setitem(sys.modules, "scripts.animatediff_utils", utils)
            torch.manual_seed(0)
            pictures = torch.randn(len(host.keys), 4, 8)
            unit = SimpleNamespace(batch_keyframe_idx=host.keys, batch_image_files=["a.png"] * len(host.keys))
            names = {"c": ImageEmbed(pictures, torch.zeros(1, 4, 8)), "p": p, "cn_ad_keyframe_idx": host.keys,
                     "torch": torch, "deepcopy": deepcopy, "shared": host.shared, "unit": unit,
                     "ImageEmbed": ImageEmbed, "logger": logging.getLogger("test")}
            exec(call, names)
            host.pictures, host.made = pictures, names["c"]

        host.scripts.scripts_data.append((type("Script", (host.scripts.Script,), {
            "title": lambda self: "Another", "show": lambda self, is_img2img: host.scripts.AlwaysVisible,
            "process": process}), "another.py"))
        host.show()
        yield host


def made(host, **settings):
    """Return ControlNet's embedding of each frame [frame 4 8]."""
    clip = {"enable": True, "model": "moving.safetensors", "video_length": FRAMES, "batch_size": 4, "overlap": 1,
            "format": ["GIF"], **settings}
    answer = host.request("txt2img", REQUEST, {"AnimateDiff": [clip]})
    assert answer.status == 200 and not [error for _, error in host.errors.reported if error], host.errors.reported
    first, second = host.made.cond_emb.chunk(2)
    assert torch.equal(first, second) and len(first) == FRAMES
    return first


def slerp(a, b, share):
    """Spherical interpolation as in the other extension that ControlNet supports, on whole tensors."""
    angle = ((a * b).sum() / (a.norm() * b.norm())).acos()
    return (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / angle.sin()


def test_pictures_travel_from_key_frame_to_key_frame(host):
    frames = made(host)
    a, b = host.pictures
    for i in range(FRAMES):
        wanted = slerp(a, b, i / 6) if i < 6 else b
        assert torch.allclose(frames[i], wanted, atol=1e-5), i


def test_in_a_closed_loop_the_last_picture_leads_back_to_the_first(host):
    frames = made(host, closed_loop="R+P")
    a, b = host.pictures
    for i in range(6, FRAMES):
        assert torch.allclose(frames[i], slerp(b, a, (i - 6) / 6), atol=1e-5), i


def test_before_the_first_key_frame_its_picture_stands(host):
    host.keys = [3, 5, 9]
    frames = made(host)
    assert torch.allclose(frames[:4], host.pictures[0].expand(4, -1, -1))
    assert torch.allclose(frames[5], host.pictures[1])
    assert torch.allclose(frames[9:], host.pictures[2].expand(3, -1, -1))


def test_pictures_change_as_the_clips_prompts_do(host):
    frames = made(host, travel_interpolation="hold")
    assert torch.equal(frames, host.pictures.repeat_interleave(6, 0))


def test_a_window_has_the_pictures_of_its_frames(host):
    from animatediff.hosts.neighbours.controlnet import hints

    frames = made(host)
    model = SimpleNamespace(image_emb=host.made, reset=lambda: None)
    script = SimpleNamespace(latest_network=SimpleNamespace(control_params=[SimpleNamespace(control_model=model)]))
    with hints(script, FRAMES, (2, 3, 7), 2):
        assert torch.equal(model.image_emb.cond_emb, frames[[2, 3, 7, 2, 3, 7]])
    assert model.image_emb is host.made
