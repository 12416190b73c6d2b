"""The hosts' own IP-Adapter with a picture for each frame or for each key frame. Its weights are random.

The motion module does not connect frames, as in test_forge_controlnet.py. So each frame of a clip with a folder of
pictures must be the frame of the clip that the host makes with that one picture for all frames.
"""
from __future__ import annotations

import numpy as np
import pytest
import test_forge_controlnet as controlnet
import torch
from PIL import Image
from safetensors.torch import save_file
from test_forge_controlnet import FRAMES, HIRES, encoded, hints  # noqa: F401

WIDTH, TOKENS, VISION = 128, 64, 16  # of the prompt, the UNet and the projection in ../vision
LAYERS = 16


def write_adapter(path, plus: bool) -> None:
    """Write an IP-Adapter for the demo checkpoint. plus: of the kind that looks at CLIP's last layer but one."""
    random = torch.Generator().manual_seed(5)

    def weight(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random) / shape[-1]**0.5

    def norm(name: str, width: int) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}

    made = {f"ip_adapter.{2 * i + 1}.to_{part}_ip.weight": 2 * weight(TOKENS, WIDTH)
            for i in range(LAYERS) for part in "kv"}
    if plus:
        inner = 12 * 64
        made |= {"image_proj.latents": weight(1, 16, WIDTH), "image_proj.proj_in.weight": weight(WIDTH, 32),
                 "image_proj.proj_in.bias": torch.zeros(WIDTH), "image_proj.proj_out.weight": weight(WIDTH, WIDTH),
                 "image_proj.proj_out.bias": torch.zeros(WIDTH), **norm("image_proj.norm_out", WIDTH)}
        for i in range(4):
            here = f"image_proj.layers.{i}"
            made |= {**norm(f"{here}.0.norm1", WIDTH), **norm(f"{here}.0.norm2", WIDTH),
                     f"{here}.0.to_q.weight": weight(inner, WIDTH), f"{here}.0.to_kv.weight": weight(2 * inner, WIDTH),
                     f"{here}.0.to_out.weight": weight(WIDTH, inner), **norm(f"{here}.1.0", WIDTH),
                     f"{here}.1.1.weight": weight(4 * WIDTH, WIDTH), f"{here}.1.3.weight": weight(WIDTH, 4 * WIDTH)}
    else:
        made |= {"image_proj.proj.weight": weight(4 * WIDTH, VISION), "image_proj.proj.bias": torch.zeros(4 * WIDTH),
                 **norm("image_proj.norm", WIDTH)}
    save_file(made, path)


@pytest.fixture(scope="module", autouse=True)
def adapters(clean_host):
    for plus in (False, True):
        name = "ip-adapter-plus_tiny" if plus else "ip-adapter_tiny"
        write_adapter(clean_host.data / "models" / "ControlNet" / f"{name}.safetensors", plus)
    clean_host.post("/test-vision/refresh", {}).expect()


def frames(host, unit: dict, settings: dict | None = None, adapter: str = "ip-adapter_tiny", **fields) -> np.ndarray:
    unit = {"module": "tiny CLIP (IPAdapter)", "model": controlnet.model(host, adapter), **unit}
    return controlnet.frames(host, unit, settings, **fields)


def like(made, wanted, *, other, without=None) -> None:
    assert np.abs(made - wanted).max() <= 2
    assert np.abs(made - other).max() > 10, "it has the picture of another frame"
    if without is not None:
        assert np.abs(made - without).max() > 10, "the picture matters"


WAYS = {"windows": {}, "CFG 1": {"cfg_scale": 1.0}, "AND": {"prompt": "a red circle AND a blue square :0.5"},
        "Hires. fix": HIRES}


