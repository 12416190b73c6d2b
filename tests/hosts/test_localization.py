"""The page in Japanese.

localizations/ja_JP.json has every constant text (labels, choices, help, settings, axes). The host replaces a text node
or tooltip that equals a key (javascript/localization.js). animatediff/hosts/shared/sentences/ja_JP.json has every
sentence composed at run time.
"""
from __future__ import annotations

import ast
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
SENTENCES = json.loads((ROOT / "animatediff" / "hosts" / "shared" / "sentences" / "ja_JP.json").read_text("utf-8"))
KNOWN = JAPANESE | SENTENCES
CLIP = [p for p in PARAMETERS if p.group == "clip"]
EMOJI = re.compile("[\U0001f000-\U0001faff]")  # the host does not translate texts with an emoji


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
        if (component.elem_id or "").endswith("-ad-refine-upscaler"):  # the host's names
            continue
        if hasattr(component, "get_config"):
            texts += component.get_config()["choices"]
        else:
            texts += component.given.get("choices", ())
    texts.remove("AnimateDiff")  # the name
    assert len(texts) > 40 and not missing(texts)


def test_the_lines_under_the_controls(host):
    from animatediff.clip import preflight
    from animatediff.hosts.a1111 import page_lines, ui

    assert not missing([*preflight.LABELS, *preflight.TRAVELLING])
    ours = {p.name: p.default for p in CLIP}
    texts = Texts(ui.lines(ours, {}, from_picture=False)).found
    assert page_lines.OFF in texts and "Frames" in texts and not missing([page_lines.OFF, "Share", "Prompt", "(empty)"])


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


# Sentences.

# Messages that never appear on a page: those of the command line, the engine and the API only.
NOT_ON_PAGE = ("engine", "faces", "__main__.py", "clip/resume.py", "clip/plan.py", "clip/legacy.py",
               "hosts/a1111/api.py", "hosts/a1111/finished_api.py", "hosts/a1111/request.py", "travel/convert.py",
               "media/metadata.py", "media/measure/drift.py", "media/measure/flicker.py", "fuse.py", "layout.py")
COMPOSED = {  # composed of several texts of the source
    "the older AnimateDiff extension ({}) is enabled for this job too, and the two cannot run together",
    "speed {}: the UNet ran as a whole for {} of {} windows, because another extension calls the UNet, too",
    "Pick an {} module or change the checkpoint", "Change the checkpoint", "a whole number from {} to {}"}
ERRORS = ("AnimateDiffError", "SettingsError", "ModelError", "MediaError", "FormatError", "UnreadableError", "refuse",
          "_refused", "_Refused")
LISTS = ("said", "notes", "notices", "given_up")


def templates(node, constants):
    """Return the messages that an expression in the source can produce, with {} for each value.

    constants: the module's texts by their names.
    """
    if isinstance(node, ast.Name):
        return [constants[node.id]] if node.id in constants else []
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        return ["".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)]
    if isinstance(node, ast.IfExp):
        return templates(node.body, constants) + templates(node.orelse, constants)
    if isinstance(node, ast.ListComp):
        return templates(node.elt, constants)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [text for each in node.elts for text in templates(each, constants)]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        return templates(node.func.value, constants)
    return []


def name_of(node):
    return getattr(node, "attr", None) or getattr(node, "id", None)


def said_in(path):
    """Return the sentences of errors and notices in a source file."""
    found, sentences, tree = [], [], ast.parse(path.read_text("utf-8"))
    constants = {each.targets[0].id: each.value.value for each in tree.body
                 if isinstance(each, ast.Assign) and isinstance(each.value, ast.Constant)
                 and isinstance(each.targets[0], ast.Name) and isinstance(each.value.value, str)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node.func) in ERRORS:
            found += [*node.args[:1], *(k.value for k in node.keywords if k.arg in ("what", "remedy"))]
            found += node.args[4:5] if name_of(node.func) == "refuse" else []
        elif isinstance(node, ast.Call) and name_of(node.func) == "append" and name_of(node.func.value) in LISTS:
            found += node.args
        elif isinstance(node, ast.AugAssign) and name_of(node.target) in LISTS:
            found += [node.value]
        elif isinstance(node, ast.Return) and path.name == "notices.py":
            found += [node.value] if isinstance(node.value, ast.List) else []
        elif isinstance(node, (ast.Return, ast.Yield)) and not isinstance(node.value, (ast.List, ast.Tuple, ast.Name)):
            sentences += [text for text in templates(node.value, constants) if len(re.findall("[a-z]+ ", text)) > 2]
    said = sentences + [text for node in found for text in templates(node, constants)]
    return [text for text in said if re.search("[A-Za-z]", text.replace("{}", ""))]


