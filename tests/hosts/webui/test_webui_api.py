"""API clients' requests and responses, the written files, and the infotext of a clip."""
from __future__ import annotations

import base64
import datetime
import io
import json
from itertools import pairwise

import numpy as np
import pytest
from clip_reading import clip, items, read, stills
from PIL import Image
from test_webui_generation import EIGHT, PROMPT

FOUR = {**EIGHT, "video_length": 4}
COMMA = "a red circle, moving right, (bright:1.1)"
TODAY = "txt2img-images/AnimateDiff/" + datetime.date.today().isoformat()

# The request in the older extension's documentation for API clients.
OLD_CLIENT = {
    "model": "motion.safetensors", "enable": True, "video_length": 4, "fps": 12, "loop_number": 0, "closed_loop": "R-P",
    "batch_size": 16, "stride": 1, "overlap": -1, "format": ["GIF", "PNG"], "interp": "Off", "interp_x": 10,
    "video_source": None, "video_path": "", "mask_path": "", "freeinit_enable": False, "freeinit_filter": "butterworth",
    "freeinit_ds": 0.25, "freeinit_dt": 0.25, "freeinit_iters": 3, "latent_power": 1, "latent_scale": 32,
    "last_frame": None, "latent_power_last": 1, "latent_scale_last": 32, "request_id": "abc",
}  # fmt: skip
OURS = {"enable": True, "motion_module": "motion.safetensors", "frames": 4, "fps": 12, "closed_loop": "R-P",
        "context_length": 16, "formats": ["GIF", "PNG"], "request_id": "abc"}


# -- requests ----------------------------------------------------------------------------------------------------------


def test_old_names_and_ours_ask_for_the_same(host):
    old, new = (clip(host.txt2img(settings, prompt=PROMPT, steps=2)) for settings in (OLD_CLIENT, OURS))
    assert (old.frames == new.frames).all() and old.fps == new.fps == pytest.approx(12, rel=0.1)


def test_positional_arguments_follow_the_published_order(host):
    order = host.get("/animatediff/v1/version").expect().body["order"]
    values = [OURS.get(name) for name in order]
    named = clip(host.txt2img(OURS, prompt=PROMPT, steps=2))
    placed = clip(host.txt2img(values, prompt=PROMPT, steps=2))
    short = clip(host.txt2img(values[: order.index("request_id") + 1], prompt=PROMPT, steps=2))
    assert (named.frames == placed.frames).all() and (named.frames == short.frames).all()


def test_not_enabled_is_a_plain_picture(host):
    plain = host.txt2img(prompt=PROMPT, steps=2).images
    for off in ({"enable": False}, {}, [False], [], {**OLD_CLIENT, "enable": False}):
        assert host.txt2img(off, prompt=PROMPT, steps=2).expect().images == plain


@pytest.mark.parametrize("name", ["AnimateDiff", "animatediff"])
def test_the_script_is_known_by_its_title(host, name):
    answer = host.txt2img(prompt=PROMPT, steps=2, alwayson_scripts={name: {"args": [FOUR]}})
    assert len(clip(answer).frames) == 4


# -- responses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("settings", "plays", "still"), [
    ({"format": ["GIF"]}, ["GIF"], 0),
    ({"format": ["GIF", "WEBP", "APNG", "PNG", "TXT"]}, ["GIF", "WEBP", "APNG"], 0),
    ({"format": ["GIF", "Frame"]}, ["GIF"], 4),
    ({"format": ["GIF"], "returns": "both"}, ["GIF"], 4),
    ({"format": ["GIF"], "returns": "frames"}, [], 4),
    ({"format": ["PNG"]}, [], 4),
    ({"format": ["Frame"]}, [], 4),
    ({"format": ["TXT"]}, [], 4),
    ({"format": "GIF"}, ["GIF"], 0),
], ids=lambda s: str(s)[:60])  # fmt: skip
def test_what_comes_back(host, settings, plays, still):
    found = items(host.txt2img({**FOUR, **settings}, prompt=PROMPT, steps=2))
    assert sorted(i.format for i in found if i.plays) == sorted(plays)
    assert all(len(i.frames) == 4 for i in found if i.plays)
    assert len([i for i in found if not i.plays]) == still
    assert [i.plays for i in found] == sorted((i.plays for i in found), reverse=True), "clips come first"


