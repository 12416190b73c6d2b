"""The buttons under the gallery for finished clips, and the routes for the same operations, in the stand-in."""
from __future__ import annotations

import base64
import io
import json
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_gradio import Blocks, gradio
from PIL import Image

from animatediff.media.interpolate import film
from animatediff.media.write import ClipWriter

INFOTEXT = ('a cat\nSteps: 2, Seed: 7, AnimateDiff: "enable: True, motion_module: m.ckpt, frames: 4, fps: 8, '
            'context_length: 16, closed_loop: {}"')


@pytest.fixture(params=["3.41.2", "4.40.0"])
def page(request, host, monkeypatch):
    """The tab txt2img as the host builds it, with the row under the gallery."""
    import sys

    from animatediff.hosts.a1111 import ui

    host.shared.demo = SimpleNamespace(temp_files=set())
    gr, connect = gradio(request.param), []
    monkeypatch.setitem(sys.modules, "gradio", gr)
    script = SimpleNamespace(on_after_component=lambda f, elem_id: connect.append((elem_id, f)))
    with Blocks() as root:
        ui.build(False, script)
        for kind, elem_id in ((gr.Gallery, "txt2img_gallery"), (gr.Button, "txt2img_send_to_extras"),
                              (gr.HTML, "html_info_txt2img"), (gr.HTML, "html_log_txt2img"),
                              (gr.Textbox, "generation_info_txt2img")):
            component = kind(elem_id=elem_id)
            for wanted, function in connect:
                if wanted == elem_id:
                    function(SimpleNamespace(component=component))
    found = {part.elem_id: part for part in root.inside() if part.elem_id}
    return SimpleNamespace(host=host, parts=found, version=request.param)


def clip(folder, form="GIF", count=4, text="", fps=8, stills=False):
    """A clip's file as the gallery shows it."""
    pattern = np.random.default_rng(0).integers(0, 60, (16, 16, 3))
    formats = [form, "PNG"] if stills else [form]
    with ClipWriter(folder / f"00003-7.{form.lower()}", formats, fps, metadata=text or INFOTEXT.format("none")) as made:
        for i in range(count):
            made.add((pattern + 60 + 5 * i).astype(np.uint8))
    return folder / f"00003-7.{form.lower()}"


def press(page, files, index=0, about=None, **controls):
    """Return the result of a click on Interpolate: gallery, data, infotext and log."""
    [(name, event)] = page.parts["txt2img-ad-interpolate"].events
    script = event["js" if page.version.startswith("4") else "_js"]
    assert name == "click" and f"'txt2img', {len(event['inputs'])}" in script
    page.host.shared.demo.temp_files |= {str(file) for file in files}
    gallery = [(str(f), None) if page.version.startswith("4") else {"name": f"{f}?1.5", "is_file": True} for f in files]
    about = json.dumps({"infotexts": [INFOTEXT.format("none")] * len(files)}) if about is None else about
    own = [controls.get(part.elem_id.split("-ad-")[1].replace("-", "_"), part.value) for part in event["inputs"][4:]]
    return event["fn"]("task(a)", gallery, str(index), about, *own)


def length(path):
    with Image.open(path) as image:
        return image.n_frames, sum((image.seek(i), image.load(), image.info["duration"])[2]
                                   for i in range(image.n_frames))


def path_of(picture):
    return Path(picture.already_saved_as)


def test_the_result_stands_behind_the_clip_in_the_gallery(page, tmp_path):
    files = [clip(tmp_path / "a"), clip(tmp_path / "b", fps=4)]
    made, about, text, log = press(page, files, index=0, interp="blend", interp_x=3)
    new = path_of(made[1])
    assert [path_of(picture) for picture in made] == [files[0], new, files[1]]
    assert length(new) == (12, 500) and new.name == "00000-7-interpolated.gif"
    assert new.is_relative_to(page.host.data / "outputs") and "AnimateDiff" in new.parts
    texts = json.loads(about)["infotexts"]
    assert len(texts) == 3 and texts[1].endswith("AnimateDiff interpolation: blend 8 to 24 fps") and "a cat" in text
    again = press(page, [files[1], new], index=1, about=about, interp="blend")[0]
    assert path_of(again[2]).name == "00001-7-interpolated-interpolated.gif" and length(path_of(again[2]))[0] == 24
    assert "error" not in log and page.host.shared.state.sampling_step == 24


