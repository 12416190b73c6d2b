"""Buttons under the gallery that process the selected clip, one for each of `finished.OPERATIONS`.

They work like the host's own ✨: the job waits in the queue, its progress is shown over the gallery, and the result is
inserted into the gallery behind the clip. javascript/animatediff-finished.js sends the index of the selected clip.
Lines below the gallery say what each button would do.
"""
from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modules import call_queue, shared
from modules.ui import plaintext_to_html

from animatediff.errors import AnimateDiffError, MediaError
from animatediff.hosts.a1111 import (
    finished,
    finished_lines,
    page_errors,
    results,
    server_files,
    upscale,
    words,
)
from animatediff.hosts.a1111.page_parts import by_elem_id
from animatediff.hosts.a1111.refine import Refined
from animatediff.parameters import Parameter

BESIDE, LAST = "{tab}_send_to_extras", "generation_info_{tab}"  # elem_ids of the host: our neighbour, the last
EMPTY: list[Any] = [None, "", ""]  # values that the host shows after an unexpected error
QUIET = {"queue": False, "show_progress": "hidden", "api_name": False}


def own_rows() -> dict[str, tuple[Parameter, ...]]:
    """Return the parameters that have controls of their own, by operation name.

    Each such operation is a part of the accordion.
    """
    return {name: rows for name, operation in finished.OPERATIONS.items() if (rows := operation.own())}


def add(gr: Any, script: Any, tab: str, ours: dict[str, Any], own: dict[str, dict[str, Any]]) -> None:
    """Create the buttons when the host builds the row under the gallery.

    ours: our controls, by parameter name.
    own: the operations' own controls, by operation and parameter name.
    """
    buttons: dict[str, Any] = {}

    def make(_: Any) -> None:
        for name, operation in finished.OPERATIONS.items():
            buttons[name] = _button(gr, operation.symbol, f"{tab}-ad-{name}")
            buttons[name].webui_tooltip = operation.help

    def connect(last: Any) -> None:
        page = by_elem_id(last.component)
        names = (f"{tab}_gallery", f"generation_info_{tab}", f"html_info_{tab}", f"html_log_{tab}")
        if buttons and all(name in page for name in names):
            shown, lines = [page[each] for each in names], gr.HTML(value="", elem_id=f"{tab}-ad-finished")
            asked = {name: {row: ours[row] for row in operation.rows} | own.get(name, {})
                     for name, operation in finished.OPERATIONS.items()}
            for name, button in buttons.items():
                _connect(gr, tab, button, name, shown, asked[name])
            _connect_lines(gr, tab, lines, shown, asked)

    script.on_after_component(make, elem_id=BESIDE.format(tab=tab))
    script.on_after_component(connect, elem_id=LAST.format(tab=tab))


def _button(gr: Any, symbol: str, elem_id: str) -> Any:
    tool = getattr(sys.modules.get("modules.ui_components"), "ToolButton", None)  # the host's own, in its row
    button = tool(symbol, elem_id=elem_id) if tool else gr.Button(symbol, elem_id=elem_id, elem_classes=["tool"])
    button.do_not_save_to_config = True
    return button


def _connect(gr: Any, tab: str, button: Any, name: str, shown: list[Any], asked: dict[str, Any]) -> None:
    """Connect a button to its operation.

    shown: the gallery, its JSON data, infotext and log. The answer replaces them.
    asked: the controls whose values are sent, by parameter name.
    """
    task, index = gr.Textbox(visible=False), gr.Textbox(visible=False)  # filled by the JavaScript
    inputs = [task, shown[0], index, shown[1], *asked.values()]
    answer = call_queue.wrap_gradio_gpu_call(_answer(tab, name, tuple(asked)), extra_outputs=EMPTY)
    button.click(fn=answer, inputs=inputs, outputs=shown, show_progress="hidden", api_name=False,
                 **_script(gr, "animatediffFinished", tab, len(inputs)))


def _script(gr: Any, function: str, tab: str, count: int) -> dict[str, str]:
    """Return the event's argument for JavaScript: a function of the tab, the number of inputs, and their values."""
    code = f"(...values) => {function}('{tab}', {count}, values)"
    return {"js" if int(gr.__version__.split(".")[0]) >= 4 else "_js": code}