def on_page():
    package = ROOT / "animatediff"
    return [path for path in sorted(package.rglob("*.py"))
            if not path.relative_to(package).as_posix().startswith(NOT_ON_PAGE)]


@pytest.mark.parametrize("path", [p for p in on_page() if said_in(p)], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_sentence_that_the_page_may_show(path):
    from animatediff.errors import AnimateDiffError
    from animatediff.hosts.shared.translation import Translation

    japanese = Translation(KNOWN)
    example = [text.replace("{}", "7") for text in said_in(path)]
    # A parameter's error message is the predicate of a sentence about its value.
    known = [text for text in example if any(
        japanese.error(AnimateDiffError(said)).rstrip("。") != said.rstrip(".") for said in (text, f"7 {text}"))]
    left = [text for text in example if text not in known]
    assert not left, f"add them to sentences/ja_JP.json: {left}"


ENGLISH = re.compile(r"[A-Za-z]{2,}[ ,][ ]?[a-z]{2,}")


@pytest.mark.parametrize("values", [
    {"overlap": 16}, {"fps": -1}, {"frames": -1}, {"formats": []}, {"motion_scale": "x"}, {"motion_lora": "a: b"},
    {"motion_lora": "gone"}, {"motion_mask": "/gone.png"}, {"request_id": "a/b"}, {"context_length": 64, "frames": 70},
    {"closed_loop": "R+P"}, {"closed_loop": "A", "seam_repair": 0.5}, {"speed": "draft"}, {"frame_lock": "1"},
    {"freeinit_iterations": 2, "freeinit_d_s": 0}, {"noise": "FreeNoise"}, {"fps": 60}, {"frames": 9000},
    {"motion_module": "gone.ckpt"}, {"prompt": "0: a\n0: b"}, {"prompt": "0: a\n99: b"}, {"prompt": "0: a\nb\n2: c"},
    {"context_schedule": "views", "frames": 200}, {"frame_lock": "0: 1, x"}, {"prompt_weights": "x"},
], ids=str)  # fmt: skip
def test_no_english_is_left_in_the_lines(host, tmp_path, values):
    from tiny_models import write_module

    from animatediff.hosts.a1111 import ui

    (tmp_path / "nowhere").mkdir()
    write_module(tmp_path / "nowhere" / "v2.safetensors")
    host.opts.data["localization"] = "ja_JP"
    theirs = {"prompt": values.pop("prompt", "")}
    ours = {p.name: p.default for p in CLIP} | {"enable": True} | values
    texts = [text for text in Texts(ui.lines(ours, theirs, from_picture=False)).found if text and text not in JAPANESE]
    assert texts and not [text for text in texts if ENGLISH.search(text)], texts


def test_templates_have_the_same_places():
    for key, text in SENTENCES.items():
        wanted, numbers = len(re.findall(r"\{#?\}", key)), [int(n) for n in re.findall(r"\{(\d)\}", text)]
        if wanted:
            assert sorted(numbers) == list(range(wanted)) or (not numbers and text.count("{}") == wanted), key


def test_nothing_is_translated_that_is_not_there(host):
    """Keys apply to the whole page, so an unused key could change another extension's text."""
    files = [*(ROOT / "animatediff").rglob("*.py"), *(ROOT / "javascript").glob("*.js")]
    source = "".join(path.read_text("utf-8") for path in files) + "".join(
        text for p in CLIP for text in (p.label, p.help, *p.choices))
    joined = re.sub(r'"\s*\n\s*"', "", source).replace('\\"', '"')
    left = [key for key in JAPANESE if key.removeprefix("[AnimateDiff] ").strip("()") not in joined
            and key not in joined and key.strip("()") not in joined]
    assert not left


def test_no_sentence_is_translated_that_is_not_there():
    source = "".join(path.read_text("utf-8") for path in on_page())
    source = re.sub(r'"\s*\n\s*f?"', "", source).replace('\\"', '"').replace("{{", "{").replace("}}", "}")
    left = [key for key in SENTENCES.keys() - COMPOSED if not all(
        part.strip(" .:;,()") in source for part in re.split(r"\{#?\}", key) if re.search("[a-z]{2,} [a-z]{2,}", part))]
    assert not left


def test_translations_are_japanese_or_names():
    japanese = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")
    same = {key for key, text in JAPANESE.items() if not japanese.search(text)}
    assert all(JAPANESE[key] == key for key in same)
    assert all(" " not in key or key.startswith("[AnimateDiff]") for key in same)
    for key, text in JAPANESE.items():  # numbers in help texts must be the same
        assert set(re.findall(r"\d+(?:\.\d+)?", key)) <= set(re.findall(r"\d+(?:\.\d+)?", text)), key
