"""The page itself, in headless Chromium (playwright; CHROMIUM names one that is not on the PATH).

WEBUI_SCREENSHOTS: a folder that gets pictures of the page.
"""
from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image
from test_webui_generation import PROMPT
from webui_host import DEMO

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright and a Chromium")
expect = sync_api.expect

HOSTS_OWN = "Cannot read properties of undefined (reading 'props')"
PATIENCE = 180_000  # ms; one busy core


class Tab:
    """A tab of the WebUI's page, with the actions of a user."""

    def __init__(self, page, name: str = "txt2img"):
        self.page, self.name = page, name

    def ours(self, part: str):
        return self.page.locator(f"#{self.name}-ad-{part}").first  # gradio gives HTML components their id twice

    def open_accordion(self) -> None:
        if not self.ours("frames").is_visible():
            self.header().click()
        expect(self.ours("frames")).to_be_visible(timeout=PATIENCE)

    def header(self):
        return self.page.locator(f"#{self.name}-ad > .label-wrap > span").last

    def tick_box(self):
        return self.page.locator(f"#{self.name}-ad").get_by_label("Enable AnimateDiff", exact=True).first

    def lines(self):
        return self.ours("preflight")

    def fill(self, selector: str, value: str) -> None:
        box = self.page.locator(f"{selector} input[type=number], {selector} textarea").first
        box.fill(value)
        box.press("Tab")

    def tick(self, wanted: bool = True) -> None:
        self.tick_box().set_checked(wanted)

    def is_ticked(self) -> bool:
        return self.tick_box().is_checked()

    def generate(self) -> None:
        """Press Generate and wait until the job ends."""
        self.page.click(f"#{self.name}_generate")
        interrupt = self.page.locator(f"#{self.name}_interrupt")
        with suppress(sync_api.TimeoutError):  # the job may end at once
            interrupt.wait_for(state="visible", timeout=5000)
        interrupt.wait_for(state="hidden", timeout=PATIENCE)

    def small(self, prompt: str = PROMPT, steps: int = 2, frames: int = 4) -> None:
        """Set up a clip that takes seconds."""
        self.open_accordion()
        self.fill(f"#{self.name}_prompt", prompt)
        self.size(64)
        self.fill(f"#{self.name}_steps", str(steps))
        self.fill(f"#{self.name}-ad-frames", str(frames))

    def size(self, side: int) -> None:
        self.page.sizes_changed += 2
        for part in ("width", "height"):
            self.fill(f"#{self.name}_{part}", str(side))

    def results(self) -> list[str]:
        """Return the sources of the gallery's pictures."""
        return self.page.locator(f"#{self.name}_gallery img").evaluate_all("images => images.map(i => i.src)")


@pytest.fixture
def tab(host, browser):
    page = browser.new_page(viewport={"width": 1400, "height": 1900})
    page.route("**/*", lambda route: route.continue_() if "127.0.0.1" in route.request.url
               or route.request.url.startswith(("data:", "blob:")) else route.abort())
    page.errors, page.sizes_changed = [], 0
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    of_gradio = []  # gradio 4 loads ffmpeg for an uploaded video from an address that is aborted here
    page.on("request", lambda request: of_gradio.append(request.url) if "/@ffmpeg/" in request.url else None)
    page.goto(f"{host.url}/?__theme=light", wait_until="domcontentloaded", timeout=PATIENCE)
    page.wait_for_selector("#txt2img_generate", timeout=PATIENCE)
    page.wait_for_function("() => typeof opts !== 'undefined' && Object.keys(opts).length > 0", timeout=PATIENCE)
    yield Tab(page)
    errors = page.errors
    page.close()
    errors = [error for error in errors if not (of_gradio and error == "Failed to fetch")]
    # The host's own page logs this when the width and the height are changed, also without any extension.
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
    assert tab.is_ticked(), "as with Hires. fix, opening it enables it"
    for part in ("motion-module", "formats", "checkbox", "frames", "fps", "loop-number", "closed-loop",
                 "context-length", "stride", "overlap", "preflight"):
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


