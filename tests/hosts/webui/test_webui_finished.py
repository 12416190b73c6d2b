"""Finished clips in a real WebUI: the buttons under the gallery in a real browser, and the routes that do the same."""
from __future__ import annotations

import base64
import io
import threading

import pytest
from PIL import Image
from test_webui_generation import EULER, FRAMES

CLIP = {**FRAMES, "video_length": 4, "overlap": 1, "fps": 8, "returns": "clip", "format": ["GIF", "PNG"]}
REQUEST = {**EULER, "prompt": "a red square at rest", "steps": 2}


@pytest.fixture
def clip(host):
    """Path and bytes of a clip that the WebUI has made."""
    answer = host.txt2img(CLIP, **REQUEST).expect()
    [path] = answer.info["extra_generation_params"]["AnimateDiff files"]
    return path, base64.b64decode(answer.body["images"][0])


def length(data):
    with Image.open(io.BytesIO(data)) as image:
        return image.n_frames, sum(image.seek(i) or image.info["duration"] for i in range(image.n_frames))


def test_interpolate_by_path_and_by_data(host, clip):
    path, data = clip
    for sent in (path, base64.b64encode(data).decode()):
        told = host.post("/animatediff/v1/interpolate", {"file": sent, "times": 3, "method": "flow"}).expect().body
        assert (told["frames"], told["fps"], told["notes"]) == (12, 24, []), told
        assert length(base64.b64decode(told["images"][0])) == (12, 500) and told["files"][0].endswith(".gif")
        assert told["infotext"].endswith("AnimateDiff interpolation: flow 8 to 24 fps")
    assert "Traceback" not in host.log()


def test_refine_enlarges_and_samples_again(host, clip):
    body = {"file": clip[0], "scale": 2, "denoising_strength": 0.5}
    before = host.post("/animatediff/v1/refine/preflight", body).expect().body
    assert "4 frames of 64x64 to 128x128 by Lanczos, denoising strength 0.5" in before["lines"][0]
    assert before["unet_calls"] > 0 and not before["problems"], before
    told = host.post("/animatediff/v1/refine", body).expect().body
    assert told["lines"] == before["lines"] and "before" in told["temporal_error"], told
    assert "Steps: 2," in told["infotext"] and f"Seed: {EULER['seed']}," in told["infotext"], "as the clip was made"
    assert told["frames"] == 4 and told["files"][0].endswith(".gif"), told
    with Image.open(io.BytesIO(base64.b64decode(told["images"][0]))) as image:
        assert image.size == (128, 128) and image.n_frames == 4
    large = host.post("/animatediff/v1/refine", {"file": base64.b64encode(clip[1]).decode(), "denoising_strength": 0,
                                                 "upscaler": "Lanczos", "format": ["WEBP"]}).expect().body
    with Image.open(io.BytesIO(base64.b64decode(large["images"][0]))) as image:
        assert image.size == (128, 128) and image.n_frames == 4 and image.format == "WEBP"
    for wrong in ({"upscaler": "magic"}, {"scale": 0}, {"unheard": 1}, {"sampler": "magic"}):
        assert host.post("/animatediff/v1/refine", {"file": clip[0], **wrong}).status == 422, wrong
    assert "Traceback" not in host.log()


@pytest.mark.parametrize("body", [{}, {"file": "/etc/passwd"}, {"file": "gone.gif"}, {"file": "data:,x"}, {"times": 0},
                                  {"method": "magic"}, {"unheard": 1}, [], "text"], ids=str)
def test_what_is_wrong_is_answered_with_a_sentence(host, clip, body):
    body = {"file": clip[0], **body} if isinstance(body, dict) and body else body
    answer = host.post("/animatediff/v1/interpolate", body)
    assert answer.status == 422 and answer.body, answer
    assert host.post("/animatediff/v1/interpolate", {"file": clip[0], "method": "blend"}).ok


def test_what_is_no_clip_is_refused(host):
    folder = host.outputs / "no-clips"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.gif").write_text("no clip")
    (folder / "empty.gif").write_bytes(b"GIF89a" + bytes([4, 0, 4, 0, 0, 0, 0]) + b";")
    Image.new("RGB", (8, 8)).save(folder / "one.gif")
    for path in ("refine", "refine/preflight", "interpolate", "interpolate/preflight"):
        for name in ("text.gif", "empty.gif", "one.gif", "gone.gif", "../../../config.json"):
            answer = host.post(f"/animatediff/v1/{path}", {"file": f"outputs/no-clips/{name}"})
            assert answer.status == 422 and 10 < len(answer.body["detail"]) < 400, (name, answer)
        for body in ({"file": ["a"]}, {"file": {}}, {"file": 5}, None, {"file": "outputs", "scale": [], "times": {}}):
            assert host.post(f"/animatediff/v1/{path}", body).status == 422, body
    assert "Traceback" not in host.log()


def test_transparency_is_kept(host):
    frames = [Image.new("RGBA", (64, 64), (90, 30 * i, 60, 255)) for i in range(4)]
    for i, frame in enumerate(frames):
        frame.paste((0, 0, 0, 0), (8 * i, 0, 8 * i + 16, 64))
    file = io.BytesIO()
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:], duration=125)
    sent = {"file": base64.b64encode(file.getvalue()).decode()}
    for path, more, count in (("interpolate", {"method": "flow"}, 8),
                              ("refine", {"scale": 1, "prompt": "a red square", "steps": 2, "sampler": "Euler"}, 4)):
        told = host.post(f"/animatediff/v1/{path}", {**sent, **more, "format": ["APNG"]}).expect().body
        with Image.open(io.BytesIO(base64.b64decode(told["images"][0]))) as image:
            assert image.n_frames == count
            for i, frame in enumerate(frames):
                image.seek(i * count // 4)
                alpha = image.convert("RGBA").getchannel("A")
                assert alpha.tobytes() == frame.getchannel("A").tobytes(), (path, i)
    assert "Traceback" not in host.log()


def test_the_routes_are_documented(host):
    told = host.get("/openapi.json").expect().body["paths"]["/animatediff/v1/interpolate"]["post"]
    schema = told["requestBody"]["content"]["application/json"]["schema"]
    assert {"file", "times", "fps", "method", "loop"} <= schema["properties"].keys()


def test_jobs_wait_for_one_another(host, clip):
    answers = []
    jobs = [threading.Thread(target=lambda: answers.append(host.txt2img(CLIP, **REQUEST).status)),
            threading.Thread(target=lambda: answers.append(
                host.post("/animatediff/v1/interpolate", {"file": clip[0], "method": "flow"}).status))]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert answers == [200, 200]
