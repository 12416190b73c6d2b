"""javascript/animatediff.js in Chromium: clips play in the gallery and the lightbox, and pictures come back.

results.html stands in for the WebUI's results. The oracle is the browser: its clock of each <video>, and the pixels on
the page.
"""
from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from animatediff.media.write import ClipWriter

HERE = Path(__file__).parent
SCRIPT = HERE.parents[1] / "javascript" / "animatediff.js"
TYPES = {".html": "text/html", ".js": "text/javascript", ".mp4": "video/mp4", ".webm": "video/webm",
         ".gif": "image/gif", ".webp": "image/webp", ".png": "image/png"}
FRAMES, FPS, SIZE = 16, 8, (96, 64)
FILES = ["still.png", "clip.mp4", "clip.webm", "clip.gif", "clip.webp"]
PREVIEW, GRID, STRIP, BOX = ".preview", ".thumbnail-lg", ".thumbnail-small", "#lightboxModal"


def picture(frame: int) -> np.ndarray:
    """uint8 [h w 3]: a white bar that moves over blue."""
    pixels = np.full((SIZE[1], SIZE[0], 3), (0, 0, 200), np.uint8)
    pixels[:, frame * 5:frame * 5 + 16] = 255
    return pixels


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    pytest.importorskip("av", reason="needs the package av to make clips")
    folder = tmp_path_factory.mktemp("clips")
    with ClipWriter(folder / "clip.gif", ["GIF", "MP4", "WEBM", "WEBP"], fps=FPS) as clip:
        for frame in range(FRAMES):
            clip.add(picture(frame))
    Image.new("RGB", SIZE, (0, 160, 0)).save(folder / "still.png")
    Image.new("RGB", SIZE, (160, 0, 0)).save(folder / "other.png")
    shutil.copy(folder / "clip.mp4", folder / "a clip, 50%.mp4")
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def address(files) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.split("?")[0].lstrip("/")
            path = {"": HERE / "results.html", "animatediff.js": SCRIPT}.get(name)
            if name.startswith("file="):
                path = files / name[5:].replace("%20", " ").replace("%25", "%")
            if path is None or not path.is_file():
                return self.send_error(404)
            data = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", TYPES[path.suffix])
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *text) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


