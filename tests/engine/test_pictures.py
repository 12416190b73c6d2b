"""Clips from pictures in the engine: parity with diffusers' img2img pipeline, held frames, and invalid values."""
from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionImg2ImgPipeline
from PIL import Image
from slow_cases import slow

from animatediff.clip import pictures
from animatediff.errors import MediaError, SettingsError
from animatediff.faces.cli import main as cli
from animatediff.media import metadata
from animatediff.settings import parse

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A folder with one.png, other.png, moving/ with 2.png, 3.png and 10.png, and invalid files."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "moving").mkdir()
    colours = np.random.default_rng(0)
    for name in ("one.png", "other.png", "moving/10.png", "moving/2.png", "moving/3.png"):
        Image.fromarray(colours.integers(0, 256, (8, 8, 3), np.uint8)).resize((64, 64)).save(folder / name)
    (folder / "moving" / "notes.txt").write_text("not a picture")
    (folder / "empty").mkdir()
    (folder / "text.png").write_text("hello")
    (folder / "cut.png").write_bytes((folder / "one.png").read_bytes()[:200])
    Image.new("RGBA", (50, 30), (255, 0, 0, 0)).save(folder / "clear.png")
    return folder


def settings(**more):
    return parse({"enable": True, "prompt": "a red circle", "seed": 3, "steps": 4, "frames": 3, "context_length": 4,
                  "sampler": "Euler", "latent_scale": 0, **{k: str(v) if k in pictures.SOURCES else v
                                                            for k, v in more.items()}})


def latents_of(pipeline, path):
    """Return the mean of the VAE's distribution, with diffusers' preprocessing."""
    pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"), dtype=np.float32)).permute(2, 0, 1)[None]
    with torch.no_grad():
        return pipeline.vae.encode(pixels / 127.5 - 1).latent_dist.mean * pipeline.vae.config.scaling_factor


@pytest.mark.parametrize("strength, theirs", [(0.5, 0.75), (0.3, 0.5), (1, 1)])
def test_stills_parity_with_diffusers_img2img(pipeline, sources, strength, theirs):
    """Four steps have integer timesteps. diffusers rounds the number of steps down, the WebUI and this engine up."""
    s = settings(enable=False, init=sources / "one.png", denoising_strength=strength, negative="dull", cfg=4)
    scheduler = EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
                                       timestep_spacing="linspace")
    reference = StableDiffusionImg2ImgPipeline(pipeline.vae, None, None, pipeline.unet, scheduler, None, None,
                                               requires_safety_checker=False)
    reference.set_progress_bar_config(disable=True)
    cond, uncond = pipeline.text.encode([s.prompt], [s.negative])
    expected = reference(
        image=latents_of(pipeline, sources / "one.png").repeat(3, 1, 1, 1), strength=theirs, num_inference_steps=4,
        guidance_scale=4, prompt_embeds=cond.repeat(3, 1, 1), negative_prompt_embeds=uncond.repeat(3, 1, 1),
        generator=[torch.Generator().manual_seed(3 + i) for i in range(3)], output_type="latent").images
    torch.testing.assert_close(pipeline.sample(s), expected, atol=1e-4 * expected.abs().max().item(), rtol=1e-4)


