"""First and last frame of img2img in the real WebUI: the start against the formula, held frames against pictures."""
from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from clip_reading import stills
from PIL import Image
from test_webui_generation import EIGHT, FRAMES

PROMPT = "a blue star moving right"
LOCK = {**FRAMES, "frame_lock": "0: 1, 4: 0", "latent_scale": 0}
FIELDS = {"prompt": PROMPT, "seed": 5, "steps": 10, "sampler_name": "Euler", "denoising_strength": 0.9}


def png(array: np.ndarray) -> str:
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9)))


@pytest.fixture(scope="module")
def source(clean_host):
    """The first and the last frame of a clip."""
    frames = stills(clean_host.txt2img(FRAMES, prompt=PROMPT, seed=3, steps=12))
    return frames[0], frames[-1]


def through_the_vae(host, picture: np.ndarray) -> np.ndarray:
    """img2img of strength 0 does one step from the lowest σ, so a frame held to the end shows only the VAE's effect."""
    return stills(host.img2img([png(picture)], {**FRAMES, "video_length": 1, "frame_lock": 1}, **FIELDS))[0]


def spread(t: float) -> float:
    """Return σ at a timestep of the demo module's schedule, linear betas of 0.00085 to 0.012."""
    alpha = np.cumprod(1 - np.linspace(0.00085, 0.012, 1000))
    return float(np.exp(np.interp(t, np.arange(1000), np.log(np.sqrt((1 - alpha) / alpha)))))


