"""localizations/ja_JP.json has every text of the page that is always the same: labels, choices, help, settings, axes.

The host replaces text nodes and tooltips that are exactly a key (javascript/localization.js).
"""
from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from fake_gradio import Blocks, gradio

from animatediff.settings import PARAMETERS

ROOT = Path(__file__).parents[2]
STANDIN = Path(__file__).parent / "standin"
JAPANESE = json.loads((ROOT / "localizations" / "ja_JP.json").read_text("utf-8"))
CLIP = [p for p in PARAMETERS if p.group == "clip"]
EMOJI = re.compile("[\U0001f000-\U0001faff]")  # the host translates no text with one


class Texts(HTMLParser):
    def __init__(self, markup: str):
        super().__init__()
        self.found: list[str] = []
        self.feed(markup)

    def handle_data(self, data: str) -> None:
        self.found.append(data.strip())


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(STANDIN))
    from standin_host import standing_in

    with standing_in(tmp_path) as host:
        host.gr = sys.modules["gradio"] = gradio()
        host.opts.data["animatediff_model_path"] = str(tmp_path / "nowhere")
        sys.modules["modules.sd_models"].model_data = SimpleNamespace(sd_model=None)
        yield host


def missing(texts):
    return sorted({text for text in texts if text and not EMOJI.search(text) and text not in JAPANESE})


def test_controls(host):
    from animatediff.hosts.a1111 import ui

    with Blocks() as page:
        ui.build(False, SimpleNamespace())
    texts = []
    for component in page.inside():
        if (component.elem_id or "").endswith("-ad-update"):  # never shown
            continue
        texts += [component.label, getattr(component, "webui_tooltip", None)]
        if type(component).__name__ == "Button":
            texts.append(component.value)
        if hasattr(component, "get_config"):
            texts += component.get_config()["choices"]
        else:
            texts += component.given.get("choices", ())
    texts.remove("AnimateDiff")  # the name
    assert len(texts) > 40 and not missing(texts)


def test_the_lines_under_the_controls(host):
    from animatediff.clip import preflight
    from animatediff.hosts.a1111 import ui

    assert not missing([*preflight.LABELS, *preflight.TRAVELLING])
    ours = {p.name: p.default for p in CLIP}
    texts = Texts(ui.lines(ours, {}, from_picture=False)).found
    assert ui.OFF in texts and "Frames" in texts and not missing([ui.OFF])
    assert not missing([preflight.NOT_LOADED])


def test_what_the_page_itself_says():
    scripts = "".join(path.read_text("utf-8") for path in (ROOT / "javascript").glob("*.js"))
    said = re.findall(r'"([A-Z][a-z]+(?: [a-z]+){2,})"', scripts)
    assert said and not missing(said)


def test_settings_page(host):
    from animatediff.hosts.a1111 import options

    said = {}

    class OptionInfo:  # modules/options.py of 1.10.1
        def __init__(self, default, label, component, component_args=None, **_):
            self.texts = [label, *((component_args or {}).get("choices") or ())]

        def info(self, text):
            self.texts.append(f"({text})")
            return self

        def needs_reload_ui(self):
            return self

    sys.modules["modules.shared"].OptionInfo = OptionInfo
    for info in options.infos().values():
        said[info.texts[0]] = missing(info.texts)
    assert len(said) > 8 and not any(said.values()), said


def test_axes(host):
    from animatediff.hosts.a1111 import axes

    module = ModuleType("xyz_grid.py")
    module.axis_options = []
    module.AxisOption = lambda label, *_, **__: SimpleNamespace(label=label)
    host.scripts.scripts_data[:] = [
        SimpleNamespace(script_class=type("Script", (), {"__module__": "xyz_grid.py"}), module=module)]
    axes.add()
    assert module.axis_options and not missing(option.label for option in module.axis_options)


def test_nothing_is_translated_that_is_not_there(host):
    """Keys apply to the whole page, so that a leftover would change somebody else's text."""
    files = [*(ROOT / "animatediff").rglob("*.py"), *(ROOT / "javascript").glob("*.js")]
    source = "".join(path.read_text("utf-8") for path in files) + "".join(
        text for p in CLIP for text in (p.label, p.help, *p.choices))
    joined = re.sub(r'"\s*\n\s*"', "", source).replace('\\"', '"')
    left = [key for key in JAPANESE if key.removeprefix("[AnimateDiff] ").strip("()") not in joined
            and key not in joined and key.strip("()") not in joined]
    assert not left


def test_translations_are_japanese_or_names():
    japanese = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")
    same = {key for key, text in JAPANESE.items() if not japanese.search(text)}
    assert all(JAPANESE[key] == key for key in same)
    assert all(" " not in key or key.startswith("[AnimateDiff]") for key in same)
    for key, text in JAPANESE.items():  # numbers of a help text are facts
        assert set(re.findall(r"\d+(?:\.\d+)?", key)) <= set(re.findall(r"\d+(?:\.\d+)?", text)), key