def test_the_lines_follow_the_controls(tab):
    tab.small(frames=24)
    expect(tab.lines()).to_contain_text("Frames 24", timeout=PATIENCE)
    tab.fill("#txt2img-ad-frames", "40")
    expect(tab.lines()).to_contain_text("Frames 40", timeout=PATIENCE)
    tab.page.locator("#txt2img-ad-frames input").fill("")  # and the cursor stays in it
    expect(tab.lines()).to_contain_text("Frames 16", timeout=PATIENCE)
    tab.fill("#txt2img_steps", "5")
    expect(tab.lines()).to_contain_text("UNet calls 5", timeout=PATIENCE)
    tab.page.locator("#txt2img_steps input[type=range]").press("ArrowRight")
    expect(tab.lines()).to_contain_text("UNet calls 6", timeout=PATIENCE)
    tab.page.locator("#txt2img_prompt textarea").fill("0: a\n8: b")  # and is not left
    expect(tab.lines()).to_contain_text("Prompts 2", timeout=PATIENCE)
    expect(tab.page.locator("#txt2img-ad .ad-old")).to_have_count(0, timeout=PATIENCE)
    tab.page.locator(".ad-schedule summary").first.click()
    tab.fill("#txt2img-ad-frames", "12")
    expect(tab.page.locator(".ad-schedule td").first).to_be_visible(timeout=PATIENCE)
    shot(tab, "schedule", "#txt2img-ad")


def test_what_is_wrong_stands_in_view_in_the_pages_words(tab):
    tab.page.set_viewport_size({"width": 1600, "height": 1400})
    tab.open_accordion()
    tab.tick()  # with gradio 4, opening does not
    for part, value, words in (
            ("overlap", "16", "Overlap: 16 is not less than the context length, 16. Use -1 to 15, or a longer Context "
             "length; -1 is a quarter of it."), ("fps", "0.001", "FPS: 0.001 is out of range.")):
        tab.fill(f"#txt2img-ad-{part}", value)
        problem = tab.page.locator("#txt2img-ad .ad-problem")
        expect(problem).to_contain_text(words, timeout=PATIENCE)
        tab.page.wait_for_timeout(1000)  # until the last response
        box = problem.bounding_box()
        assert box["y"] + box["height"] < 1400 and tab.page.evaluate("scrollY") == 0
        shot(tab, f"problem-{part}")
        tab.generate()
        shown = tab.page.locator("#html_log_txt2img .error").first
        expect(shown).to_contain_text(words, timeout=PATIENCE)
        assert shown.inner_text().startswith(words)  # not the class of an exception
        assert shown.evaluate("e => getComputedStyle(e).color") == problem.evaluate("e => getComputedStyle(e).color")
        tab.fill(f"#txt2img-ad-{part}", "8" if part == "fps" else "-1")
    tab.page.fill("#txt2img_prompt textarea", "0: a\n0: b")
    expect(problem).to_have_count(1, timeout=PATIENCE)
    expect(problem).to_have_text("Prompt, line 2, column 1: frame 0 has a prompt already, in line 1. Remove one of the "
                                 "two.")


def test_a_collapsed_accordion_shows_what_is_enabled(tab):
    tick = tab.tick_box()
    expect(tick).to_be_visible(timeout=PATIENCE)
    tab.tick()
    assert tab.is_ticked() and not tab.ours("frames").is_visible()
    tab.small()
    tab.generate()
    tab.header().click()
    expect(tab.ours("frames")).to_be_hidden(timeout=PATIENCE)
    assert tab.is_ticked()
    shot(tab, "collapsed")
    tab.page.click("#txt2img_send_to_img2img")
    there = Tab(tab.page, "img2img")
    expect(there.tick_box()).to_be_visible(timeout=PATIENCE)
    expect(there.tick_box()).to_be_checked(timeout=PATIENCE)


def test_a_motion_lora_is_picked_from_the_list(tab, host, tmp_path):
    for name in ("zoom-in", "pan-left"):
        (host.motion / f"{name}.safetensors").symlink_to(DEMO / "lora" / f"{name}.safetensors")
    try:
        tab.open_accordion()
        tab.ours("motion").locator(".label-wrap").first.click()
        tab.page.click("#txt2img-ad-refresh")
        field = tab.ours("motion-lora").locator("textarea, input").first
        for name, weight, text in (("zoom-in", "0.8", "zoom-in.safetensors: 0.8"),
                                   ("pan-left", "1", "zoom-in.safetensors: 0.8; pan-left.safetensors"),
                                   ("zoom-in", "0", "pan-left.safetensors")):
            tab.page.wait_for_timeout(1000)
            tab.page.click("#txt2img-ad-lora-list input")
            tab.page.locator("ul.options li", has_text=name).click()
            tab.fill("#txt2img-ad-lora-weight", weight)
            tab.page.click("#txt2img-ad-lora-add")
            expect(field).to_have_value(text, timeout=PATIENCE)
        expect(tab.lines()).to_contain_text("Motion LoRA pan-left.safetensors × 1", timeout=PATIENCE)
    finally:
        for name in ("zoom-in", "pan-left"):
            (host.motion / f"{name}.safetensors").unlink()


