"""Save, detect and load motion modules of every family, naming, container and dtype; refuse files of other kinds."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from animatediff.errors import ModelError
from animatediff.motion import FAMILIES, MotionModule, describe, detect, load
from animatediff.motion.naming import to_diffusers, to_hotshot

ROOT = Path(__file__).parents[2]
NAMINGS = {"original": dict, "diffusers": to_diffusers, "hotshot": to_hotshot}
WRAPPERS = {
    "safetensors": lambda state: state,
    "ckpt": lambda state: {"epoch": 3, "global_step": 100, "state_dict": {f"module.{k}": v for k, v in state.items()}},
    "pth": lambda state: state,
}
SMALL = {"SD1.5": (32, 32, 64, 64), "SDXL": (32, 32, 64)}


def write(state, path):
    if path.suffix == ".safetensors":
        save_file({key: tensor.clone() for key, tensor in state.items()}, path)
    else:
        torch.save(WRAPPERS[path.suffix[1:]](state), path)
    return path


def outputs(module):
    results = []
    for name, site in module.sites().items():
        norm = site.temporal_transformer.norm.weight
        x = torch.randn(4, norm.numel(), 2, 2, generator=torch.Generator().manual_seed(3)).to(norm.dtype)
        results.append(site(x, 4))
    return results


CASES = [  # every family in every naming; containers with v2 only, dtypes with v2 and AnimateLCM
    *((family, naming, "safetensors", torch.float32) for family, naming in itertools.product(FAMILIES, NAMINGS)
      if naming != "hotshot" or family == "HotShot-XL"),  # HotShot's naming identifies HotShot
    *(("v2", "original", container, torch.float32) for container in WRAPPERS if container != "safetensors"),
    *((family, "original", container, dtype) for family in ("v2", "AnimateLCM") for container in ("safetensors", "ckpt")
      for dtype in (torch.float16, torch.bfloat16)),
]


@pytest.mark.parametrize("family, naming, container, dtype", CASES)
def test_round_trip(family, naming, container, dtype, make_module, tmp_path):
    module = make_module(family, widths=SMALL[FAMILIES[family].base]).to(dtype)
    state = NAMINGS[naming](module.state_dict())
    path = write(state, tmp_path / f"anything.{container}")
    assert detect(state) == FAMILIES[family]
    about = describe(path)
    assert (about.family, about.widths, about.max_frames) == (FAMILIES[family], module.widths, module.max_frames)
    loaded = load(path)
    assert isinstance(loaded, MotionModule) and loaded.family == FAMILIES[family] and loaded.name == path.name
    assert loaded.max_frames == module.max_frames and not loaded.training
    original = module.state_dict()
    assert list(loaded.state_dict()) == list(original)
    for key, tensor in loaded.state_dict().items():
        assert tensor.dtype == dtype and torch.equal(tensor, original[key])
    # AnimateLCM's positional encoding is computed in fp32 and cast with the weights.
    assert all(torch.equal(a, b) for a, b in zip(outputs(loaded.to(dtype)), outputs(module)))


def test_dtype_is_cast_after_loading(make_module, tmp_path):
    path = write(make_module("v3").half().state_dict(), tmp_path / "half.safetensors")
    assert {t.dtype for t in load(path, dtype=torch.float32).state_dict().values()} == {torch.float32}


def test_a_loaded_state_dict_is_not_changed(make_module):
    state = make_module("v2").state_dict()
    before = {key: tensor.clone() for key, tensor in state.items()}
    loaded = load({"state_dict": state}, name="mine")
    with torch.no_grad():
        for p in loaded.parameters():
            p.add_(1)
    assert loaded.name == "mine" and all(torch.equal(state[key], before[key]) for key in state)


def test_a_whole_video_unet_loads_only_its_temporal_layers(make_module, tmp_path):
    """Training code saves the whole UNet; its spatial layers are ignored."""
    state = make_module("v2").state_dict()
    extra = {"down_blocks.0.resnets.0.norm1.weight": torch.ones(4), "conv_in.weight": torch.ones(32, 4, 3, 3)}
    loaded = load(write({**state, **extra}, tmp_path / "whole.ckpt"))
    assert loaded.family == FAMILIES["v2"] and loaded.state_dict().keys() == state.keys()


# Published files, their family and the length of their positional encoding. Shapes on the meta device are enough.
PUBLISHED = [
    ("mm_sd_v14 mm_sd_v15 temporaldiff-v1 mm-Stabilized_mid", "v1", 24),
    ("mm_sd_v15_v2 improvedHumansMotion", "v2", 32),
    ("v3_sd15_mm", "v3", 32),
    ("AnimateLCM_sd15_t2v", "AnimateLCM", None),
    ("lt_long_mm_32_frames", "LongAnimateDiff", 64),
    ("lt_long_mm_16_64_frames", "LongAnimateDiff", 128),
    ("mm_sdxl_v10_beta", "AnimateDiff-SDXL", 32),
    ("hsxl_temporal_layers", "HotShot-XL", 24),
    ("hsxl_temporal_layers 8", "HotShot-XL", 8),
]


@pytest.mark.parametrize("files, family, positions", PUBLISHED)
def test_published_modules_are_recognised(files, family, positions):
    widths = {"SD1.5": (320, 640, 1280, 1280), "SDXL": (320, 640, 1280)}[FAMILIES[family].base]
    with torch.device("meta"):
        state = MotionModule(FAMILIES[family], widths, max_frames=positions or 64).state_dict()
    lengths = {t.shape[1] for key, t in state.items() if key.endswith("pos_encoder.pe")}
    assert lengths == ({positions} if positions else set())
    assert detect(state) == FAMILIES[family]
    if family == "HotShot-XL":
        assert detect(to_hotshot(state)) == FAMILIES[family]


def test_beta_schedules():
    """The largest sigmas are those of the published models, and the betas are diffusers'."""
    diffusers = pytest.importorskip("diffusers")
    sigmas = {"v1": 25.15, "v2": 25.15, "v3": 25.15, "LongAnimateDiff": 25.15, "AnimateLCM": 25.15}
    sigmas |= {"HotShot-XL": 14.61, "AnimateDiff-SDXL": 65.93}
    for name, family in FAMILIES.items():
        schedule = family.betas
        last = schedule.alphas_cumprod()[-1]
        assert ((1 - last) / last).sqrt().item() == pytest.approx(sigmas[name], abs=6e-3)
        oracle = diffusers.DDPMScheduler(1000, schedule.start, schedule.end, schedule.kind).betas
        torch.testing.assert_close(schedule.betas().float(), oracle, rtol=1e-5, atol=0)