def test_frames_that_lost_nothing_are_taken_where_they_are_there(page, tmp_path):
    file = clip(tmp_path, "WEBP", stills=True)
    stills = sorted((tmp_path / "00003-7").glob("*.png"))
    pixels = np.asarray(Image.open(stills[2]))
    Image.fromarray(255 - pixels).save(stills[2])
    made = press(page, [file], interp="blend")[0]
    with Image.open(path_of(made[1])) as image:
        image.seek(4)
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - (255 - pixels)).mean() < 20  # of about 70
    frames = press(page, stills, index=1, interp="blend")[0]
    assert len(frames) == 4 + 8 and path_of(frames[2]).parent.name == "00001-7-interpolated"


@pytest.mark.parametrize(("loop", "same"), [("none", True), ("seamless", False)])
def test_a_clip_whose_settings_close_it_gets_frames_over_the_seam(page, tmp_path, loop, same):
    about = json.dumps({"infotexts": [INFOTEXT.format(loop)]})
    made = press(page, [clip(tmp_path, "APNG", text="x")], about=about, interp="blend")[0]
    with Image.open(path_of(made[1])) as image:
        frames = [image.seek(i) or np.asarray(image.convert("RGB")) for i in (6, 7)]
    assert np.array_equal(*frames) == same


def test_what_cannot_be_done_is_said_and_the_gallery_stays(page, tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    file, picture = clip(folder), folder / "one.png"
    Image.new("RGB", (8, 8)).save(picture)
    for files, index, controls, said in (
            ([file], 0, {"interp_x": 1}, "Interpolation factor: leaves nothing to do"),
            ([picture], 0, {}, "one.png: is one picture"),
            ([file], 0, {"interp": "RIFE"}, "no file of RIFE"), ([file], 0, {"interp_x": 65}, "Interpolation factor"),
            ([], -1, {}, "no clip in the gallery")):
        made, about, text, log = press(page, files, index, **controls)
        assert [path_of(item) for item in made] == files and len(json.loads(about)["infotexts"]) == len(files)
        assert said in log and "ad-error" in log and text == "", log
    page.host.shared.demo.temp_files.clear()
    [(_, event)] = page.parts["txt2img-ad-interpolate"].events
    log = event["fn"]("task(a)", [{"name": str(file)}], "0", "", "auto", 2, "")[3]
    assert "not in a folder of the WebUI" in log


def test_an_interrupt_keeps_the_frames_so_far(page, tmp_path, monkeypatch):
    state = page.host.shared.state
    plain = type(state).begin
    monkeypatch.setattr(type(state), "begin", lambda self, **how: plain(self, **how) or setattr(self, "skipped", True))
    made, _, _, log = press(page, [clip(tmp_path)], interp="blend")
    assert length(path_of(made[1]))[0] == 1 and "Interrupted after 1 of 8 frames" in log


# The API.


def test_an_error_keeps_the_frames_so_far(host, monkeypatch):
    from animatediff.hosts.a1111 import finished

    def progress(done, total, text):
        if done == 3:
            raise RuntimeError("the network failed")

    monkeypatch.setattr(finished, "progress", progress)
    source = finished.Source(clip(host.data / "outputs"), samples=str(host.data / "outputs"), name="clip")
    planned = finished.OPERATIONS["interpolate"].plan(source, {"method": "blend"})
    with pytest.raises(RuntimeError, match="the network failed"):
        planned.run()
    made, = host.data.rglob("*interpolated.gif")
    assert Image.open(made).n_frames == 3


def ask(host, *, path="interpolate", **body):
    return sent(host, path, body)


def sent(host, path, body):
    """Return the route's response, or the detail of its error."""
    from fastapi import FastAPI, HTTPException
    from modules.api.api import Api

    app = FastAPI()
    Api(app)
    host.script_callbacks.app_started_callback(None, app)
    try:
        [route] = [route for route in app.routes if route.path == f"/animatediff/v1/{path}"]
        return route.endpoint(body)
    except HTTPException as error:
        assert error.status_code == 422
        return error.detail
    finally:
        host.script_callbacks.script_unloaded_callback()


@pytest.mark.parametrize("form", ["GIF", "WEBP", "APNG"])
def test_a_clip_by_its_path_or_in_base64(host, form):
    folder = host.data / "outputs"
    file = clip(folder, form, text=INFOTEXT.format("seamless"))
    sent = base64.b64encode(file.read_bytes()).decode()
    answers = [ask(host, file=each, method="blend", times=2) for each in (
        str(file), f"outputs/{file.name}", sent, f"data:image/{form.lower()};base64,{sent}")]
    for answer in answers:
        assert (answer["frames"], answer["fps"], answer["notes"]) == (8, 16, []), answer
        [path], [image] = answer["files"], answer["images"]
        assert Path(path).read_bytes() == base64.b64decode(image) and answer["infotext"].endswith("blend 8 to 16 fps")
        assert length(io.BytesIO(base64.b64decode(image)))[0] == 8
    assert len({tuple(answer["files"]) for answer in answers}) == 4


def test_what_a_request_may_say(host):
    file = str(clip(host.data / "outputs", "APNG"))
    assert ask(host, file=file, fps=20, method="blend")["frames"] == 10
    slow = ask(host, file=file, times=4, fps=8, method="blend", format=["GIF", "WEBP"])
    assert (slow["frames"], slow["fps"], len(slow["images"])) == (16, 8.0, 2)
    assert ask(host, file=file, method="blend", from_fps=10, loop=True)["fps"] == 20


@pytest.mark.parametrize(("body", "said"), [
    ({}, "file: is missing"), ({"file": 5}, "file: is not text"), ({"file": "/etc/passwd"}, "does not read files"),
    ({"file": "../../secret.gif"}, "does not read files"), ({"file": "outputs/gone.gif"}, "no such file"),
    ({"file": base64.b64encode(bytes(5000)).decode()}, "not a picture or video in base64"),
    ({"file": "data:image/gif;base64,AAAA"}, "not a picture or video in base64"),
    ({"times": 0}, "times: 0 is out of range"), ({"times": 1}, "times: leaves nothing to do"),
    ({"fps": 2000}, "fps: 2000"), ({"method": "magic"}, "method"),
    ({"loop": "maybe"}, "loop"), ({"loop": {}}, "loop"), ({"model": "gone.pkl"}, "gone.pkl"), ({"tmes": 2}, "tmes"),
    ({"times": 64, "from_fps": 500}, "32000 frames per second"), ({"format": ["AVI"]}, "format")], ids=str)
def test_what_is_refused(host, body, said):
    file = clip(host.data / "outputs")
    before = sorted(host.data.rglob("*.gif"))
    assert said in ask(host, **({"file": str(file)} | body if body else {}))
    assert sorted(host.data.rglob("*.gif")) == before


@pytest.mark.parametrize("path", ["refine", "refine/preflight", "interpolate", "interpolate/preflight"])
def test_a_request_that_is_none_gets_one_sentence(host, path):
    file = str(clip(host.data / "outputs"))
    names = "times", "method", "loop", "format"
    if path.startswith("refine"):
        names = "scale", "upscaler", "denoising_strength", "size", "seed", "steps", "motion_lora"
    bodies = [None, [], "text", 5, {"file": file, "unheard": 1}, {"file": [file, "R0lG"]}, {"file": {}}, {"file": True},
              *({"file": file, name: value} for name in names for value in ({"a": []}, [[]], float("nan"), "\0"))]
    for body in bodies:
        said = sent(host, path, body)
        assert isinstance(said, str) and 5 < len(said) < 500 and "Traceback" not in said, (body, said)


def test_a_file_that_is_no_clip_is_refused(host):
    folder = host.data / "outputs"
    folder.mkdir(exist_ok=True)
    (folder / "text.txt").write_text("no clip")
    (folder / "text.gif").write_text("no clip")
    (folder / "empty.gif").write_bytes(b"GIF89a" + bytes([4, 0, 4, 0, 0, 0, 0]) + b";")  # no frame
    (folder / "nothing.mp4").write_bytes(b"")
    (folder / "none").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "one.gif")
    for path in ("refine", "refine/preflight", "interpolate", "interpolate/preflight"):
        for name in ("text.txt", "text.gif", "empty.gif", "nothing.mp4", "none", "one.gif"):
            said = ask(host, path=path, file=f"outputs/{name}")
            assert isinstance(said, str) and said.startswith(f"{name}: ") and str(host.data) not in said, said
    assert {path.name for path in folder.iterdir()} == {"text.txt", "text.gif", "empty.gif", "nothing.mp4", "none",
                                                        "one.gif"}


