"""The host's memory management on a GPU that the test's extension pretends; see ../pretended_gpu."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from clip_reading import stills
from safetensors.torch import load_file, save_file
from test_webui_generation import EIGHT, EULER, PROMPT
from test_webui_motion_lora import files as loras  # noqa: F401  writes these LoRAs
from webui_host import DEMO

LONG = {**EIGHT, "video_length": 20, "overlap": 2, "returns": "frames"}
ROW = {"reForge": 0.15 * 8 * 8 * 2**20, "Forge": 1.65 * 8 * 8 * 4 * 2**14}  # estimated bytes of a picture of 64x64
RESERVED = {"reForge": 2**30 * 0.8 + 400 * 2**20, "Forge": 0}  # bytes left free for anything; set to 0 for Forge
MARGIN = {"reForge": 1.5, "Forge": 1}  # of the estimate, that has to be free
UNET = {"reForge": "BaseModel", "Forge": "KModel"}
PLENTY = 2**36
LORAS = f"{PROMPT}<lora:style:1><lora:zoom-in:1><lora:v3_sd15_adapter:1>"
JOBS = {"clip": {}, "Hires": dict(enable_hr=True, hr_upscaler="Latent", hr_scale=1.5, denoising_strength=0.7),
        "lengths": {"prompt": ", ".join([PROMPT] * 16)}, "LoRAs": {"prompt": LORAS}}


@pytest.fixture
def gpu(host):
    """gpu(memory=bytes, …): let the host take the CPU for a GPU, or run with other flags, until the case ends."""
    if host.kind.name == "Neo":
        pytest.skip("the pretended GPU is written for Forge and reForge")
    yield lambda **wish: host.post("/test-gpu", wish).expect()
    host.post("/test-gpu/off", {}).expect()


@pytest.fixture
def fp8(host):
    """fp8(kind): store the UNet's weights in float8 of this kind, until the case ends."""
    if host.kind.name == "reForge":
        yield lambda kind: host.post("/test-gpu", {"flags": {f"unet_in_fp8_{kind}": True}}).expect()
        host.post("/test-gpu/off", {}).expect()
    else:
        yield lambda kind: low_bits(host, f"float8-{kind}")
        low_bits(host, "Automatic")


def low_bits(host, chosen):
    """Set Forge's *Diffusion in Low Bits*. Over the API it takes effect when another checkpoint is chosen."""
    for name in ("second.safetensors", "demo.safetensors"):
        host.options(forge_unet_storage_dtype=chosen, sd_model_checkpoint=name)


def clip(host, settings=LONG, **fields):
    return host.txt2img(settings, **{"prompt": PROMPT, **EULER, "steps": 3, **fields})


def rows(host, make):
    host.watch()
    make().expect()
    return {call["rows"] for call in host.unet_calls()}


def loads(host):
    return host.get("/test-gpu/loads").expect().body


def test_on_a_pretended_gpu_a_long_clip_wants_the_memory_of_a_window(host, gpu):
    gpu(memory=PLENTY)
    wanted = []
    for make in (lambda: clip(host, None, batch_size=8), lambda: clip(host, LONG)):
        loads(host)
        make().expect()
        wanted.append(max(load["wanted"] for load in loads(host) if load["wanted"]))
    assert wanted[0] == wanted[1] == pytest.approx(2 * 8 * ROW[host.kind.name])


def test_on_a_pretended_gpu_a_long_clip_pushes_no_weights_out(host, gpu):
    """All networks and a window fit; the estimate for the whole clip would not."""
    gpu(memory=PLENTY)
    clip(host, None).expect()
    networks = loads(host)[-1]["networks"]
    size = sum(bytes for bytes, _ in networks.values())
    frames, row, reserved = 72, ROW[host.kind.name], RESERVED[host.kind.name]
    assert 2 * frames * row > reserved + size
    gpu(memory=int(1.4 * size + reserved + 2 * 8 * row))
    clip(host, None).expect()
    before = loads(host)[-1]["networks"]
    clip(host, {**LONG, "video_length": frames}, steps=1).expect()
    after = [load["networks"] for load in loads(host)]
    if host.kind.name == "Forge":  # it loads the text encoder, too, which `before` may lack
        after = [{name: networks.get(name) for name in before} for networks in after]
    assert all(networks == before for networks in after), (before, after)


