"""The page itself, in headless Chromium (playwright; CHROMIUM names one that is not on the PATH).

WEBUI_SCREENSHOTS: a folder that gets pictures of the page.
"""
from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_webui_generation import PROMPT

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright and a Chromium")
expect = sync_api.expect

HOSTS_OWN = "Cannot read properties of undefined (reading 'props')"
PATIENCE = 180_000  # ms; one busy core


class Tab:
    """A tab of the WebUI's page, as its user handles it."""

    def __init__(self, page, name: str = "txt2img"):
        self.page, self.name = page, name

    def ours(self, part: str):
        return self.page.locator(f"#{self.name}-ad-{part}").first  # gradio gives HTML its id twice

    def open_accordion(self) -> None:
        label = self.page.locator(f"#{self.name}-ad > .label-wrap, #{self.name}-ad > div > .label-wrap").first
        if not self.ours("enable").is_visible():
            label.click()
        expect(self.ours("enable")).to_be_visible(timeout=PATIENCE)

    def fill(self, selector: str, value: str) -> None:
        box = self.page.locator(f"{selector} input[type=number], {selector} textarea").first
        box.fill(value)
        box.press("Tab")

    def tick(self, wanted: bool = True) -> None:
        self.ours("enable").locator("input").set_checked(wanted)

    def is_ticked(self) -> bool:
        return self.ours("enable").locator("input").is_checked()

    def generate(self) -> None:
        """Press Generate, and wait until the job is over."""
        self.page.click(f"#{self.name}_generate")
        interrupt = self.page.locator(f"#{self.name}_interrupt")
        try:
            interrupt.wait_for(state="visible", timeout=5000)
        except sync_api.TimeoutError:
            pass  # a job that is stopped at once
        interrupt.wait_for(state="hidden", timeout=PATIENCE)

    def small(self, prompt: str = PROMPT, steps: int = 2, frames: int = 4) -> None:
        """A clip that takes seconds."""
        self.page.sizes_changed += 2
        self.open_accordion()
        self.fill(f"#{self.name}_prompt", prompt)
        for part, value in (("width", 64), ("height", 64), ("steps", steps)):
            self.fill(f"#{self.name}_{part}", str(value))
        self.fill(f"#{self.name}-ad-frames", str(frames))

    def results(self) -> list[str]:
        """Where the gallery's pictures come from."""
        pictures = self.page.locator(f"#{self.name}_gallery img")
        return [pictures.nth(i).get_attribute("src") for i in range(pictures.count())]


@pytest.fixture
def tab(host, browser):
    page = browser.new_page(viewport={"width": 1400, "height": 1900})
    page.route("**/*", lambda route: route.continue_() if "127.0.0.1" in route.request.url
               or route.request.url.startswith(("data:", "blob:")) else route.abort())
    page.errors, page.sizes_changed = [], 0
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(f"{host.url}/?__theme=light", wait_until="domcontentloaded", timeout=PATIENCE)
    page.wait_for_selector("#txt2img_generate", timeout=PATIENCE)
    page.wait_for_function("() => typeof opts !== 'undefined' && Object.keys(opts).length > 0", timeout=PATIENCE)
    yield Tab(page)
    errors = page.errors
    page.close()
    # The host's own page says this once when the width and once when the height is changed, with no extension at all.
    hosts_own = [error for error in errors if HOSTS_OWN in error]
    assert [error for error in errors if HOSTS_OWN not in error] == []
    assert len(hosts_own) <= page.sizes_changed