def test_what_it_will_do_is_told_before(host):
    file = str(clip(host.data / "outputs"))
    before = sorted(host.data.rglob("*"))
    told = ask(host, path="interpolate/preflight", file=file, times=3, method="blend")
    assert told["lines"] == ["00003-7.gif: 4 frames at 8 fps to 24 fps by blend"]
    assert (told["frames"], told["unet_calls"], told["problems"]) == (12, 0, [])
    assert sorted(host.data.rglob("*")) == before
    assert ask(host, file=file, times=3, method="blend")["lines"] == told["lines"]


def test_film_with_and_without_its_file(host):
    from animatediff.hosts.a1111 import api

    file = str(clip(host.data / "outputs"))
    note = "there is no file of FILM's network, so flow is used; put film_net_fp32.pt into a folder of motion modules"
    told = ask(host, path="interpolate/preflight", file=file, method="FILM")
    assert told["lines"] == ["00003-7.gif: 4 frames at 8 fps to 16 fps by flow"] and told["notices"] == [note]
    assert note in ask(host, file=file, method="FILM")["notes"]
    folder = Path(host.opts.data["animatediff_model_path"])
    torch.save(film.FilmNet(film.Layout(2, (2, 2, 2, 2))).state_dict(), folder / "film_net_fp32.pt")
    told = ask(host, file=file, method="FILM")
    assert told["lines"] == ["00003-7.gif: 4 frames at 8 fps to 16 fps by FILM (film_net_fp32.pt)"]
    assert not told["notes"] and told["frames"] == 8
    run = {"enable": True, "model": "moving.safetensors", "video_length": 4, "interp": "FILM", "format": ["GIF"]}
    body = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 2}
    told = api.preflight({**body, "alwayson_scripts": {"AnimateDiff": {"args": [run]}}})
    assert "Frame interpolation: 4 → 8 frames, 16 fps, FILM (film_net_fp32.pt)" in told["lines"]
    assert host.request("txt2img", body, {"AnimateDiff": [run]}).status == 200
    assert length(max((host.data / "outputs").rglob("*.gif"), key=os.path.getmtime))[0] == 8


