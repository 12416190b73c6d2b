"""The accordion in a real gradio 4.40 and a real browser: GRADIO4_PYTHON=… pytest tests/hosts/test_gradio4.py.

GRADIO4_PYTHON is a Python, of the version that runs the tests, with gradio==4.40.0, fastapi==0.112.0, starlette<0.38,
pydantic<2.11 and huggingface_hub<0.26.
"""
from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import wave
from ast import literal_eval
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import write_module

from animatediff.media.write import ClipWriter

HERE = Path(__file__).parent
PYTHON = os.environ.get("GRADIO4_PYTHON")
pytestmark = pytest.mark.skipif(not PYTHON, reason="needs GRADIO4_PYTHON, a Python with gradio 4.40")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The page's address, and the folder of its motion modules."""
    folder = tmp_path_factory.mktemp("modules")
    write_module(folder / "v2.safetensors")
    write_module(folder / "xl.safetensors", "HotShot-XL", widths=(32, 32, 32))
    frames = [Image.new("RGB", (64, 64), (20 * i, 90, 90)) for i in range(4)]
    frames[0].save(folder / "clip.gif", save_all=True, append_images=frames[1:], duration=120)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lent = [str(HERE.parents[1]), *(entry for entry in sys.path if entry.endswith("site-packages"))]
    with (folder / "log.txt").open("w") as log:
        command = [PYTHON, str(HERE / "gradio4_page.py"), str(port), str(folder), os.pathsep.join(lent)]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"GRADIO_ANALYTICS_ENABLED": "0"})
    try:
        for _ in range(240):
            with socket.socket() as client:
                if process.poll() is not None or client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        assert process.poll() is None, (folder / "log.txt").read_text()
        yield f"http://127.0.0.1:{port}", folder
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def page(served, browser):
    page = browser.new_page(viewport={"width": 900, "height": 1400})
    page.route("**/*", lambda route: route.continue_() if "//127.0.0.1" in route.request.url else route.abort())
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(served[0], wait_until="domcontentloaded")
    page.click("#txt2img-ad .label-wrap >> nth=0", timeout=60_000)
    page.locator("#txt2img-ad-enable input").check()
    yield page
    assert not page.errors
    page.close()


def fill(page, name: str, value: str) -> None:
    page.fill(f"#txt2img-ad-{name} input", value)
    page.press(f"#txt2img-ad-{name} input", "Tab")


def says(page, text: str) -> None:
    page.locator("#txt2img-ad-preflight", has_text=text).wait_for(timeout=30_000)


def modules(page) -> list[str]:
    page.click("#txt2img-ad-motion-module input")
    page.locator("ul.options li").first.wait_for()
    return [text.removeprefix("✓").strip() for text in page.locator("ul.options li").all_inner_texts()]


def test_the_line_under_the_controls_follows_them(page):
    fill(page, "frames", "40")
    says(page, "Frames 40")
    fill(page, "fps", "5000")
    says(page, "FPS: 5000 is out of range")
    colour = page.locator("#txt2img-ad-preflight p.ad-problem").evaluate("p => getComputedStyle(p).color")
    assert colour == "rgb(220, 38, 38)"


def test_modules_are_listed_with_their_family_and_sent_by_name(page, served):
    assert modules(page) == ["Automatic", "v2.safetensors (v2, 16 frames)",
                             "xl.safetensors (HotShot-XL, 8 frames; does not fit the checkpoint)"]
    page.locator("ul.options li").nth(1).click()
    (served[1] / "new.safetensors").symlink_to(served[1] / "v2.safetensors")
    page.click("#txt2img-ad-refresh")
    page.wait_for_timeout(2000)
    assert "new.safetensors (v2, 16 frames)" in modules(page)
    page.keyboard.press("Escape")
    fill(page, "frames", "12")
    page.click("#send")
    page.wait_for_function("document.querySelector('#sent textarea').value", timeout=30_000)
    sent = literal_eval(page.input_value("#sent textarea"))
    assert sent[:3] == (True, "v2.safetensors", 12)


def test_the_button_under_the_gallery_interpolates_the_clip(page, served):
    page.locator("#txt2img-ad-more > .label-wrap").first.click()
    page.click("#txt2img-ad-interp input")
    page.locator("ul.options li", has_text="blend").first.click()
    page.click("#txt2img-ad-interpolate")
    page.locator("#html_info_txt2img", has_text='"fps": 16.667').first.wait_for(timeout=30_000)
    page.locator("#txt2img_gallery .thumbnail-item").nth(1).wait_for(timeout=30_000)
    [made] = served[1].rglob("*-interpolated.gif")
    with Image.open(made) as clip:
        assert clip.n_frames == 8