def shot(tab: Tab, name: str, selector: str | None = None) -> None:
    folder = os.environ.get("WEBUI_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        target = tab.page.locator(selector) if selector else tab.page
        target.screenshot(path=str(Path(folder) / f"{name}.png"))


def test_both_tabs_have_the_accordion(tab):
    tab.open_accordion()
    for part in ("motion-module", "formats", "enable", "frames", "fps", "loop-number", "closed-loop", "context-length",
                 "stride", "overlap", "preflight"):
        assert tab.ours(part).count() == 1, part
    expect(tab.ours("preflight")).to_contain_text("UNet calls", timeout=PATIENCE)
    expect(tab.ours("preflight")).to_contain_text("v2")
    assert "motion.safetensors" in tab.ours("motion-module").inner_text() or \
        tab.ours("motion-module").locator("input").input_value()
    shot(tab, "accordion", "#txt2img-ad")
    shot(tab, "page")
    tab.page.click("#tabs button:has-text('img2img')")
    Tab(tab.page, "img2img").open_accordion()
    shot(tab, "img2img")


def test_the_line_under_the_controls_follows_them(tab):
    tab.small(frames=24)
    expect(tab.ours("preflight")).to_contain_text("24", timeout=PATIENCE)
    tab.fill("#txt2img-ad-frames", "40")
    expect(tab.ours("preflight")).to_contain_text("40", timeout=PATIENCE)
    tab.fill("#txt2img-ad-fps", "0")
    expect(tab.ours("preflight")).to_contain_text("0.01", timeout=PATIENCE)
    shot(tab, "problem", "#txt2img-ad")


def test_the_tick_of_enable_is_kept_over_30_clicks_of_generate(tab, files):
    tab.small(steps=2, frames=4)
    tab.tick()
    for click in range(30):
        if not tab.is_ticked():
            pytest.fail(f"the tick was gone before click {click + 1}")
        tab.generate()
    assert tab.is_ticked()
    assert len([p for p in files() if p.suffix == ".gif"]) == 30, "every click made a clip"


def test_ticking_and_pressing_at_once_counts(tab, files):
    """A click on Generate right after the tick, before any answer of the server to the tick."""
    tab.small(steps=2, frames=4)
    for wanted in (True, False, True):
        before = len([p for p in files() if p.suffix == ".gif"])
        tab.tick(wanted)
        tab.generate()
        assert len([p for p in files() if p.suffix == ".gif"]) - before == int(wanted)


def test_the_clip_plays_in_the_gallery(tab):
    tab.small(steps=4, frames=8)
    tab.tick()
    tab.generate()
    expect(tab.page.locator("#txt2img_gallery img").first).to_be_visible(timeout=PATIENCE)
    assert any(".gif" in source for source in tab.results()), tab.results()
    width = tab.page.locator("#txt2img_gallery img").first.evaluate("img => img.naturalWidth")
    assert width == 64
    shot(tab, "gallery")
    expect(tab.page.locator("#html_info_txt2img").first).to_contain_text("AnimateDiff")


@pytest.fixture
def mp4(tab, host):
    """The <video> of an MP4 clip in the gallery."""
    if not host.has_pyav:
        pytest.skip("needs PyAV in the WebUI's Python; see webui_host.py")
    tab.small(steps=2, frames=8)
    for name in ("GIF", "PNG"):
        tab.ours("formats").get_by_label(name, exact=True).set_checked(False)
    tab.ours("formats").get_by_label("MP4", exact=True).set_checked(True)
    tab.tick()
    tab.generate()
    video = tab.page.locator("#txt2img_gallery video").first
    video.wait_for(state="attached", timeout=PATIENCE)
    return video


def test_an_mp4_plays_in_the_gallery_and_the_lightbox(tab, mp4):
    assert mp4.evaluate("""v => new Promise(done => {
        const start = performance.now();
        const look = () => v.readyState >= 2 && v.videoWidth ? done(v.videoWidth)
            : performance.now() - start > 30000 ? done(0) : setTimeout(look, 100);
        look();
    })""") == 64
    shot(tab, "mp4")


@pytest.mark.parametrize("formats", ["GIF", "PNG", "MP4"])
def test_the_button_under_the_gallery_makes_the_hires_pass_of_the_clip(tab, host, files, formats):
    if formats == "MP4" and not host.has_pyav:
        pytest.skip("needs PyAV in the WebUI's Python; see webui_host.py")
    tab.small(steps=2, frames=4)
    for name in ("GIF", "PNG", "MP4"):
        tab.ours("formats").get_by_label(name, exact=True).set_checked(name == formats)
    tab.tick()
    tab.generate()
    shown = tab.page.locator("#txt2img_gallery video" if formats == "MP4" else "#txt2img_gallery img").first
    shown.wait_for(state="attached", timeout=PATIENCE)
    made = set(files())
    host.mark()
    tab.tick(False)  # the clip's settings are in its infotext
    tab.page.click("#txt2img_upscale")
    expect(tab.page.locator("#html_info_txt2img").first).to_contain_text("Hires upscaler", timeout=PATIENCE)
    new = [host.data / "outputs" / path for path in files() if path not in made]
    assert "Traceback" not in host.log()
    assert len(new) == (4 if formats == "PNG" else 1) and {path.suffix for path in new} == {f".{formats.lower()}"}
    if formats != "MP4":
        assert {Image.open(path).size for path in new} == {(128, 128)}
    assert sum(1 for source in tab.results() if formats.lower() in source) >= (4 if formats == "PNG" else 1)
    shot(tab, f"upscaled-{formats}")


def coloured(place) -> float:
    """The share of a place on the page that is neither white nor grey, once it is drawn."""
    place.page.wait_for_timeout(1000)
    pixels = np.asarray(Image.open(io.BytesIO(place.screenshot())).convert("RGB")).astype(int)
    return (np.ptp(pixels, axis=-1) > 25).mean()


def test_the_gallerys_buttons_take_an_mp4s_first_frame(tab, mp4, host):
    host.mark()
    for button, target in (("send_to_img2img", "#img2img_image"), ("send_to_inpaint", "#img2maskimg"),
                           ("send_to_extras", "#extras_image")):
        tab.page.click("#tabs button:text-is('txt2img')")
        tab.page.click(f"#txt2img_{button}")
        expect(tab.page.locator(target).first).to_be_visible(timeout=PATIENCE)
        picture = tab.page.locator(f"{target} img").first  # hidden by the inpainting canvas, which shows it
        expect(picture).to_have_js_property("naturalWidth", 64, timeout=PATIENCE)
        assert coloured(tab.page.locator(target).first) > 0.05, button
    shot(tab, "sent")
    tab.page.click("#tabs button:text-is('txt2img')")
    tab.page.click("#save_txt2img")
    expect(tab.page.locator("#html_log_txt2img").first).to_contain_text("Saved", timeout=PATIENCE)
    assert "Traceback" not in host.log()


def test_a_job_that_cannot_be_done_says_so_on_the_page(tab):
    tab.small()
    tab.fill("#txt2img-ad-context-length", "64")
    tab.fill("#txt2img-ad-frames", "70")
    tab.tick()
    tab.generate()
    expect(tab.page.locator("#txt2img_results .error, #html_log_txt2img .error").first).to_contain_text(
        "context length", timeout=PATIENCE)
    assert tab.results() == []
    shot(tab, "refused")
    tab.fill("#txt2img-ad-context-length", "16")
    tab.fill("#txt2img-ad-frames", "4")
    tab.generate()
    expect(tab.page.locator("#txt2img_gallery img").first).to_be_visible(timeout=PATIENCE)


def test_settings_come_back_from_params_txt(tab, host):
    host.txt2img({"enable": True, "model": "motion.safetensors", "video_length": 5, "fps": 9.5, "closed_loop": "R+P",
                  "format": ["GIF", "WEBP"]}, prompt="a, b, c", steps=2).expect()
    tab.open_accordion()
    assert not tab.is_ticked()
    tab.page.fill("#txt2img_prompt textarea", "")
    tab.page.click("#paste")
    expect(tab.page.locator("#txt2img_prompt textarea")).to_have_value("a, b, c", timeout=PATIENCE)
    expect(tab.ours("enable").locator("input")).to_be_checked(timeout=PATIENCE)
    expect(tab.ours("fps").locator("input").first).to_have_value("9.5", timeout=PATIENCE)
    expect(tab.ours("frames").locator("input").first).to_have_value("5", timeout=PATIENCE)
    expect(tab.ours("formats").get_by_label("WEBP", exact=True)).to_be_checked(timeout=PATIENCE)


def test_the_settings_page_has_our_section(tab):
    tab.page.click("#tabs button:has-text('Settings')")
    tab.page.locator("#settings button:has-text('AnimateDiff')").first.click()
    expect(tab.page.locator("#setting_animatediff_model_path")).to_be_visible(timeout=PATIENCE)
    shot(tab, "settings")


def test_a_clip_from_its_first_to_its_last_frame(tab, files, host, tmp_path):
    """By hand: both pictures, the lock, Generate; and back from the infotext, with the last frame's picture."""
    for name, colour in (("first", "white"), ("last", "black")):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{name}.png")
    expect(tab.page.locator("#txt2img-ad-pictures")).to_be_hidden()
    tab.page.click("#tabs button:text-is('img2img')")
    ours = Tab(tab.page, "img2img")
    ours.small()
    ours.page.locator("#img2img-ad-pictures .label-wrap").first.click()
    expect(ours.ours("frame-lock")).to_be_visible(timeout=PATIENCE)
    ours.page.locator("#img2img_image input[type=file]").first.set_input_files(str(tmp_path / "first.png"))
    ours.page.locator("#img2img-ad-last-frame input[type=file]").first.set_input_files(str(tmp_path / "last.png"))
    picture = ours.page.locator("#img2img-ad-last-frame img").first
    expect(picture).to_be_visible(timeout=PATIENCE)
    lock = ours.page.locator("#img2img-ad-frame-lock input, #img2img-ad-frame-lock textarea").first
    lock.fill("1, 0")
    lock.press("Tab")
    ours.tick()
    shot(tab, "pictures", "#img2img-ad")
    ours.generate()
    expect(ours.page.locator("#img2img_gallery img").first).to_be_visible(timeout=PATIENCE)
    clips = [path for path in files() if path.suffix == ".gif"]
    with Image.open(host.data / "outputs" / clips[-1]) as clip:
        ends = []
        for number in (0, clip.n_frames - 1):
            clip.seek(number)
            ends.append(sum(clip.convert("RGB").resize((1, 1)).getpixel((0, 0))) / 3)
    assert ends[0] > 200 and ends[1] < 60, ends
    ours.page.locator("#img2img-ad-last-frame button[aria-label=Clear]").first.click()
    expect(picture).to_be_hidden(timeout=PATIENCE)
    ours.page.fill("#img2img_prompt textarea", "")
    ours.page.locator("#img2img_tools #paste, #img2img_toprow #paste").first.click()
    expect(picture).to_be_visible(timeout=PATIENCE)
    expect(lock).to_have_value("1, 0")


def test_a_mask_is_painted_and_used(tab, host, files):
    """A black canvas of the clip's size, a stroke over its left half, a click: the run takes that mask."""
    import numpy as np
    from PIL import Image

    tab.small(frames=4)
    tab.ours("motion").locator(".label-wrap").first.click()
    canvas = tab.ours("mask-canvas")
    canvas.scroll_into_view_if_needed()
    tab.page.click("#txt2img-ad-mask-blank")
    surface = canvas.locator("canvas[key=interface]")
    expect(surface).to_be_visible(timeout=PATIENCE)
    tab.page.wait_for_timeout(2000)  # the canvas takes its picture's size
    box = surface.bounding_box()
    for row in range(1, 12):
        tab.page.mouse.move(box["x"] + 0.05 * box["width"], box["y"] + row / 12 * box["height"])
        tab.page.mouse.down()
        tab.page.mouse.move(box["x"] + 0.35 * box["width"], box["y"] + row / 12 * box["height"], steps=5)
        tab.page.mouse.up()
    shot(tab, "mask", "#txt2img-ad")
    tab.page.click("#txt2img-ad-mask-take")
    field = tab.ours("motion-mask").locator("textarea, input").first
    expect(field).not_to_have_value("", timeout=PATIENCE)
    name = field.input_value()
    tab.tick()
    tab.generate()
    expect(tab.page.locator("#html_info_txt2img").first).to_contain_text(name, timeout=PATIENCE)
    [kept] = [path for path in files() if path.name == name]
    painted = np.asarray(Image.open(host.data / "outputs" / kept).convert("L"))
    assert painted.shape == (64, 64)
    assert painted[:, 5:20].mean() > 100 and painted[:, 40:].mean() < 20
    shot(tab, "mask-used", "#txt2img-ad")


@pytest.mark.parametrize("made", ["one clip", "a clip each"])
def test_the_batch_tab(tab, files, host, tmp_path, made):
    """By hand: a folder of pictures, and what is to be made of it."""
    for i, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{i}.png")
    tab.page.click("#tabs button:text-is('img2img')")
    ours = Tab(tab.page, "img2img")
    ours.small(frames=0 if made == "one clip" else 2)
    ours.page.click("#mode_img2img button:text-is('Batch')")
    ours.page.click("#img2img_batch_source button:text-is('From directory')")
    ours.fill("#img2img_batch_input_dir", str(tmp_path))
    ours.page.locator("#img2img-ad-pictures .label-wrap").first.click()
    ours.ours("batch-tab").get_by_label(made, exact=True).check()
    ours.tick()
    ours.generate()
    expect(ours.page.locator("#img2img_gallery img").first).to_be_visible(timeout=PATIENCE)
    clips = [path for path in files() if path.suffix == ".gif"]
    assert [Image.open(host.data / "outputs" / path).n_frames for path in clips] == \
        ([3] if made == "one clip" else [2, 2, 2])
    shot(tab, f"batch-{made.replace(' ', '-')}")