@pytest.mark.parametrize("format", ["MP4", "WEBM"])
def test_videos(host, files, format):
    if not host.has_pyav:
        pytest.skip("needs PyAV in the WebUI's Python; see webui_host.py")
    pytest.importorskip("av")
    found = clip(host.txt2img({**EIGHT, "format": [format], "fps": 23.976}, prompt=PROMPT, steps=2))
    assert found.format == format and len(found.frames) == 8 and found.fps == pytest.approx(23.976, rel=1e-3)
    assert [p.suffix for p in files()] == [f".{format.lower()}"]


def test_all_formats_show_the_same_frames(host):
    settings = {**FOUR, "format": ["GIF", "WEBP", "APNG", "Frame"], "returns": "both"}
    if host.has_pyav:
        settings["format"] += ["MP4"]
    found = items(host.txt2img(settings, prompt=PROMPT, steps=4, seed=2))
    true = np.stack([i.frames[0] for i in found if not i.plays]).astype(float)
    for item in (i for i in found if i.plays):
        assert np.abs(item.frames - true).mean() < 8, item.format
        nearest = [np.abs(true - f).mean((1, 2, 3)).argmin() for f in item.frames]
        assert nearest == [0, 1, 2, 3], f"{item.format} shows frames {nearest}"


def test_closed_loop_a_plays_to_and_fro(host):
    found = clip(host.txt2img({**FOUR, "closed_loop": "A", "format": ["APNG"]}, prompt=PROMPT, steps=2))
    assert len(found.frames) == 6
    assert (found.frames[4] == found.frames[2]).all() and (found.frames[5] == found.frames[1]).all()


def test_the_answers_info_names_the_files(host, files):
    answer = host.txt2img({**FOUR, "format": ["GIF", "PNG"]}, prompt=PROMPT, steps=2)
    named = answer.info["extra_generation_params"]["AnimateDiff files"]
    assert [host.outputs / p for p in files() if p.suffix == ".gif"] == [host.data / n for n in named]
    assert len(answer.info["infotexts"]) == len(answer.images)


def test_send_images_off_still_writes_the_clip(host, files):
    answer = host.txt2img(FOUR, prompt=PROMPT, steps=2, send_images=False)
    assert answer.expect().images == []
    assert [p.suffix for p in files()] == [".gif"]


# -- files -------------------------------------------------------------------------------------------------------------


def test_files_are_numbered_in_a_folder_of_the_day(host, files):
    for seed in (5, 6):
        host.txt2img({**FOUR, "format": ["GIF", "PNG", "TXT"], "request_id": "mine"}, prompt=PROMPT, steps=2,
                     seed=seed).expect()
    written = files()
    assert all(p.as_posix().startswith(TODAY) for p in written)
    gifs = [p for p in written if p.suffix == ".gif"]
    assert len(gifs) == 2 and len([p for p in written if p.suffix == ".txt"]) == 2
    numbers = [int(p.stem.split("-")[0]) for p in gifs]
    assert numbers[1] == numbers[0] + 1
    for path, seed in zip(gifs, (5, 6)):
        assert str(seed) in path.stem.split("-") and "mine" in path.stem
        frames = sorted(p for p in written if p.suffix == ".png" and p.parent.name == path.stem)
        assert len(frames) == 4


def test_png_frames_are_written_first(host, files):
    host.txt2img({**FOUR, "format": ["GIF", "PNG"]}, prompt=PROMPT, steps=2).expect()
    paths = [host.outputs / p for p in files()]
    pngs, gif = [p for p in paths if p.suffix == ".png"], next(p for p in paths if p.suffix == ".gif")
    assert max(p.stat().st_mtime_ns for p in pngs) <= gif.stat().st_mtime_ns
    numbers = [int(p.stem) for p in sorted(pngs)]
    assert all(b == a + 1 for a, b in pairwise(numbers))