def _connect_lines(gr: Any, tab: str, lines: Any, shown: list[Any], asked: dict[str, dict[str, Any]]) -> None:
    """Update the lines when another clip is selected, and when a control of an operation changes.

    shown: as in `_connect`. asked: the controls of each operation, by operation and parameter name.
    """
    index = gr.Textbox(visible=False)  # filled by the JavaScript
    names = [(operation, row) for operation, controls in asked.items() for row in controls]
    controls = [control for each in asked.values() for control in each.values()]
    inputs = [shown[0], index, shown[1], *controls]

    def shown_lines(gallery: Any, index: Any, about: str, *values: Any) -> str:
        given: dict[str, dict[str, Any]] = {operation: {} for operation in asked}
        for (operation, row), value in zip(names, values):
            given[operation][row] = value
        return finished_lines.lines(lambda: _selected(gallery, index, about, tab)[0], given)

    events = [control.release if isinstance(control, gr.Slider) else control.change for control in controls]
    renew = gr.Button("AnimateDiff", elem_id=f"{tab}-ad-finished-renew", elem_classes=["ad-hidden"])
    for event in (*events, shown[0].select, shown[1].change, renew.click):
        event(fn=shown_lines, inputs=inputs, outputs=[lines], **QUIET,
              **_script(gr, "animatediffSelected", tab, len(inputs)))


def _answer(tab: str, name: str, names: tuple[str, ...]) -> Callable[..., Any]:
    """Return the button's handler. names: names of the values that follow the gallery's."""
    operation = finished.OPERATIONS[name]

    def answer(task: str, gallery: Any, index: Any, about: str, *values: Any) -> tuple[Any, str, str, str]:
        try:
            source, place = _selected(gallery, index, about, tab)
            planned = operation.plan(source, operation.values(dict(zip(names, values))))
            shared.state.textinfo = f"AnimateDiff: {planned}"
            made = planned.run()
        except AnimateDiffError as error:
            print(f"AnimateDiff: {error}")
            kept = [upscale.as_shown(item) for item in gallery or []]
            return kept, about, "", page_errors.markup(words.error(error.named(operation.meant)))
        return _with(made, gallery, place, about)

    return answer


def _selected(gallery: Any, index: Any, about: str, tab: str) -> tuple[finished.Source, int]:
    """Return the selected clip, or the first if none is selected, and its index in the gallery."""
    if not gallery:
        raise MediaError("there is no clip in the gallery", remedy="Generate a clip first")
    place = int(index) if str(index).isdigit() and int(index) < len(gallery) else 0
    path = Path(upscale.path_of(gallery[place]))
    if not (upscale.is_shown(str(path)) or server_files.allowed(path)):
        raise MediaError("the clip's file is not in a folder of the WebUI", where=path.name,
                         remedy="Select a clip that was generated here")
    texts = _facts(about).get("infotexts") or []
    samples = shared.opts.outdir_samples or getattr(shared.opts, f"outdir_{tab}_samples")
    return finished.of_gallery(path, str(texts[place]) if place < len(texts) else "", samples), place


def _with(made: Refined, gallery: Any, place: int, about: str) -> tuple[Any, str, str, str]:
    """Return the gallery with the result behind the clip, and the texts under it."""
    facts, shown = _facts(about), [upscale.as_shown(item) for item in gallery]
    new: list[Any] = [results.ClipPicture.of(made.first, path) for path in made.paths]
    texts = list(facts.get("infotexts") or [])
    if place < len(texts):
        texts[place + 1:place + 1] = [made.text] * len(new)
    notes = "".join(f"AnimateDiff: {words.notice(note)}\n" for note in (*made.notes, *_errors(made)))
    return ([*shown[:place + 1], *new, *shown[place + 1:]], json.dumps(facts | {"infotexts": texts}),
            plaintext_to_html(made.text), plaintext_to_html(notes, classname="comments"))


def _errors(made: Refined) -> list[str]:
    """Return a line on the temporal error, if it was measured."""
    if not (made.error and made.error.before and made.error.after):
        return []
    return [f"temporal error {made.error.after}; before: {made.error.before}"]


def _facts(about: str) -> dict[str, Any]:
    """Return the page's JSON data about its results."""
    try:
        found = json.loads(about or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