class Results:
    """The page with results, and what its user sees and does."""

    def __init__(self, page):
        self.page = page
        page.set_default_timeout(10_000)

    def open(self, address: str, gradio: str = "3", **wishes: str) -> Results:
        query = "&".join(f"{name}={text}" for name, text in {"gradio": gradio, **wishes}.items())
        self.page.goto(f"{address}?{query}")
        return self

    def show(self, files: list[str], chosen: int | None = None) -> None:
        self.page.evaluate("([files, chosen]) => show(files, chosen)", [files, chosen])

    def playing(self, where: str, at: int = 0) -> dict:
        """The video there, once it is known to play: its clock has moved and it has a size."""
        video = self.page.locator(f"{where} > video").nth(at)
        self.page.wait_for_function(
            "v => v.readyState >= 2 && !v.paused && (v.start ??= v.currentTime, v.currentTime !== v.start)",
            arg=video.element_handle())
        return video.evaluate(
            "v => ({size: [v.videoWidth, v.videoHeight], seconds: v.duration, src: v.src, controls: v.controls,"
            " muted: v.muted, loop: v.loop, autoplay: v.autoplay, inline: v.playsInline})")

    def gone(self, where: str) -> None:
        self.page.wait_for_function("where => !document.querySelector(where + ' > video')", arg=where)

    def count(self, selector: str) -> int:
        return self.page.locator(selector).count()

    def shot(self, where: str) -> np.ndarray:
        with Image.open(BytesIO(self.page.locator(where).first.screenshot())) as image:
            return np.asarray(image.convert("RGB")).astype(int)

    def centre(self, where: str) -> tuple[int, int, int]:
        pixels = self.shot(where)
        return tuple(pixels[pixels.shape[0] // 2 - 20, pixels.shape[1] // 2].tolist())

    def seen(self, name: str):
        return self.page.evaluate(f"seen.{name}")

    def settle(self) -> None:
        self.page.wait_for_timeout(300)


@pytest.fixture
def results(browser, address) -> Iterator[Results]:
    page = browser.new_page(viewport={"width": 800, "height": 640})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    one = Results(page)
    yield one
    errors += one.seen("errors")
    page.close()
    assert not errors


both = pytest.mark.parametrize("gradio", ["3", "4"])


@both
def test_clips_play_in_the_grid(results, address, gradio):
    results.open(address, gradio).show(FILES)
    for at, name in enumerate(("clip.mp4", "clip.webm")):
        video = results.playing(GRID, at)
        assert video["src"].endswith(name) and tuple(video["size"]) == SIZE
        assert video["seconds"] == pytest.approx(FRAMES / FPS, abs=0.05)
        assert video["muted"] and video["loop"] and video["autoplay"] and video["inline"] and not video["controls"]
    assert results.count("video") == 2  # the picture, the GIF and the WebP are left alone
    assert results.count("[data-animatediff-clip]") == 2


@both
def test_what_is_seen_moves(results, address, gradio):
    results.open(address, gradio).show(["clip.mp4", "still.png"], 0)
    results.playing(PREVIEW)
    first = results.shot(".preview > video")
    assert (first.max((0, 1)) > 180).any(), "something is drawn"
    assert any(np.abs(results.shot(".preview > video") - first).max() > 100 for _ in range(20))


@both
@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "a clip, 50%25.mp4", "clip.mp4?1795384076.38"])
def test_selected_clip_plays_with_controls(results, address, gradio, name):
    results.open(address, gradio).show([name, "still.png"], 0)
    video = results.playing(PREVIEW)
    assert tuple(video["size"]) == SIZE and video["controls"] and video["muted"] and video["loop"]
    results.playing(STRIP)
    box = results.page.locator(".preview > video").bounding_box()
    assert (box["width"], box["height"]) == (600, 400), "the room that a picture has"


@both
def test_picture_after_clip_and_back(results, address, gradio):
    results.open(address, gradio).show(FILES, 1)
    results.playing(PREVIEW)
    results.page.locator(STRIP).nth(0).click()
    results.gone(PREVIEW)
    results.settle()
    assert results.centre(PREVIEW) == (0, 160, 0), "the picture is seen"
    results.page.locator(STRIP).nth(2).click()
    assert results.playing(PREVIEW)["src"].endswith("clip.webm")
    results.page.locator(STRIP).nth(1).click()
    results.page.wait_for_function("document.querySelector('.preview > video').src.endsWith('clip.mp4')")
    results.playing(PREVIEW)
    assert results.count(".preview > video") == 1


@both
def test_new_results_in_the_same_elements(results, address, gradio):
    results.open(address, gradio).show(["clip.mp4", "still.png", "clip.webm"], 0)
    results.playing(PREVIEW)
    results.show(["still.png", "other.png"], 1)
    results.page.wait_for_function("!document.querySelector('video')")
    results.settle()
    assert results.centre(PREVIEW) == (160, 0, 0)
    assert results.count("[data-animatediff-clip]") == 0
    results.show(["other.png", "clip.webm"])
    assert results.playing(GRID)["src"].endswith("clip.webm")
    results.show([])
    results.page.wait_for_function("!document.querySelector('video')")