def test_a_seam_is_repaired_only_where_there_is_one(tab):
    tab.open_accordion()
    expect(tab.ours("seam-repair")).to_be_visible(timeout=PATIENCE)
    for loop, seam in (("ping-pong", False), ("seamless", True)):
        tab.page.click("#txt2img-ad-closed-loop input")
        tab.page.locator("ul.options li", has_text=loop).first.click()
        expect(tab.ours("seam-repair")).to_be_visible(visible=seam, timeout=PATIENCE)


@pytest.mark.parametrize("button", ["save", "save_zip"])
def test_saving_saves_the_clip(tab, host, button):
    tab.small()
    tab.tick()
    tab.generate()
    expect(tab.page.locator("#txt2img_gallery img").first).to_be_visible(timeout=PATIENCE)
    folder = host.data / host.get("/sdapi/v1/options").expect().body["outdir_save"]
    before = set(folder.glob("*"))
    tab.page.click(f"#{button}_txt2img")
    expect(tab.page.locator("#html_log_txt2img").first).to_contain_text(".gif", timeout=PATIENCE)
    new = {path.suffix: path for path in set(folder.glob("*")) - before}
    with Image.open(new[".gif"]) as clip:
        assert clip.n_frames == 4 and "AnimateDiff" in clip.info["comment"].decode()
    if button == "save_zip":
        with ZipFile(new[".zip"]) as packed:
            [name] = [name for name in packed.namelist() if name.endswith(".gif")]
            assert packed.read(name) == new[".gif"].read_bytes()


@pytest.mark.parametrize("asked", [True, False])
def test_a_grid_is_for_those_who_want_grids_saved(tab, host, files, asked):
    host.options(grid_save=asked)
    tab.small()
    tab.tick()
    tab.generate()
    expect(tab.page.locator("#txt2img_gallery img").first).to_be_visible(timeout=PATIENCE)
    assert any("grid" in source for source in tab.results()) == asked


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
    """Click Generate right after the tick, before any response of the server to the tick."""
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
    new = [host.outputs / path for path in files() if path not in made]
    assert "Traceback" not in host.log()
    assert len(new) == (4 if formats == "PNG" else 1) and {path.suffix for path in new} == {f".{formats.lower()}"}
    if formats != "MP4":
        assert {Image.open(path).size for path in new} == {(128, 128)}
    assert sum(1 for source in tab.results() if formats.lower() in source) >= (4 if formats == "PNG" else 1)
    shot(tab, f"upscaled-{formats}")


@pytest.mark.parametrize(("name", "formats"), [("txt2img", "GIF"), ("img2img", "GIF"), ("txt2img", "MP4")])
def test_the_button_under_the_gallery_interpolates_the_clip(tab, host, files, tmp_path, name, formats):
    if formats == "MP4" and not host.has_pyav:
        pytest.skip("needs PyAV in the WebUI's Python; see webui_host.py")
    tab = Tab(tab.page, name)
    if name == "img2img":
        tab.page.click("#tabs button:has-text('img2img')")
    tab.small(steps=2, frames=4)
    if name == "img2img":
        Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
        tab.page.locator("#img2img_image input[type=file]").first.set_input_files(str(tmp_path / "a.png"))
    for form in ("GIF", "PNG", "MP4"):
        tab.ours("formats").get_by_label(form, exact=True).set_checked(form == formats)
    tab.ours("more").locator(".label-wrap").first.click()
    tab.fill(f"#{name}-ad-interp-x", "3")
    tab.tick()
    tab.generate()
    shown = tab.page.locator(f"#{name}_gallery {'video' if formats == 'MP4' else 'img'}").first
    shown.wait_for(state="attached", timeout=PATIENCE)
    made = set(files())
    host.mark()
    button = tab.page.locator(f"#{name}-ad-interpolate")
    assert "Interpolate the selected clip" in (button.get_attribute("title") or "")
    button.click()
    expect(tab.page.locator(f"#html_info_{name}").first).to_contain_text("8 to 24 fps", timeout=PATIENCE)
    [new] = [host.outputs / path for path in files() if path not in made]
    assert "Traceback" not in host.log() and new.stem.endswith("-interpolated")
    if formats == "GIF":
        with Image.open(new) as clip:
            assert clip.n_frames == 12
    expect(tab.page.locator(f"#{name}_interrupt")).to_be_hidden(timeout=PATIENCE)
    assert sum(new.name in source for source in tab.results()) >= 1
    shot(tab, f"interpolated-{name}-{formats}")
    tab.fill(f"#{name}-ad-interp-x", "1")
    button.click()
    expect(tab.page.locator(f"#html_log_{name}").first).to_contain_text("nothing to do", timeout=PATIENCE)
    assert sum(new.name in source for source in tab.results()) >= 1, "the gallery stays"
    shot(tab, f"interpolated-{name}-{formats}-refused")