def transparent(folder, form="APNG"):
    """A clip with an alpha channel, and its frames."""
    frames = [np.full((16, 16, 4), 60 + 10 * i, np.uint8) for i in range(3)]
    for i, frame in enumerate(frames):
        frame[4 * i:4 * i + 4, :, 3] = 0
    with ClipWriter(folder / f"glass.{form.lower()}", [form], 8, metadata=INFOTEXT.format("none")) as writer:
        for frame in frames:
            writer.add(frame)
    return folder / f"glass.{form.lower()}", frames


def rgba(path):
    with Image.open(path) as image:
        return [image.seek(i) or np.asarray(image.convert("RGBA")) for i in range(image.n_frames)]


def test_transparency_is_kept_where_a_format_has_it(host):
    file, frames = transparent(host.data / "outputs")
    told = ask(host, file=str(file), method="blend")
    assert told["notes"] == [], told
    assert all(np.array_equal(rgba(told["files"][0])[2 * i], frame) for i, frame in enumerate(frames))
    large = ask(host, path="refine", file=str(file), denoising_strength=0, scale=2)
    wanted = [Image.fromarray(frame[..., 3]).resize((32, 32), Image.Resampling.LANCZOS) for frame in frames]
    assert np.array_equal(np.stack(rgba(large["files"][0]))[..., 3], np.stack(wanted)), large
    for path in ("interpolate", "refine"):
        more = {"denoising_strength": 0} if path == "refine" else {"method": "blend"}
        notes = ask(host, path=path, file=str(file), format=["GIF"], **more)["notes"]
        assert any("GIF cannot contain transparency" in note for note in notes), notes


# The lines below the gallery.