def test_img2img_clips_lie_in_img2imgs_folder(host, files):
    source = host.txt2img(prompt=PROMPT, steps=2).images[:1]
    host.img2img(source, FOUR, prompt=PROMPT, steps=2).expect()
    assert all(p.parts[:2] == ("img2img-images", "AnimateDiff") for p in files()) and files()


def test_no_loose_frames_and_no_grid_are_written(host, files):
    host.txt2img(FOUR, prompt=PROMPT, steps=2, save_images=True).expect()
    assert [p.suffix for p in files() if "AnimateDiff" in p.parts] == [".gif"]
    loose = [p for p in files() if "AnimateDiff" not in p.parts and "grid" not in str(p)]
    assert loose == []


# -- infotexts ---------------------------------------------------------------------------------------------------------


def png_info(host, raw: bytes) -> dict:
    return host.post("/sdapi/v1/png-info", {"image": base64.b64encode(raw).decode()}).expect().body


@pytest.mark.parametrize("format", ["GIF", "WEBP", "APNG", "PNG"])
def test_the_hosts_png_info_reads_every_picture_format(host, format, files):
    settings = {**FOUR, "format": [format], "closed_loop": "R+P", "overlap": 3, "fps": 7.5, "request_id": "x1"}
    host.txt2img(settings, prompt=COMMA, negative_prompt="blurry, dark", steps=2, seed=77).expect()
    body = png_info(host, (host.outputs / files()[0]).read_bytes())
    assert body["info"].startswith(COMMA) and "Negative prompt: blurry, dark" in body["info"]
    parameters = body["parameters"]
    assert parameters["Seed"] == "77" and parameters["Prompt"] == COMMA
    ours = {key: value for key, value in parameters.items() if key.startswith("AnimateDiff")}
    for value in ("motion.safetensors", "R+P", "7.5"):
        assert any(value in str(v) for v in ours.values()), ours


@pytest.mark.parametrize("format", ["MP4", "WEBM"])
def test_video_files_carry_the_infotext(host, format, files):
    av = pytest.importorskip("av")
    if not host.has_pyav:
        pytest.skip("needs PyAV in the WebUI's Python; see webui_host.py")
    host.txt2img({**FOUR, "format": [format]}, prompt=COMMA, steps=2, seed=77).expect()
    with av.open(str(host.outputs / files()[0])) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
    assert COMMA in tags["comment"] and "AnimateDiff: " in tags["comment"]


def test_a_clip_asked_for_by_its_infotext_is_the_same_clip(host):
    settings = {**FOUR, "format": ["APNG"], "fps": 5, "context_length": 8, "noise": "constant", "fuse_method": "flat"}
    settings.pop("batch_size")
    first = host.txt2img(settings, prompt=COMMA, steps=3, seed=9, sampler_name="Euler")
    again = host.post("/sdapi/v1/txt2img", {"infotext": first.info["infotexts"][0], "width": 64, "height": 64})
    a, b = clip(first), clip(again)
    assert (a.frames == b.frames).all() and a.fps == b.fps


def test_params_txt_holds_the_clips_settings(host):
    host.txt2img({**FOUR, "fps": 9}, prompt=COMMA, steps=2).expect()
    text = (host.data / "params.txt").read_text()
    assert text.startswith(COMMA) and "AnimateDiff: " in text and "fps: 9" in text


def test_a_plain_picture_after_a_clip_says_nothing_of_it(host):
    host.txt2img(FOUR, prompt=PROMPT, steps=2).expect()
    assert "AnimateDiff" not in json.dumps(host.txt2img(prompt=PROMPT, steps=2).info)


# -- with the host's other features ------------------------------------------------------------------------------------