@pytest.mark.parametrize("name", ["txt2img", "img2img"])
def test_the_button_under_the_gallery_refines_the_clip(tab, host, files, tmp_path, name):
    tab = Tab(tab.page, name)
    if name == "img2img":
        tab.page.click("#tabs button:has-text('img2img')")
        Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
        tab.page.locator("#img2img_image input[type=file]").first.set_input_files(str(tmp_path / "a.png"))
    tab.small(steps=2, frames=4)
    for form in ("GIF", "PNG"):
        tab.ours("formats").get_by_label(form, exact=True).set_checked(form == "GIF")
    tab.tick()
    tab.generate()
    tab.page.locator(f"#{name}_gallery img").first.wait_for(state="attached", timeout=PATIENCE)
    made = set(files())
    host.mark()
    tab.tick(False)  # the clip's settings are in its infotext
    tab.ours("refine-part").locator(".label-wrap").first.click()
    tab.fill(f"#{name}-ad-refine-scale", "2")
    lines = tab.page.locator(f"#{name}-ad-finished").first
    expect(lines).to_contain_text("4 frames of 64x64 to 128x128 by Lanczos, denoising strength 0.4", timeout=PATIENCE)
    expect(lines).to_contain_text("UNet calls 1", timeout=PATIENCE)
    shot(tab, f"before-refining-{name}")
    button = tab.page.locator(f"#{name}-ad-refine")
    assert "Refine the selected clip" in (button.get_attribute("title") or "")
    button.click()
    expect(tab.page.locator(f"#html_info_{name}").first).to_contain_text("AnimateDiff refined", timeout=PATIENCE)
    [new] = [host.outputs / path for path in files() if path not in made]
    assert "Traceback" not in host.log()
    with Image.open(new) as clip:
        assert clip.n_frames == 4 and clip.size == (128, 128)
    expect(tab.page.locator(f"#{name}_interrupt")).to_be_hidden(timeout=PATIENCE)
    assert sum(new.name in source for source in tab.results()) >= 1
    expect(tab.page.locator(f"#html_log_{name}").first).to_contain_text("Temporal error", timeout=PATIENCE)
    shot(tab, f"refined-{name}")
    expect(lines).to_contain_text("4 frames of 128x128 to 256x256", timeout=PATIENCE)  # the result is selected now


def coloured(place) -> float:
    """Return the share of an element's area that is neither white nor grey, once it is drawn."""
    place.page.wait_for_timeout(1000)
    pixels = np.asarray(Image.open(io.BytesIO(place.screenshot())).convert("RGB")).astype(int)
    return (np.ptp(pixels, axis=-1) > 25).mean()


def test_the_gallerys_buttons_take_an_mp4s_first_frame(tab, mp4, host):
    host.mark()
    for button, target in (("send_to_img2img", "#img2img_image"), ("send_to_inpaint", "#img2maskimg"),
                           ("send_to_extras", "#extras_image")):
        tab.page.click("#tabs button:has-text('txt2img')")
        tab.page.click(f"#txt2img_{button}")
        expect(tab.page.locator(target).first).to_be_visible(timeout=PATIENCE)
        picture = tab.page.locator(f"{target} img").first  # hidden by the inpainting canvas, which shows it
        expect(picture).to_have_js_property("naturalWidth", 64, timeout=PATIENCE)
        assert coloured(tab.page.locator(target).first) > 0.05, button
    shot(tab, "sent")
    tab.page.click("#tabs button:has-text('txt2img')")
    tab.page.click("#save_txt2img")
    expect(tab.page.locator("#html_log_txt2img").first).to_contain_text("Saved", timeout=PATIENCE)
    assert "Traceback" not in host.log()