def one(shape=(4,)):
    return torch.zeros(shape)


def with_motion(extra):
    return lambda make: {**make("v3").state_dict(), **extra}


def without_motion(*keys):
    return lambda make: {key: one() for key in keys}


REFUSED = {
    "PIA": (
        lambda make: {**make("v2").state_dict(), "conv_in.weight": one((32, 9, 3, 3)), "conv_in.bias": one()},
        "a PIA",
    ),
    "AnimateLCM-I2V": (
        lambda make: {**make("AnimateLCM").state_dict(), "img_encoder.x.weight": one()},
        "AnimateLCM-I2V",
    ),
    "SparseCtrl scribble": (with_motion({"controlnet_cond_embedding.conv_in.weight": one()}), "SparseCtrl scribble"),
    "SparseCtrl RGB": (with_motion({"module.controlnet_cond_embedding.weight": one()}), "SparseCtrl RGB"),
    "CameraCtrl": (
        lambda make: {
            "pose_encoder_state_dict": {"encoder_conv_in.weight": one()},
            "attention_processor_state_dict": {
                "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.processor"
                ".qkv_merge.weight": one()
            },
        },
        "CameraCtrl",
    ),
    "CameraCtrl pruned": (
        without_motion("encoder_down_conv_blocks.0.0.block1.weight", "encoder_conv_in.weight"),
        "CameraCtrl",
    ),
    "FancyVideo": (with_motion({"fps_embedding.linear.weight": one()}), "FancyVideo"),
    "motion LoRA": (
        without_motion(
            "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.processor"
            ".to_q_lora.down.weight"
        ),
        "a motion LoRA, not a motion module",
    ),
    "motion LoRA peft": (
        without_motion("unet.down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q.lora_A.weight"),
        "a motion LoRA",
    ),
    "motion LoRA kohya": (
        without_motion("lora_unet_down_blocks_0_motion_modules_0_temporal_transformer_x.lora_down.weight"),
        "a motion LoRA",
    ),
    "image LoRA": (without_motion("lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight"), "an image LoRA, not"),
    "v3 domain adapter": (
        without_motion("down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight"),
        "a domain adapter, not",
    ),
    "ControlNet": (without_motion("control_model.input_blocks.0.0.weight"), "a ControlNet, not"),
    "checkpoint": (
        without_motion("model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.decoder.conv_in.weight"),
        "an SD1.5 checkpoint, not a motion module",
    ),
    "diffusers UNet": (
        without_motion("down_blocks.0.resnets.0.norm1.weight", "conv_in.weight"),
        "one part of an image model in diffusers' naming, not",
    ),
    "VAE": (without_motion("decoder.up_blocks.0.resnets.0.conv1.weight", "encoder.conv_in.weight"), "a VAE, not"),
    "embedding": (without_motion("emb_params"), "a textual inversion embedding, not"),
    "something else": (without_motion("something.else"), "none of its 1 tensors belongs to a temporal layer"),
    "an unknown relative": (
        lambda make: make(replace(FAMILIES["AnimateDiff-SDXL"], has_mid=True), widths=SMALL["SDXL"]).state_dict(),
        "3 levels .* 32 frames and a middle block: no known family",
    ),
    "tensors missing": (
        lambda make: {k: v for i, (k, v) in enumerate(make("v3").state_dict().items()) if i < 20 * 28 - 40},
        r"incomplete motion module: it lacks \S+ and 39 more",
    ),
    "a level missing": (
        lambda make: {k: v for k, v in make("v2").state_dict().items() if not k.startswith("down_blocks.1.")},
        r"incomplete motion module: it lacks down_blocks\.1\.motion_modules\.0",
    ),
    "tensors too many": (
        with_motion({"down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.1.norms.0.weight": one()}),
        "1 temporal tensors that a module of the v3 family does not have",
    ),
    "a wrong shape": (
        with_motion({"down_blocks.0.motion_modules.0.temporal_transformer.proj_in.bias": one((7,))}),
        r"proj_in.bias of shape \[7\], but \[32\] fits",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
def test_other_files_are_refused_with_their_kind(kind, suffix, make_module, tmp_path):
    contents, message = REFUSED[kind]
    state, path = contents(make_module), tmp_path / f"mine.{suffix}"
    nested = any(isinstance(value, dict) for value in state.values())
    if suffix == "ckpt":
        torch.save(state, path)
    elif nested:
        pytest.skip("safetensors holds no nested dictionaries")
    else:
        save_file({key: tensor.clone() for key, tensor in state.items()}, path)
    for read in (load, describe):
        with pytest.raises(ModelError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith("mine.") and caught.value.remedy


def test_unsupported_relatives_come_with_a_remedy(make_module):
    with pytest.raises(ModelError) as caught:
        detect({**make_module("v2").state_dict(), "conv_in.weight": one((32, 9, 3, 3))}, "pia.ckpt")
    assert str(caught.value) == (
        "pia.ckpt is a PIA checkpoint. It is not supported yet: pick a plain motion module, such as v3_sd15_mm.ckpt."
    )


def test_a_sparsectrl_file_belongs_to_controlnet(make_module):
    with pytest.raises(ModelError, match="SparseCtrl RGB checkpoint.*models/ControlNet"):
        detect({**make_module("v3").state_dict(), "controlnet_cond_embedding.weight": one()}, "sparse.ckpt")


class Config:
    """A stand-in for the omegaconf object in some v3 checkpoints."""


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt", "pth"])
def test_truncated_and_damaged_files(suffix, make_module, tmp_path):
    path = write(make_module("v3", widths=SMALL["SD1.5"]).state_dict(), tmp_path / f"mm.{suffix}")
    whole = path.read_bytes()
    for part in (whole[: len(whole) // 2], whole[:-1000], whole[:20]):
        path.write_bytes(part)
        for read in (load, describe):
            with pytest.raises(ModelError, match=r"^mm\.\w+ is .*(truncated|damaged).*Download it again"):
                read(path)
    path.write_bytes(b"")
    with pytest.raises(ModelError, match="mm.* is empty"):
        load(path)


@pytest.mark.parametrize("content, message", [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a Git LFS pointer"),
    (b"<!DOCTYPE html><html>not found</html>", "a web page"),
    (b"hello, I am no model at all, only a line of text", "not a model file"),
])  # fmt: skip
def test_files_that_are_not_models(content, message, tmp_path):
    (tmp_path / "mm.ckpt").write_bytes(content)
    with pytest.raises(ModelError, match=f"mm.ckpt is {message}"):
        load(tmp_path / "mm.ckpt")


def test_pickled_objects_are_refused_and_named(make_module, tmp_path):
    path = tmp_path / "v3_sd15_mm.ckpt"
    torch.save({"state_dict": make_module("v3").state_dict(), "animatediff_config": Config()}, path)
    with pytest.raises(ModelError, match=r"pickled Python objects \(.*Config\).*safetensors version"):
        load(path)


def test_code_in_a_pickle_does_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"state_dict": Bomb()}, tmp_path / "mm.ckpt")
    with pytest.raises(ModelError, match="pickled Python objects"):
        load(tmp_path / "mm.ckpt")
    assert not (tmp_path / "ran").exists()


def test_missing_files_and_empty_folders(tmp_path):
    with pytest.raises(ModelError, match="nowhere.ckpt does not exist"):
        load(tmp_path / "nowhere.ckpt")
    with pytest.raises(ModelError, match="holds no diffusion_pytorch_model.safetensors"):
        load(tmp_path)


def test_the_content_decides_the_format(make_module, tmp_path):
    """A safetensors file with the suffix .ckpt loads, and a torch file with .safetensors too."""
    state = make_module("v3").state_dict()
    write(state, tmp_path / "a.safetensors").rename(tmp_path / "a.ckpt")
    write(state, tmp_path / "b.pth").rename(tmp_path / "b.safetensors")
    for name in ("a.ckpt", "b.safetensors"):
        assert load(tmp_path / name).state_dict().keys() == state.keys()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").is_file(), reason="needs Linux's memory statistics")
@pytest.mark.parametrize("dtype, factor", [("None", 1), ("torch.float32", 2)])
@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
@pytest.mark.slow
def test_a_file_takes_little_more_memory_than_its_weights(suffix, dtype, factor, make_module, tmp_path):
    """Measured in a separate process; pages of mapped files are included."""
    script = """if True:
        import sys
        from pathlib import Path
        import torch
        from animatediff.motion import load

        def resident(key):
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024

        load(sys.argv[1], dtype=%s)
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS:")
        module = load(sys.argv[2], dtype=%s)
        assert all(tensor.isfinite().all() for tensor in module.state_dict().values())  # reads all of it
        print(resident("VmHWM:") - before)
    """ % (dtype, dtype)
    small, large = (write(make_module("v2", widths=widths).half().state_dict(), tmp_path / f"{widths[0]}.{suffix}")
                    for widths in ((32, 32, 64, 64), (256, 256, 384, 384)))
    done = subprocess.run([sys.executable, "-c", script, small, large], capture_output=True, text=True, cwd=ROOT,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    size = large.stat().st_size / 2**20
    assert size > 80 and 0.9 * size < float(done.stdout) / factor < 1.3 * size


def test_a_numpy_scalar_beside_the_weights_is_accepted(make_module, tmp_path):
    """Training code stores NumPy scalars such as the step count or the best loss."""
    state = make_module("v2").state_dict()
    torch.save({"global_step": np.int64(3), "loss": np.float64(0.25), "state_dict": state}, tmp_path / "mm.ckpt")
    assert describe(tmp_path / "mm.ckpt").family == FAMILIES["v2"]
    assert all(torch.equal(tensor, state[key]) for key, tensor in load(tmp_path / "mm.ckpt").state_dict().items())