def test_latent_power_and_scale_mix_in_the_second_noise(pipeline, sources):
    """Strength 0 does one step from the lowest level. Its input is compared with the formula."""
    seen = []
    hook = pipeline.unet.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    pipeline.sample(settings(init=sources / "one.png", denoising_strength=0, latent_scale=2, cfg=1))
    hook.remove()
    first, second = [], []
    for i in range(3):
        source = torch.Generator().manual_seed(3 + i)
        first.append(torch.randn(4, 8, 8, generator=source))
        second.append(torch.randn(4, 8, 8, generator=source))
    alpha = torch.tensor([1, 0.5, 0]).view(-1, 1, 1, 1)
    expected = latents_of(pipeline, sources / "one.png") * alpha + torch.stack(second) * (1 - alpha)
    sigma = (0.00085 / (1 - 0.00085)) ** 0.5  # of the schedule's first step
    expected = (expected + sigma * torch.stack(first)) / (1 + sigma**2) ** 0.5
    torch.testing.assert_close(seen[0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("more", [{}, slow({"sampler": "LCM"}), slow({"sampler": "Heun"}),
                                  slow({"sampler": "DPM++ SDE"}), slow({"frames": 7, "closed_loop": "R+P"}),
                                  slow({"frames": 9, "overlap": 1})], ids=str)
def test_first_and_last_frame_are_the_given_pictures(pipeline, sources, more):
    s = settings(init=sources / "one.png", last_frame=sources / "other.png", frame_lock="1, 0",
                 denoising_strength=1, **more)
    clip = pipeline.sample(s)
    first, last = (latents_of(pipeline, sources / name) for name in ("one.png", "other.png"))
    torch.testing.assert_close(clip[:1], first, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(clip[-1:], last, atol=1e-4, rtol=1e-4)
    assert min((frame - end).abs().mean() for frame in clip[1:-1] for end in (first, last)) > 0.1
    frames = list(pipeline.render(s))
    with torch.no_grad():
        decoded = pipeline.vae.decode(first / pipeline.vae.config.scaling_factor).sample[0].permute(1, 2, 0)
    assert np.abs(frames[0] - (decoded / 2 + 0.5).clamp(0, 1).numpy() * 255).max() <= 0.51


@pytest.mark.parametrize("more", [
    slow({"freeinit_iterations": 2}), {"freeinit_iterations": 2, "freeinit_fast": True, "sampler": "Euler a"},
    slow({"seam_repair": 0.75, "frames": 9, "context_length": 8}),
    slow({"seam_repair": 0.5, "frames": 9, "context_length": 8, "freeinit_iterations": 2, "overlap": 2})], ids=str)
@pytest.mark.parametrize("cfg", [1, slow(4)])
def test_frame_lock_holds_in_freeinit_and_seam_repair(pipeline, sources, more, cfg):
    """FreeInit samples the clip again, and seam repair its ends. The held pictures stay, and other frames change."""
    s = settings(**{"init": sources / "one.png", "last_frame": sources / "other.png",
                    "frame_lock": "1, 0", "cfg": cfg, **more})
    found = pipeline.sample(s)
    torch.testing.assert_close(found[:1], latents_of(pipeline, sources / "one.png"), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[-1:], latents_of(pipeline, sources / "other.png"), atol=1e-5, rtol=1e-5)
    once = pipeline.sample(parse({"freeinit_iterations": 1, "seam_repair": 0}, s))
    assert torch.isfinite(found).all() and (found[1:-1] - once[1:-1]).abs().max() > 0.01


@pytest.mark.slow
def test_held_frame_changes_its_neighbours(pipeline, sources):
    s = settings(init=sources / "one.png", denoising_strength=1)
    free, held = pipeline.sample(s), pipeline.sample(parse({"frame_lock": "1, 0"}, s))
    assert not torch.allclose(free[1:], held[1:], atol=1e-3)


def test_frame_lock_of_0_has_no_effect(pipeline, sources):
    s = settings(init=sources / "one.png")
    assert torch.equal(pipeline.sample(s), pipeline.sample(parse({"frame_lock": "0: 0, 2: 0"}, s)))


def test_folder_gives_a_picture_for_each_frame(pipeline, sources):
    """The pictures are in the order of their numbers, and the clip has as many frames."""
    s = pipeline.plan(settings(init=sources / "moving", frames=0, denoising_strength=0.05, steps=20)).settings
    assert s.frames == 3 and s.size == "64x64"
    clip = pipeline.sample(s)
    own = torch.cat([latents_of(pipeline, sources / "moving" / f"{i}.png") for i in (2, 3, 10)])
    distance = (clip[:, None] - own[None]).abs().mean((2, 3, 4))
    assert distance.argmin(1).tolist() == [0, 1, 2]


def test_animated_picture_and_its_first_frames(pipeline, sources, tmp_path):
    frames = [Image.open(sources / name) for name in ("one.png", "other.png", "moving/2.png")]
    frames[0].save(tmp_path / "clip.png", save_all=True, append_images=frames[1:], default_image=False)
    s = pipeline.plan(settings(init=tmp_path / "clip.png", frames=2)).settings
    assert any("first 2 are used" in note for note in pipeline.plan(s).notices)
    assert (pictures.read(s).first[1] == np.array(frames[1])).all()
    assert len(pictures.read(settings(init=tmp_path / "clip.png", frames=0)).first) == 3


@pytest.mark.parametrize("mode, size, expected", [
    ("Crop and resize", "32x32", "middle"), ("Just resize", "32x32", "all"), ("Crop and resize", "", "all")])
def test_sizes(pipeline, tmp_path, mode, size, expected):
    """A picture has red, green and blue stripes. Cropped to a square, only green is left."""
    picture = np.zeros((40, 123, 3), np.uint8)
    for i in range(3):
        picture[:, 41 * i:41 * (i + 1), i] = 255
    Image.fromarray(picture).save(tmp_path / "wide.png")
    s = pipeline.plan(settings(init=tmp_path / "wide.png", size=size, resize_mode=mode)).settings
    assert s.size == (size or "120x40")
    found = pictures.read(s).first[0]
    columns = found.mean(0).argmax(1)
    assert found.shape[:2] == (s.height, s.width) and set(columns[2:-2]) == ({1} if expected == "middle" else {0, 1, 2})


def test_transparent_pixels_are_white(sources):
    s = settings(init=sources / "clear.png", frames=1)
    assert (np.asarray(pictures.read(s).first) == 255).all()


@pytest.mark.parametrize(("given", "error", "said"), [
    ({"init": "gone.png"}, MediaError, "gone.png: cannot be read"),
    ({"init": "text.png"}, MediaError, "text.png: is neither"),
    ({"init": "cut.png"}, MediaError, "cut.png: cannot be read"), ({"init": "empty"}, MediaError, "no pictures"),
    ({"init": "one.png", "last_frame": "text.png"}, MediaError, "text.png"),
    ({"last_frame": "one.png"}, SettingsError, "last_frame: it needs a start picture"),
    ({"init": "moving", "frames": 5}, SettingsError, "frames: 5 frames are asked for, but .* has 3 pictures"),
    ({"init": "moving", "frames": 0, "last_frame": "one.png"}, SettingsError, "its own picture"),
], ids=str)
def test_unusable_pictures_are_refused(pipeline, sources, given, error, said):
    given = {k: sources / v if isinstance(v, str) else v for k, v in given.items()}
    for refuse in (pipeline.plan, pipeline.render):
        with pytest.raises(error, match=said):
            refuse(settings(**given))


def test_notices(pipeline, sources):
    said = pipeline.plan(settings(frame_lock="1, 0")).notices
    assert any("Frame lock: without effect" in note for note in said)
    said = pipeline.plan(settings(init=sources / "one.png", frame_lock=1)).notices
    assert any("nothing moves" in note for note in said)
    large = pipeline.plan(settings(init=sources / "one.png", size="512x512")).notices
    assert any("--size" in note for note in large)


@pytest.fixture
def run(tiny, sources, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        code = cli.main(["render", *map(str, arguments), "--checkpoint", str(tiny.checkpoint), "--motion-module",
                         str(tiny.module), "--steps", "2", "--frames", "3", "--cfg", "1", "--device", "cpu", "--quiet"])
        return code, capsys.readouterr()

    return command


@pytest.mark.slow
def test_repeated_clip_needs_its_pictures(run, sources, tmp_path):
    (tmp_path / "one.png").write_bytes((sources / "one.png").read_bytes())
    asked = ["a red circle", "--init", tmp_path / "one.png", "--last-frame", "one.png", "--frame-lock", "0: 1, 2: 0",
             "--seed", "4"]
    code, out = run(*asked, "--out", "clip.gif")
    assert code == 0 and "--frame-lock '0: 1, 2: 0'" in out.out and "--size 64x64" in out.out
    about = json.loads(metadata.read("clip.gif"))
    assert about["settings"]["init"] == "one.png" and str(tmp_path) not in metadata.read("clip.gif")
    assert about["pictures"]["init"]["pictures"] == 1
    code, out = run("--from", "clip.gif", "--out", "again.gif")
    assert code == 0 and (tmp_path / "again.gif").read_bytes() == (tmp_path / "clip.gif").read_bytes()
    (tmp_path / "one.png").write_bytes((sources / "other.png").read_bytes())
    code, out = run("--from", "clip.gif", "--out", "changed.gif", "--json")
    assert code == 0 and any("--init: the picture has changed" in note for note in json.loads(out.out)["notes"])
    (tmp_path / "one.png").unlink()
    code, out = run("--from", "clip.gif", "--out", "gone.gif")
    said = "clip.gif: was made from the picture one.png, which is not here. Give it with --init PATH"
    assert code == 4 and said in out.err
    given = ["--init", sources / "one.png", "--last-frame", sources / "one.png"]
    assert run("--from", "clip.gif", "--out", "x.gif", *given)[0] == 0


@pytest.mark.parametrize(("words", "code", "said"), [
    (["--init", "nowhere.png"], 4, "nowhere.png: cannot be read"), (["--last-frame", "x.png"], 2, "--last-frame"),
    (["--frame-lock", "2"], 2, "--frame-lock: '2' is out of range"),
    (["--denoising-strength", "1.5"], 2, "from 0 to 1"),
    (["--latent-power", "0"], 2, "--latent-power"), (["--fit", "fill"], 2, "crop, pad, stretch")])
def test_command_line_refuses_invalid_values(run, words, code, said):
    found, out = run("x", *words)
    assert found == code and said in out.err and out.out == ""