def xyz_args(host, label: str, values: str | list, tab: str = "txt2img") -> list:
    """Return arguments of the X/Y/Z plot script with one axis, which is identified by its index in the list."""
    info = next(s for s in host.get("/sdapi/v1/script-info").expect().body if s["name"] == "x/y/z plot"
                and s["is_img2img"] == (tab == "img2img"))
    choices = info["args"][0]["choices"]
    listed = isinstance(values, list)
    axis = [choices.index(label), "" if listed else values, values if listed else []]
    more = [False, False, 0] if host.kind.name == "reForge" else []  # individual labels, skip grid, items per grid
    rows = [0] if host.kind.name == "Neo" else []
    return [*axis, 0, "", [], 0, "", [], True, *more, True, False, True, False, False, False, *rows, 0, False]


@pytest.mark.parametrize(("label", "values", "wanted"), [
    ("[AnimateDiff] FPS", "5, 10", [(4, 5), (4, 10)]),
    ("[AnimateDiff] Number of frames", "3, 6", [(3, 8), (6, 8)]),
    ("[AnimateDiff] Closed loop", ["N", "A"], [(4, 8), (6, 8)]),
])
def test_xyz_plot_axes(host, files, label, values, wanted):
    answer = host.txt2img({**FOUR, "format": ["GIF"]}, prompt=PROMPT, steps=2, script_name="X/Y/Z plot",
                          script_args=xyz_args(host, label, values))
    assert answer.expect().images
    made = [read((host.outputs / p).read_bytes()) for p in files() if p.suffix == ".gif"]
    assert [(len(c.frames), round(c.fps)) for c in made] == wanted


def test_xyz_plot_refuses_a_bad_value_before_the_first_picture(host, files):
    answer = host.txt2img(FOUR, prompt=PROMPT, steps=2, script_name="X/Y/Z plot",
                          script_args=xyz_args(host, "[AnimateDiff] FPS", "8, 0.001"))
    assert answer.status == 422 and "0.01" in answer.detail
    assert files() == []


@pytest.mark.parametrize("settings", [{"model": "gone.ckpt"}, {"model": "motion.safetensors", "video_length": 40,
                                                               "batch_size": 40}], ids=["before", "after loading"])
def test_what_stops_a_clip_stops_a_plot(host, files, settings):
    answer = host.txt2img({**FOUR, **settings}, prompt=PROMPT, steps=2, script_name="X/Y/Z plot",
                          script_args=xyz_args(host, "[AnimateDiff] FPS", "5, 10"))
    assert answer.status == 422 and ("gone.ckpt" in answer.detail or "32" in answer.detail)
    assert files() == []


def test_a_grid_comes_after_what_plays(host):
    host.options(return_grid=True)
    found = items(host.txt2img(FOUR, prompt=PROMPT, steps=2, save_images=True))
    assert found[0].plays and len(found[0].frames) == 4


def test_styles_and_batches_of_prompts(host):
    answer = host.txt2img({**FOUR, "format": ["GIF"]}, prompt=PROMPT, steps=2, styles=[])
    assert len(clip(answer).frames) == 4


# -- our routes --------------------------------------------------------------------------------------------------------


def test_version_and_schema(host):
    version = host.get("/animatediff/v1/version").expect().body
    assert version["version"] and version["order"][0] == "enable"
    schema = host.get("/animatediff/v1/schema").expect().body
    assert set(version["order"]) <= set(schema["properties"])


def test_every_example_of_the_schema_is_accepted(host):
    properties = host.get("/animatediff/v1/schema").expect().body["properties"]
    defaults = {name: p["default"] for name, p in properties.items() if "default" in p}
    wanted = {**defaults, "enable": True, "motion_module": "motion.safetensors", "frames": 2, "formats": ["GIF"]}
    assert len(clip(host.txt2img(wanted, prompt=PROMPT, steps=1, sampler_name="Euler")).frames) == 2