def draws(seed: int, frames: int, shape: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return each frame's first and second noise."""
    sources = [torch.Generator().manual_seed(seed + i) for i in range(frames)]
    first, second = (np.stack([torch.randn(shape, generator=s).numpy() for s in sources]) for _ in range(2))
    return first, second


@pytest.mark.parametrize("settings", [
    {}, {"latent_power": 2, "latent_scale": 20}, {"latent_scale": 0},
    {"last_frame": True}, {"last_frame": True, "latent_scale": 6, "latent_power_last": 0.5, "latent_scale_last": 4},
], ids=str)
def test_the_start_is_the_formulas(host, source, settings):
    """x = (init·α + last·β + noise₂·(1 − α − β)) + σ·noise₁, α and β as sd-webui-animatediff has them."""
    asked = {**EIGHT, **settings}
    if settings.get("last_frame"):
        asked["last_frame"] = "data:image/png;base64," + png(source[1])
        host.watch()
        host.img2img([png(source[1])], {**EIGHT, "latent_scale": 0}, **FIELDS).expect()
        last = np.array(host.get("/test-probe/start").body["latents"])
    host.watch()
    host.img2img([png(source[0])], asked, **FIELDS).expect()
    start = {key: np.array(value) for key, value in host.get("/test-probe/start").expect().body.items()}
    sigma, frames = spread(start["t"][0]), 8
    x = start["x"][:frames] * np.sqrt(1 + sigma**2)  # undo k-diffusion's c_in
    noise, more = draws(5, frames, start["noise"].shape[1:])
    np.testing.assert_allclose(start["noise"], noise, atol=1e-6)
    i = np.arange(frames)[:, None, None, None]
    alpha = np.ones(i.shape) if settings.get("latent_scale") == 0 else np.maximum(
        0, 1 - i ** settings.get("latent_power", 1) / settings.get("latent_scale", 32))
    beta = np.zeros(i.shape)
    if settings.get("last_frame"):
        power, scale = settings.get("latent_power_last", 1), settings.get("latent_scale_last", 32)
        beta = np.maximum(0, 1 - i**power / scale)[::-1]
        total = np.maximum(alpha + beta, 1)
        alpha, beta = alpha / total, beta / total
        alpha[0] = beta[-1] = 1
        alpha[-1] = beta[0] = 0
    expected = start["latents"] * alpha + (last * beta if beta.any() else 0) + more * (1 - alpha - beta)
    np.testing.assert_allclose(x, expected + sigma * noise, atol=2e-3 * sigma)


def test_without_scale_and_lock_it_is_plain_img2img(host, source):
    """The sampler's own arguments reach it, so the first call's x is the host's."""
    host.watch()
    host.img2img([png(source[0])], {**EIGHT, "latent_scale": 0}, **FIELDS).expect()
    start = host.get("/test-probe/start").body
    host.watch()
    host.img2img([png(source[0])], {**EIGHT, "latent_scale": 0, "frame_lock": "0, 0, 0"}, **FIELDS).expect()
    again = host.get("/test-probe/start").body
    assert start["noise"] == again["noise"]
    np.testing.assert_allclose(start["x"], again["x"], atol=2e-3)


@pytest.mark.parametrize("sampler", ["Euler", "Euler a", "Heun", "DPM++ 2M", "DPM++ SDE", "DPM adaptive", "Restart",
                                     "DDIM", "DDIM CFG++", "PLMS", "UniPC", "LCM"])
def test_the_first_frame_is_the_picture_with_every_sampler(host, source, sampler):
    fields = {**FIELDS, "sampler_name": sampler, "steps": 6 if sampler == "DPM adaptive" else 10}
    frames = stills(host.img2img([png(source[0])], LOCK, **fields))
    reached = psnr(frames[0], source[0])
    drift = [float(np.abs(frame - source[0].astype(float)).mean()) for frame in frames]
    print(f"{sampler}: PSNR {reached:.1f}, drift {np.round(drift, 1)}")
    assert reached >= 30
    assert np.mean(drift[4:]) > 1.5 * np.mean(drift[:2]), drift


@pytest.mark.parametrize("prompt", ["a red circle growing", "a blue star at rest on a black background"])
def test_held_frames_are_the_picture_through_the_vae(host, source, prompt):
    both = {**LOCK, "last_frame": png(source[1]), "frame_lock": "1, 0.5, 0"}
    frames = stills(host.img2img([png(source[0])], both, **{**FIELDS, "prompt": prompt}))
    for frame, picture in ((frames[0], source[0]), (frames[-1], source[1])):
        assert psnr(frame, picture) >= 30
        assert psnr(frame, through_the_vae(host, picture)) >= 38
    assert psnr(frames[3], source[0]) < 25 and psnr(frames[3], source[1]) < 25


@pytest.mark.parametrize("settings", [{"overlap": 2, "video_length": 14, "batch_size": 6},
                                      {"video_length": 14, "batch_size": 6, "closed_loop": "R+P"}], ids=str)
def test_windows(host, source, settings):
    frames = stills(host.img2img([png(source[0])], {**LOCK, **settings}, **FIELDS))
    near = [psnr(frame, source[0]) for frame in frames]
    assert near[0] >= 30
    closed = "closed_loop" in settings
    assert (near[-1] > near[7] + 3) if closed else near[-1] < near[1]


def mask(right: int) -> str:
    image = np.zeros((64, 64), np.uint8)
    image[:, :right] = 255
    return png(image)


@pytest.mark.parametrize("fields", [
    {"inpainting_fill": 1}, {"inpainting_fill": 0}, {"inpainting_fill": 1, "sampler_name": "DDIM"},
    {"inpainting_fill": 1, "inpaint_full_res": True, "inpaint_full_res_padding": 4},
    {"inpainting_fill": 1, "alwayson_scripts": {"Soft inpainting": {"args": [True, 1, 0.5, 4, 0, 0.5, 2]}}},
], ids=lambda fields: "-".join(fields) + str(fields["inpainting_fill"]) + fields.get("sampler_name", ""))
def test_with_an_inpaint_mask(host, source, fields):
    """The kept part stays in every frame, and the first frame is the picture even inside the mask."""
    fields = {**FIELDS, "mask": mask(40), "mask_blur": 0, "inpaint_full_res": False, **fields}
    frames = stills(host.img2img([png(source[0])], {**LOCK, "latent_scale": 8}, **fields))
    assert psnr(frames[0], source[0]) >= 30
    assert np.abs(frames[:, :, 48:] - source[0][:, 48:].astype(float)).mean() < 4
    assert np.abs(frames[-1, :, :40] - source[0][:, :40].astype(float)).mean() > 2


def test_a_picture_for_each_frame(host, source):
    """Power and scale have no effect. The lock holds the first frame to its own picture."""
    pictures = [np.roll(source[0], 3 * i, axis=1) for i in range(8)]
    asked = {**FRAMES, "video_length": 0, "frame_lock": "1, 0"}
    frames = stills(host.img2img([png(p) for p in pictures], asked, **{**FIELDS, "denoising_strength": 0.3}))
    assert psnr(frames[0], pictures[0]) >= 30
    own = np.array([[psnr(frame, picture) for picture in pictures] for frame in frames])
    assert (own.argmax(1) == np.arange(8)).all(), own.round(1)


def test_refiner(host, source):
    frames = stills(host.img2img([png(source[0])], LOCK, **FIELDS, refiner_checkpoint="second", refiner_switch_at=0.5))
    assert psnr(frames[0], source[0]) >= 30


def test_two_clips_start_alike(host, source):
    frames = stills(host.img2img([png(source[0])], {**LOCK, "latent_scale": 4}, **FIELDS, n_iter=2))
    assert len(frames) == 16 and min(psnr(frames[i], source[0]) for i in (0, 8)) >= 30
    alone = stills(host.img2img([png(source[0])], {**LOCK, "latent_scale": 4}, **{**FIELDS, "seed": 13}))
    assert psnr(frames[15], alone[7]) >= 30, "the second clip starts from the picture, not from the first's start"


def test_the_infotext_names_the_last_frame_and_the_name_finds_it(host, source, files):
    last = 255 - source[1]
    asked = {**EIGHT, "last_frame": png(last), "frame_lock": "0: 1, 4: 0"}
    answer = host.img2img([png(source[0])], asked, **{**FIELDS, "steps": 3}).expect()
    text = answer.info["infotexts"][0]
    kept = [path for path in files() if path.parent.name == "pictures"]
    assert len(kept) == 1 and f"last_frame: {kept[0].stem}" in text and len(text) < 1000
    assert (np.array(Image.open(host.outputs / kept[0]).convert("RGB")) == last).all()
    host.watch()
    host.img2img([png(source[0])], {**asked, "last_frame": kept[0].stem}, **{**FIELDS, "steps": 3}).expect()
    assert host.get("/test-probe/start").expect().body["x"]
    gone = host.img2img([png(source[0])], {**asked, "last_frame": "0123456789abcdef"}, **FIELDS)
    assert gone.status == 422 and "not kept" in gone.detail


@pytest.mark.parametrize(("settings", "pictures", "said"), [
    ({"last_frame": "aGVsbG8gd29ybGQ="}, 1, "but not a picture"), ({"last_frame": "/etc/passwd"}, 1, "base64"),
    ({"last_frame": "http://127.0.0.1/x.png"}, 1, "base64"), ({"last_frame": 7}, 1, "no picture"),
    ({"frame_lock": "0: 2"}, 1, "frame_lock"), ({"frame_lock": "x"}, 1, "frame_lock"),
    ({"latent_power": 0}, 1, "latent_power"),
    ({"latent_scale": -1}, 1, "latent_scale"), ({"last_frame": "own"}, 8, "its own picture"),
    ({"video_length": 5}, 8, "8 pictures"),
], ids=str)
def test_what_cannot_be_done_is_a_422(host, source, settings, pictures, said):
    if settings.get("last_frame") == "own":
        settings = {"last_frame": png(source[1])}
    before = host.unet_calls()
    host.watch()
    answer = host.img2img([png(source[0])] * (pictures - 1) + [png(source[1])], {**EIGHT, **settings}, **FIELDS)
    assert answer.status == 422 and said in answer.detail, answer.body
    assert host.unet_calls() == before


def test_in_txt2img_a_last_frame_is_refused_and_a_lock_said_to_do_nothing(host, source):
    refused = host.txt2img({**FRAMES, "last_frame": png(source[1])}, prompt=PROMPT, seed=5, steps=3)
    assert refused.status == 422 and "needs a start picture" in refused.detail, refused.body
    answer = host.txt2img({**FRAMES, "frame_lock": "1, 0"}, prompt=PROMPT, seed=5, steps=3).expect()
    told = answer.info["extra_generation_params"]["AnimateDiff notes"]
    assert any("Frame lock" in note for note in told), told
    assert (stills(answer) == stills(host.txt2img(FRAMES, prompt=PROMPT, seed=5, steps=3))).all()
    ours = {"AnimateDiff": {"args": [{**EIGHT, "frame_lock": 1}]}}
    told = host.post("/animatediff/v1/preflight", {"init_images": ["x"], "alwayson_scripts": ours}).expect().body
    assert any("nothing moves" in said for said in told["notices"])


@pytest.mark.parametrize("fault", ["RuntimeError", "OutOfMemory", "interrupt"])
def test_undone(host, source, fault):
    """The fixture compares the WebUI with a fresh one after each case."""
    host.fault(fault, 3)
    asked = {**LOCK, "last_frame": png(source[1])}
    answer = host.img2img([png(source[0])], asked, **FIELDS)
    assert answer.ok == (fault == "interrupt")
    if answer.ok:
        frames = stills(answer)
        assert psnr(frames[0], source[0]) >= 30 and psnr(frames[-1], source[1]) >= 30
    assert psnr(stills(host.img2img([png(source[0])], LOCK, **FIELDS))[0], source[0]) >= 30


def test_the_page_lists_them_for_both_tabs_alike(host):
    listed = {s["is_img2img"]: [a["label"] for a in s["args"]] for s in host.get("/sdapi/v1/script-info").body
              if s["name"] == "animatediff"}
    assert listed[True] == listed[False] and "Frame lock" in listed[True]