def lines(page, files, index=0, **controls):
    """The lines after a click on a clip of the gallery."""
    [event] = [event for name, event in page.parts["txt2img_gallery"].events if name == "select"]
    assert "animatediffSelected" in event["js" if page.version.startswith("4") else "_js"]
    [shown] = event["outputs"]
    assert shown.elem_id == "txt2img-ad-finished"
    page.host.shared.demo.temp_files |= {str(file) for file in files}
    gallery = [(str(f), None) if page.version.startswith("4") else {"name": str(f), "is_file": True} for f in files]
    own = [controls.get(part.elem_id.split("-ad-")[1].replace("-", "_"), part.value) for part in event["inputs"][3:]]
    return event["fn"](gallery, str(index), json.dumps({"infotexts": [INFOTEXT.format("none")]}), *own)


def test_the_lines_say_what_the_buttons_would_do(page, tmp_path):
    text = INFOTEXT.format("none").replace("m.ckpt", "moving.safetensors").replace("Seed", "Sampler: Euler, Seed")
    file, picture = clip(tmp_path, text=text), tmp_path / "one.png"
    Image.new("RGB", (8, 8)).save(picture)
    told = lines(page, [file], interp="blend", interp_x=3)
    assert "00003-7.gif: 4 frames at 8 fps to 24 fps by blend" in told
    assert "00003-7.gif: 4 frames of 16x16 to 32x32 by Lanczos, denoising strength 0.4" in told
    assert "UNet calls</span> <b>1</b>" in told  # 0.4 of 2 steps, of one window
    assert "there is no such motion module" in lines(page, [clip(tmp_path / "other")])
    told = lines(page, [file], interp="blend", refine_denoising_strength=0, refine_scale=3)
    assert "16x16 to 48x48 by Lanczos, not sampled again" in told and "UNet calls" not in told
    assert "ad-problem" in lines(page, [file], interp_x=1, refine_denoising_strength=0, refine_scale=1)
    assert lines(page, [picture, file]) == lines(page, []) == ""
    assert "ad-fact" in lines(page, [picture, file], index=1)
    controls = [part for name, part in page.parts.items() if name.startswith("txt2img-ad-refine-") and part.events]
    assert len(controls) == 3


def test_a_link_out_of_the_folder_is_not_followed(host, tmp_path_factory):
    secret = tmp_path_factory.mktemp("elsewhere")
    clip(secret, "GIF", stills=True)
    (host.data / "outputs").mkdir(exist_ok=True)
    (host.data / "outputs" / "link.gif").symlink_to(secret / "00003-7.gif")
    assert "does not read" in ask(host, file="outputs/link.gif")
    inside = host.data / "outputs" / "frames"
    inside.mkdir()
    for i in range(3):
        (inside / f"{i}.png").symlink_to(secret / "00003-7" / "00000.png")
    assert "does not read" in ask(host, file="outputs/frames")


def test_frames_of_several_sizes_are_refused_before_anything_is_written(host):
    folder = host.data / "outputs" / "frames"
    folder.mkdir(parents=True)
    for number, width in enumerate((16, 16, 32)):
        Image.new("RGB", (width, 16)).save(folder / f"{number}.png")
    said = ask(host, file="outputs/frames", method="blend")
    assert "frames: picture 3 has 32x16 pixels, the first one 16x16." in said
    assert not [path for path in host.data.rglob("*interpolated*") if path.is_file()]


def test_an_operation_waits_until_the_job_before_it_has_ended(host):
    from modules import call_queue

    file, answers = clip(host.data / "outputs"), []
    with call_queue.queue_lock:
        host.shared.state.begin(job="txt2img")
        waiting = threading.Thread(target=lambda: answers.append(ask(host, file=str(file), method="blend")))
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive() and not answers and host.shared.state.job == "txt2img"
        host.shared.state.end()
    waiting.join(30)
    assert answers[0]["frames"] == 8 and not call_queue.queue_lock.locked()


def test_a_damaged_clip_leaves_nothing_behind(host):
    file = clip(host.data / "outputs", "GIF")
    file.write_bytes(file.read_bytes()[:-300])
    said = ask(host, file=base64.b64encode(file.read_bytes()).decode(), method="blend")
    assert said.startswith("clip.gif: ") and host.shared.state.job == ""
    assert not [path for path in host.data.rglob("*interpolated*") if path.is_file()]
    said = ask(host, file=base64.b64encode(file.read_bytes()[:200]).decode(), method="blend")
    assert said.startswith("clip.gif: is damaged.") and "/" not in said