def test_models(host):
    body = host.get("/animatediff/v1/models").expect().body
    assert str(host.motion) in body["folders"]
    entry = next(m for m in body["models"] if m["name"] == "motion.safetensors")
    assert entry["family"] == "v2" and entry["usable"] and entry["base"] == "SD1.5"


def test_preflight_tells_what_a_run_does(host):
    settings = {**EIGHT, "video_length": 20, "overlap": 2}
    body = {"prompt": PROMPT, "steps": 3, "width": 64, "height": 64, "sampler_name": "Euler", "seed": 1, "n_iter": 1,
            "alwayson_scripts": {"AnimateDiff": {"args": [settings]}}}
    told = host.post("/animatediff/v1/preflight", body).expect().body
    host.watch()
    host.post("/sdapi/v1/txt2img", body).expect()
    assert told["frames"] == 20 and told["problems"] == []
    assert told["unet_calls"] == len(host.unet_calls())


@pytest.mark.parametrize(("sampler", "fields"), [("DDIM", {}), ("Heun", {}), ("UniPC", {"steps": 5}), ("PLMS", {}),
                                                 ("Euler", {"enable_hr": True, "hr_upscaler": "Latent",
                                                            "denoising_strength": 0.7,
                                                            "hr_second_pass_steps": 2})], ids=str)
def test_preflights_number_of_unet_calls_is_true(host, sampler, fields):
    body = {"prompt": PROMPT, "steps": 4, "width": 64, "height": 64, "sampler_name": sampler, "seed": 1, **fields,
            "alwayson_scripts": {"AnimateDiff": {"args": [{**EIGHT, "video_length": 12, "overlap": 2}]}}}
    told = host.post("/animatediff/v1/preflight", body).expect().body
    host.watch()
    host.post("/sdapi/v1/txt2img", body).expect()
    assert told["unet_calls"] == len(host.unet_calls())


def test_preflight_names_problems_without_running(host, files):
    body = {"prompt": PROMPT, "alwayson_scripts": {"AnimateDiff": {"args": [
        {**EIGHT, "model": "gone.ckpt", "batch_size": 64, "video_length": 70}]}}}
    told = host.post("/animatediff/v1/preflight", body).expect().body
    assert "gone.ckpt" in " ".join(told["problems"]) and files() == []
    assert host.post("/animatediff/v1/preflight", {"prompt": PROMPT}).status == 422


def test_webuiapi_the_public_client(host):
    """The Python client webuiapi, if it is installed."""
    webuiapi = pytest.importorskip("webuiapi")
    api = webuiapi.WebUIApi(host="127.0.0.1", port=host.port)
    # Without `animatediff` this client sends {"animatediff": {"args": [false]}} behind whatever is in alwayson_scripts.
    settings = webuiapi.AnimateDiff(model="motion.safetensors", video_length=4, batch_size=8)
    result = api.txt2img(prompt=PROMPT, steps=2, width=64, height=64, seed=1, animatediff=settings)
    assert isinstance(result.image, Image.Image) and result.image.n_frames == 4
    out = io.BytesIO()
    result.image.save(out, "GIF", save_all=True)
    assert len(stills(host.txt2img({**FOUR, "returns": "frames"}, prompt=PROMPT, steps=2))) == 4


@pytest.mark.parametrize("fields", [{}, {"sampler_index": "DDIM"},
    {"enable_hr": True, "hr_upscaler": "Latent", "denoising_strength": 0.7}], ids=str)
def test_what_a_request_leaves_out_the_preflight_takes_as_the_host_does(host, fields):
    body = {"prompt": PROMPT, "width": 64, "height": 64, "seed": 1, **fields,
            "alwayson_scripts": {"AnimateDiff": {"args": [FOUR]}}}
    told = host.post("/animatediff/v1/preflight", body).expect().body
    host.watch()
    host.post("/sdapi/v1/txt2img", body).expect()
    assert told["unet_calls"] == len(host.unet_calls()) >= 49