def test_the_lines_say_what_the_buttons_would_do(page):
    page.locator("#txt2img_gallery .thumbnail-item").first.click()
    lines = page.locator("#txt2img-ad-finished")
    lines.locator("p", has_text="clip.gif: 4 frames at").wait_for(timeout=30_000)
    page.locator("#txt2img-ad-refine-part > .label-wrap").first.click()
    page.fill("#txt2img-ad-refine-scale input[type=number]", "3")
    page.press("#txt2img-ad-refine-scale input[type=number]", "Tab")
    lines.locator("p", has_text="64x64 to 192x192 by Lanczos").wait_for(timeout=30_000)
    if folder := os.environ.get("WEBUI_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/gradio4-lines.png", full_page=True)


def test_an_mp4_of_the_gallery_reaches_the_handlers_with_its_path(tmp_path):
    """gradio 4 opens the gallery's files with Pillow."""
    with ClipWriter(tmp_path / "clip.mp4", "MP4") as writer:
        for level in (200, 100):
            writer.add(np.full((48, 64, 3), level, np.uint8))
    lent = [str(HERE.parents[1]), *(entry for entry in sys.path if entry.endswith("site-packages"))]
    code = f"""
import sys; sys.path += {lent}
import gradio as gr
from gradio.components.gallery import GalleryData, GalleryImage
from gradio.data_classes import FileData
from animatediff.hosts.shared import clip_reader
clip_reader.add()
shown = GalleryData(root=[GalleryImage(image=FileData(path={str(tmp_path / 'clip.mp4')!r}))])
[(picture, _)] = gr.Gallery(type="pil").preprocess(shown)
print(picture.size, picture.filename)
"""
    assert PYTHON
    told = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split("\n")[-2] == f"(64, 48) {tmp_path / 'clip.mp4'}"


def test_a_mask_and_a_sound_are_uploaded(page, served, tmp_path):
    """The text field gets the name of the kept file."""
    Image.new("L", (8, 8), 255).save(tmp_path / "mask.png")
    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))
    for part, upload, field, path in (("source", "mask-upload", "mask-path", "mask.png"),
                                      ("sound", "sound-upload", "audio", "tone.wav")):
        page.locator(f"#txt2img-ad-{part} > .label-wrap").first.click()
        page.locator(f"#txt2img-ad-{upload} input[type=file]").set_input_files(str(tmp_path / path))
        value = f"document.querySelector('#txt2img-ad-{field} input, #txt2img-ad-{field} textarea').value"
        page.wait_for_function(value, timeout=30_000)
        [kept] = served[1].rglob(page.evaluate(value))
        assert kept.read_bytes() == (tmp_path / path).read_bytes()


def test_a_mask_is_painted_and_used(page, served):
    for part in ("motion", "painter"):
        page.locator(f"#txt2img-ad-{part} > .label-wrap").first.click()
    page.click("#txt2img-ad-mask-blank")
    surface = page.locator("#txt2img-ad-mask-canvas canvas").first
    surface.wait_for(timeout=30_000)
    page.wait_for_timeout(3000)  # until the canvas has its picture's size
    page.locator("#txt2img-ad-mask-canvas button[aria-label*=Draw], "
                 "#txt2img-ad-mask-canvas button[aria-label*=draw]").first.click()
    surface.scroll_into_view_if_needed()
    box = surface.bounding_box()
    for row in range(1, 10):
        page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + row / 10 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + row / 10 * box["height"], steps=20)
        page.mouse.up()
    page.wait_for_timeout(2000)  # until it has sent its strokes
    if folder := os.environ.get("WEBUI_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/gradio4-mask.png")
    page.click("#txt2img-ad-mask-take")
    name = "document.querySelector('#txt2img-ad-motion-mask input, #txt2img-ad-motion-mask textarea').value"
    page.wait_for_function(name, timeout=30_000)
    [kept] = served[1].rglob(page.evaluate(name))
    with Image.open(kept) as mask:
        painted = np.asarray(mask.convert("L"))
    assert painted.shape == (512, 512)
    assert painted[:, 60:190].mean() > 20 and painted[:, 256:].max() == 0