@pytest.mark.parametrize("way", WAYS)
def test_each_frame_has_its_own_picture(host, hints, way):
    fields = WAYS[way]
    made, without = frames(host, {"batch_image_dir": str(hints)}, **fields), controlnet.frames(host, None, **fields)
    ones = {i: frames(host, {"image": encoded(hints / f"{i:03}.png")}, **fields) for i in (0, 4)}
    for i, other in ((0, 4), (4, 0)):
        like(made[i], ones[i][i], other=ones[other][i], without=without[i])


def test_with_the_other_kind_of_adapter(host, hints):
    adapter = "ip-adapter-plus_tiny"
    made = frames(host, {"batch_image_dir": str(hints)}, adapter=adapter)
    ones = {i: frames(host, {"image": encoded(hints / f"{i:03}.png")}, adapter=adapter) for i in (1, 5)}
    for i, other in ((1, 5), (5, 1)):
        like(made[i], ones[i][i], other=ones[other][i])


def test_pictures_of_any_size(host, hints):
    folder = host.data / "sizes"
    folder.mkdir(exist_ok=True)
    for i in range(FRAMES):
        Image.open(hints / f"{i:03}.png").resize((64 + 40 * i, 90)).save(folder / f"{i}.png")
    made = frames(host, {"batch_image_dir": str(folder)})
    ones = {i: frames(host, {"image": encoded(folder / f"{i}.png")}) for i in (1, 4)}
    for i, other in ((1, 4), (4, 1)):
        like(made[i], ones[i][i], other=ones[other][i])


def test_key_frames_travel(host, hints):
    made = frames(host, {"batch_image_dir": f"{hints}\nkeyframe: 1, 4"})
    first, second = (frames(host, {"image": encoded(hints / f"{i:03}.png")}) for i in (0, 1))
    for i in (0, 1):
        like(made[i], first[i], other=second[i])
    for i in (4, 5):
        like(made[i], second[i], other=first[i])
    assert all(np.abs(made[2] - one[2]).max() > 3 for one in (first, second)), "between them it is a mixture"


def test_a_unit_without_a_picture_has_the_sources_frames(host, hints):
    source = {"video_path": str(hints), "video_length": 0}
    assert (frames(host, {}, source) == frames(host, {"batch_image_dir": str(hints)}, source)).all()


def test_several_clips_beside_a_controlnet(host, hints):
    """The pictures serve each clip of the job. A ControlNet beside it has its own."""
    folder = str(hints)
    units = [{"enabled": True, "module": "None", "model": controlnet.model(host), "batch_image_dir": folder,
              "save_detected_map": False},
             {"enabled": True, "module": "tiny CLIP (IPAdapter)", "model": controlnet.model(host, "ip-adapter_tiny"),
              "batch_image_dir": f"{folder}\nkeyframe: 0, 5", "save_detected_map": False}]
    more = {"sampler_name": "Euler", "alwayson_scripts": {"ControlNet": {"args": units}}}
    both = controlnet.stills(host.txt2img(controlnet.CLIP, n_iter=2, seed=7, **more)).astype(int)
    second = controlnet.stills(host.txt2img(controlnet.CLIP, seed=7 + FRAMES, **more)).astype(int)
    assert len(both) == 2 * FRAMES and np.abs(both[FRAMES:] - second).max() <= 2


def test_an_adapter_that_cannot_be_applied_stops_the_clip(host, hints):
    broken = host.data / "models" / "ControlNet" / "ip-adapter_broken.safetensors"
    save_file({"ip_adapter.1.to_k_ip.weight": torch.zeros(64, 128), "image_proj.x": torch.zeros(1)}, broken)
    host.post("/test-vision/refresh", {}).expect()
    unit = {"enabled": True, "module": "tiny CLIP (IPAdapter)", "model": controlnet.model(host, "ip-adapter_broken"),
            "batch_image_dir": str(hints)}
    answer = host.txt2img(controlnet.CLIP, alwayson_scripts={"ControlNet": {"args": [unit]}})
    broken.unlink()
    assert answer.status == 422 and "ControlNet unit 0: ControlNet could not apply it" in answer.detail