@both
def test_the_hosts_elements_stay(results, address, gradio):
    """The WebUI reads children[0].src of the thumbnails, and offsetParent of the lightbox's <img>."""
    results.open(address, gradio).show(FILES, 1)
    results.playing(PREVIEW)
    sources = results.page.evaluate(
        "[...document.querySelectorAll('.thumbnail-item')].map(b => [b.children[0].tagName, b.children[0].src])")
    assert [(tag, src.split("=")[1]) for tag, src in sources] == [("IMG", name) for name in FILES] * 2
    results.page.locator(STRIP).nth(2).click()
    assert results.playing(PREVIEW)["src"].endswith("clip.webm")
    results.page.locator(STRIP).nth(2).press("ArrowRight")  # gradio's own keys
    results.gone(PREVIEW)
    assert results.page.evaluate("chosen") == 3


@both
def test_click_opens_the_lightbox(results, address, gradio):
    results.open(address, gradio).show(FILES, 1)
    results.playing(PREVIEW)
    results.settle()
    results.page.locator(".preview > video").click(position={"x": 200, "y": 100})
    video = results.playing(BOX)
    assert video["src"].endswith("clip.mp4") and video["controls"] and video["loop"] and video["muted"]
    assert results.seen("opened") == 1 and results.page.evaluate("chosen") == 1
    box = results.page.locator(f"{BOX} > video").bounding_box()
    assert (box["width"], box["height"]) == (800, 640), "zoomed, as the lightbox opens"
    results.page.evaluate("large.classList.remove('modalImageFullscreen')")
    results.page.wait_for_function("document.querySelector('#lightboxModal > video').clientWidth === 320")
    assert results.page.evaluate("large.offsetParent") is not None
    results.page.locator(f"{BOX} > video").click(position={"x": 100, "y": 20})
    results.gone(BOX)  # a click on the picture closes
    assert results.page.evaluate("modal.style.display") == "none"
    assert results.playing(PREVIEW)["src"].endswith("clip.mp4")


@both
def test_control_bar_keeps_its_clicks(results, address, gradio):
    results.open(address, gradio).show(FILES, 1)
    results.playing(PREVIEW)
    results.settle()
    video = results.page.locator(".preview > video")
    video.hover()
    video.click(position={"x": 30, "y": 370})  # Chromium's button to pause
    results.page.wait_for_function("document.querySelector('.preview > video').paused")
    assert results.seen("opened") == 0 and results.page.evaluate("chosen") == 1
    video.click(position={"x": 30, "y": 370})
    results.playing(PREVIEW)
    # Chromium keeps such clicks inside its control bar; other browsers send them to the <video>.
    kept = "(v, [x, y]) => v.dispatchEvent(new MouseEvent('click', {clientX: x, clientY: y, cancelable: true}))"
    assert video.evaluate(kept, [300, 390]) and results.seen("opened") == 0
    assert not video.evaluate(kept, [300, 300]) and results.seen("opened") == 1


@both
def test_click_without_lightbox_turns(results, address, gradio):
    results.open(address, gradio, lightbox="off").show(["clip.mp4", "clip.webm", "still.png"], 1)
    for x, turned, chosen in ((100, -1, 0), (500, 1, 1)):
        results.playing(PREVIEW)
        results.page.locator(".preview > video").click(position={"x": x, "y": 100})
        assert (results.seen("turned"), results.page.evaluate("chosen")) == (turned, chosen)


@both
def test_next_previous_and_keys_in_the_lightbox(results, address, gradio):
    results.open(address, gradio).show(["still.png", "clip.mp4", "clip.webm"], 0)
    results.settle()
    results.page.locator("[data-testid=detailed-image]").click(position={"x": 200, "y": 100})
    results.settle()
    assert results.count(f"{BOX} > video") == 0 and results.centre("#modalImage") == (0, 160, 0)
    results.page.locator(".modalNext").click()
    assert results.playing(BOX)["src"].endswith("clip.mp4")
    results.settle()
    results.page.keyboard.press("ArrowRight")
    results.page.wait_for_function("document.querySelector('#lightboxModal > video').src.endsWith('clip.webm')")
    results.playing(BOX)
    results.page.locator(f"{BOX} > video").focus()  # its own keys must not win
    results.page.keyboard.press("ArrowRight")
    results.gone(BOX)
    results.settle()
    assert results.centre("#modalImage") == (0, 160, 0)
    results.page.locator(".modalPrev").click()
    assert results.playing(BOX)["src"].endswith("clip.webm")
    results.page.keyboard.press("Escape")
    results.gone(BOX)
    assert results.page.evaluate("modal.style.display") == "none"