def test_a_job_that_cannot_be_done_says_so_on_the_page(tab):
    tab.small()
    tab.fill("#txt2img-ad-context-length", "64")
    tab.fill("#txt2img-ad-frames", "70")
    tab.tick()
    tab.generate()
    expect(tab.page.locator("#html_log_txt2img .error").first).to_contain_text("context length", timeout=PATIENCE)
    assert tab.results() == []
    shot(tab, "refused")
    tab.fill("#txt2img-ad-context-length", "16")
    tab.fill("#txt2img-ad-frames", "4")
    tab.generate()
    expect(tab.page.locator("#txt2img_gallery img").first).to_be_visible(timeout=PATIENCE)


def test_settings_come_back_from_params_txt(tab, host):
    host.txt2img({"enable": True, "model": "motion.safetensors", "video_length": 5, "fps": 9.5, "closed_loop": "R+P",
                  "format": ["GIF", "WEBP"]}, prompt="a, b, c", steps=2).expect()
    assert not tab.is_ticked()
    tab.page.fill("#txt2img_prompt textarea", "")
    tab.page.click("#paste")
    expect(tab.page.locator("#txt2img_prompt textarea")).to_have_value("a, b, c", timeout=PATIENCE)
    expect(tab.tick_box()).to_be_checked(timeout=PATIENCE)
    expect(tab.ours("fps").locator("input").first).to_have_value("9.5", timeout=PATIENCE)
    expect(tab.ours("frames").locator("input").first).to_have_value("5", timeout=PATIENCE)
    expect(tab.ours("formats").get_by_label("WEBP", exact=True)).to_be_checked(timeout=PATIENCE)


def test_the_settings_page_has_our_section(tab):
    tab.page.click("#tabs button:has-text('Settings')")
    tab.page.locator("#settings button:has-text('AnimateDiff')").first.click()
    expect(tab.page.locator("#setting_animatediff_model_path")).to_be_visible(timeout=PATIENCE)
    shot(tab, "settings")


def test_a_clip_from_its_first_to_its_last_frame(tab, files, host, tmp_path):
    """Set both pictures and the lock, press Generate, and paste the infotext, with the last frame's picture."""
    for name, colour in (("first", "white"), ("last", "black")):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{name}.png")
    expect(tab.page.locator("#txt2img-ad-pictures")).to_be_hidden()
    tab.page.click("#tabs button:has-text('img2img')")
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
    with Image.open(host.outputs / clips[-1]) as clip:
        ends = []
        for number in (0, clip.n_frames - 1):
            clip.seek(number)
            ends.append(sum(clip.convert("RGB").resize((1, 1)).getpixel((0, 0))) / 3)
    assert ends[0] > 200 and ends[1] < 60, ends
    clear = "button[aria-label=Clear], button[aria-label='Remove Image']"  # of gradio 3, of gradio 4
    ours.page.locator("#img2img-ad-last-frame").locator(clear).first.click()
    expect(picture).to_be_hidden(timeout=PATIENCE)
    ours.page.fill("#img2img_prompt textarea", "")
    ours.page.locator("#img2img_tools #paste, #img2img_toprow #paste").first.click()
    expect(picture).to_be_visible(timeout=PATIENCE)
    expect(lock).to_have_value("1, 0")