@pytest.mark.parametrize(("share", "expected"), [(2.1, 16), (1.7, 8), (1.3, 8)])
def test_on_a_pretended_gpu_roles_are_split_as_the_host_splits_a_batch(host, gpu, share, expected):
    """reForge wants 1.5 times its estimate, of a batch of 8 pictures as of a window of 8 frames."""
    gpu(memory=PLENTY)
    clip(host, None).expect()
    unet = max(bytes for bytes, _ in loads(host)[-1]["networks"].values())
    gpu(memory=int(unet + share * 8 * ROW[host.kind.name] * MARGIN[host.kind.name]))
    assert rows(host, lambda: clip(host, None, batch_size=8)) == {expected}
    assert rows(host, lambda: clip(host)) == {expected}


@pytest.mark.parametrize("state", ["NORMAL_VRAM", "HIGH_VRAM", "NO_VRAM"])
def test_on_a_pretended_gpu_clips_are_those_with_all_in_memory(host, gpu, state):
    """--always-gpu keeps all there; --always-no-vram fetches each layer's weights when it is called."""
    expected = {name: stills(clip(host, EIGHT | {"returns": "frames"}, **fields)) for name, fields in JOBS.items()}
    gpu(memory=PLENTY, state=state)
    for name, fields in JOBS.items():
        assert np.array_equal(stills(clip(host, EIGHT | {"returns": "frames"}, **fields)), expected[name]), name
    unets = [load["networks"].get(UNET[host.kind.name]) for load in loads(host)]
    on_gpu = [unet[1] for unet in unets if unet]
    assert on_gpu and all((there == 0) == (state == "NO_VRAM") for there in on_gpu), on_gpu


@pytest.mark.parametrize("kind", ["e4m3fn", "e5m2"])
def test_a_unet_in_fp8(host, fp8, kind):
    """The clip is that of a checkpoint whose weights were rounded to fp8."""
    folder = host.data / "models" / "Stable-diffusion"
    weights = load_file(DEMO / "demo.safetensors")
    for key, value in weights.items():
        if key.startswith("model.diffusion_model."):
            weights[key] = value.to(getattr(torch, f"float8_{kind}")).to(value.dtype)
    save_file(weights, folder / "rounded.safetensors")
    (folder / "rounded.yaml").write_text((folder / "demo.yaml").read_text())
    try:
        host.post("/sdapi/v1/refresh-checkpoints", {}).expect()
        settings = EIGHT | {"returns": "frames"}
        expected = stills(clip(host, settings, override_settings={"sd_model_checkpoint": "rounded.safetensors"}))
        fp8(kind)
        found = stills(clip(host, settings))
        assert len(stills(clip(host, settings, prompt=LORAS))) == 8
        plain = stills(clip(host, settings, override_settings={"sd_model_checkpoint": "second.safetensors"}))
    finally:
        for path in folder.glob("rounded.*"):
            path.unlink()
        host.post("/sdapi/v1/refresh-checkpoints", {}).expect()
    difference = np.abs(found.astype(float) - expected).mean()
    assert difference < 0.5, f"{difference:.2f} of 255"
    assert np.abs(plain.astype(float) - expected).mean() > 4 * difference


@pytest.mark.slow
def test_a_compiled_unet(host, gpu):
    """reForge's --torch-compile: the network is compiled before the motion module is there, in a plain picture's job.
    """
    if host.kind.name != "reForge":
        pytest.skip(f"{host.kind.name} has no such flag")
    settings = EIGHT | {"returns": "frames"}
    expected = stills(clip(host, settings))
    gpu(flags={"torch_compile": True, "torch_compile_backend": "eager"})
    plain = stills(clip(host, None, batch_size=8))
    assert np.abs(stills(clip(host, settings)).astype(float) - expected).mean() < 0.1
    assert np.array_equal(stills(clip(host, None, batch_size=8)), plain)