def test_live_preview_in_the_lightbox(results, address):
    results.open(address).show(["clip.mp4", "still.png"], 0)
    results.playing(PREVIEW)
    results.settle()
    results.page.locator(".preview > video").click(position={"x": 200, "y": 100})
    results.playing(BOX)
    results.page.evaluate("""async () => {
        const canvas = document.createElement('canvas');
        canvas.width = canvas.height = 64;
        const pen = canvas.getContext('2d');
        pen.fillStyle = 'rgb(200,100,0)';
        pen.fillRect(0, 0, 64, 64);
        livePreview(canvas.toDataURL('image/png'));
    }""")
    results.gone(BOX)
    results.settle()
    assert results.centre("#modalImage") == (200, 100, 0)
    results.page.evaluate("livePreview(null)")
    assert results.playing(BOX)["src"].endswith("clip.mp4")


def test_tiled_lightbox_still_shows_a_clip(results, address):
    results.open(address).show(["clip.mp4"], 0)
    results.playing(PREVIEW)
    results.settle()
    results.page.locator(".preview > video").click(position={"x": 200, "y": 100})
    results.page.evaluate("large.style.display = 'none'")  # what the host's tiling does to the <img>
    assert results.page.locator(f"{BOX} > video").is_visible()
    results.playing(BOX)


@both
def test_what_nobody_sees_rests(results, address, gradio):
    paused = "() => [...document.querySelectorAll('.thumbnail-lg > video')].every(v => v.paused)"
    results.open(address, gradio).show(["clip.mp4", "clip.webm"])
    results.playing(GRID, 0)
    results.page.evaluate("select(0)")  # the preview lies over the grid
    results.page.wait_for_function(paused)
    results.playing(PREVIEW)
    results.page.evaluate("select(null)")
    results.playing(GRID, 0)
    results.page.evaluate("gallery.style.display = 'none'")  # another tab
    results.page.wait_for_function(paused)
    results.page.evaluate("gallery.style.display = ''")
    results.playing(GRID, 1)


@both
def test_unplayable_clip_says_so(results, address, gradio):
    results.open(address, gradio).show(["broken.mp4", "clip.mp4", "missing.webm"], 0)
    note = results.page.locator(".preview > span.animatediff-clip")
    note.wait_for()
    assert (note.text_content(), note.get_attribute("title")) == ("This browser cannot play this clip", "broken.mp4")
    results.page.locator(STRIP).nth(0).locator("span").wait_for()
    results.page.locator(STRIP).nth(1).click()
    results.playing(PREVIEW)
    assert results.count(".preview > span") == 0
    results.page.locator(STRIP).nth(2).click()
    note.wait_for()
    assert note.get_attribute("title") == "missing.webm"


@pytest.mark.parametrize("hooks", ["after", "update", "none"])
def test_every_way_to_learn_of_updates(results, address, hooks):
    results.open(address, hooks=hooks).show(["clip.mp4", "still.png"], 0)
    results.playing(PREVIEW)
    results.page.locator(STRIP).nth(1).click()
    results.gone(PREVIEW)


@pytest.mark.slow
def test_loaded_twice_and_after_the_results(results, address):
    results.open(address).show(["clip.mp4"], 0)
    results.playing(PREVIEW)
    results.page.add_script_tag(url="/animatediff.js")
    results.show(["clip.webm", "clip.mp4"], 1)
    results.settle()
    results.playing(PREVIEW)
    assert results.count(".preview > video") == 1 and results.count("video") == 5