def test_a_mask_is_painted_and_used(tab, host, files):
    """A black canvas of the clip's size, a stroke over its left half, a click: the run uses that mask."""
    tab.small(frames=4)
    gradio4 = tab.page.evaluate("gradio_config.version").startswith("4")
    side = 512 if gradio4 else 64  # gradio 4 covers a small canvas with its tools
    tab.size(side)
    tab.ours("motion").locator(".label-wrap").first.click()
    canvas = tab.ours("mask-canvas")
    assert not canvas.is_visible()
    tab.ours("painter").locator(".label-wrap").first.click()
    canvas.scroll_into_view_if_needed()
    tab.page.click("#txt2img-ad-mask-blank")
    surface = canvas.locator("canvas[key=interface], canvas:not([key])").first  # of gradio 3, of gradio 4
    expect(surface).to_be_visible(timeout=PATIENCE)
    tab.page.wait_for_timeout(3000)  # the canvas takes its picture's size
    draw = canvas.locator("button[aria-label*=Draw], button[aria-label*=draw]").first
    if gradio4:
        draw.click()
    surface.scroll_into_view_if_needed()
    box = surface.bounding_box()
    for row in range(1, 12):
        tab.page.mouse.move(box["x"] + 0.05 * box["width"], box["y"] + row / 12 * box["height"])
        tab.page.mouse.down()
        tab.page.mouse.move(box["x"] + 0.35 * box["width"], box["y"] + row / 12 * box["height"], steps=5)
        tab.page.mouse.up()
    tab.page.wait_for_timeout(1000)  # until gradio 4 has sent the strokes
    shot(tab, "mask", "#txt2img-ad")
    tab.page.click("#txt2img-ad-mask-take")
    field = tab.ours("motion-mask").locator("textarea, input").first
    expect(field).not_to_have_value("", timeout=PATIENCE)
    name = field.input_value()
    tab.size(64)
    tab.tick()
    tab.generate()
    expect(tab.page.locator("#html_info_txt2img").first).to_contain_text(name, timeout=PATIENCE)
    [kept] = [path for path in files() if path.name == name]
    painted = np.asarray(Image.open(host.outputs / kept).convert("L"))
    assert painted.shape == (side, side)
    left, right = painted[:, side // 12:side // 3], painted[:, side * 5 // 8:]
    assert left.mean() > (20 if gradio4 else 100) and right.mean() < 20
    shot(tab, "mask-used", "#txt2img-ad")


@pytest.mark.parametrize("made", ["one clip", "a clip each"])
def test_the_batch_tab(tab, files, host, tmp_path, made):
    """Set a folder of pictures, and whether they become one clip."""
    for i, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{i}.png")
    tab.page.click("#tabs button:has-text('img2img')")
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
    assert [Image.open(host.outputs / path).n_frames for path in clips] == \
        ([3] if made == "one clip" else [2, 2, 2])
    shot(tab, f"batch-{made.replace(' ', '-')}")


def test_a_video_is_uploaded_and_a_clip_of_it_comes_back(host, tab, tmp_path):
    """An MP4 with sound goes in through the page of img2img; that which comes back has its rate, frames and sound."""
    av = pytest.importorskip("av")
    path = tmp_path / "walk.mp4"
    with av.open(str(path), "w") as container:
        stream, sound = container.add_stream("libx264", rate=5), container.add_stream("aac", rate=8000)
        stream.width = stream.height = 64
        stream.pix_fmt, sound.layout = "yuv420p", "mono"
        for number in range(6):
            pixels = np.full((64, 64, 3), (40 * number, 90, 200), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
        for begin in range(0, 9600, 960):
            tone = (np.sin(np.arange(begin, begin + 960) / 3) * 0.4).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, begin
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    tab.page.click("#tabs button:has-text('img2img')")
    img2img = Tab(tab.page, "img2img")
    img2img.small(frames=0)
    img2img.tick()
    img2img.ours("source").locator(".label-wrap").click()
    tab.page.locator("#img2img-ad-source-upload input[type=file]").set_input_files(str(path))
    expect(img2img.lines()).to_contain_text("6 frames of 1.2 s → 6 at 5 fps", timeout=PATIENCE)
    expect(tab.page.locator("#img2img-ad-source-upload video")).to_be_visible(timeout=PATIENCE)
    shot(img2img, "source-video", "#img2img-ad")
    formats = tab.page.locator("#img2img-ad-formats")
    for name in ("GIF", "PNG"):
        formats.get_by_label(name, exact=True).uncheck()
    formats.get_by_label("MP4", exact=True).check()
    before = set(host.outputs.rglob("*.mp4"))
    img2img.generate()
    [made] = set(host.outputs.rglob("*.mp4")) - before
    with av.open(str(made)) as found:
        assert found.streams.video[0].average_rate == 5
        assert sum(1 for _ in found.decode(video=0)) == 6
    with av.open(str(made)) as found:
        assert sum(frame.samples for frame in found.decode(audio=0)) > 4000
    shot(img2img, "source-video-made")
