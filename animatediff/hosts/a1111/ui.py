"""The accordion in txt2img and img2img, made from the table of settings, and the lines that tell what a run will do.

    controls = ui.build(is_img2img, script)   # in Script.ui, for the page and whenever the API asks for default values
    script.infotext_fields, script.paste_field_names = controls.infotext_fields, controls.paste_field_names
    return controls.components                # one for each name in request.ORDER

Nothing writes to a control but the user, a pasted infotext and, for the list of motion modules and the painted mask, a
button.
The lines are made anew when a control is changed, ours or one of the host's that matter; those are found on the page by
their elem_id once it is complete. Works with gradio 3.41 and 4.40, of which the common part is used.
"""
from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

from animatediff import settings as table
from animatediff import travel
from animatediff.errors import AnimateDiffError
from animatediff.hosts.shared import infotext
from animatediff.hosts.shared.mask_painter import Painter
from animatediff.parameters import Parameter

if TYPE_CHECKING:
    from animatediff.clip.preflight import Preflight

MODULE = "motion_module"
CLIP = tuple(p for p in table.PARAMETERS if p.group == "clip")
# How the controls lie; what is not named comes into the last part.
ROWS = (("motion_module",), ("formats",), ("enable", "frames", "fps", "loop_number"),
        ("context_length", "stride", "overlap"), ("closed_loop", "seam_repair"), ("speed", "preset"))
# Where the page is not as the command line, for which the table speaks.
HELP = {"enable": "Make clips instead of pictures.",
        "motion_module": "Automatic takes the first that fits the checkpoint. The list shows the family and the number "
                         "of frames that it was trained on."}
AUTOMATIC = "Automatic"
REFRESH, REFRESH_HELP = "\U0001f504", "Read the folders of motion modules again"
MORE = "More AnimateDiff settings"
OFF = "Not enabled. With Enable AnimateDiff:"
LONGEST_RADIO, LONGEST_SLIDER, MORE_IN_A_ROW = 4, 150, 2  # choices; steps; controls
NARROW = 110  # pixels that a number wants at least: four are a row
# The host's controls that a run depends on. Each tab is a page of its own, which has those that it needs.
HOST_CONTROLS = {"steps": "{tab}_steps", "sampler": "{tab}_sampling", "scheduler": "{tab}_scheduler",
                 "cfg": "{tab}_cfg_scale", "clips": "{tab}_batch_count",
                 "hires": "txt2img_hr-checkbox", "hires_steps": "txt2img_hires_steps", "hires_sampler": "hr_sampler",
                 "strength": "img2img_denoising_strength", "prompt": "{tab}_prompt", "negative": "{tab}_neg_prompt"}
LAST_ON_PAGE = "{tab}_gallery"
QUIET = {"queue": False, "show_progress": "hidden", "api_name": False}
ONE_BY_ONE = Lock()  # gradio answers a page's events side by side, and an older answer must not overwrite a newer one


@dataclass(frozen=True)
class Part:
    """A part of the accordion that opens by itself. `img2img`: of that tab alone; the other has the controls, since
    both send the same arguments, but does not show them."""

    title: str
    name: str
    rows: tuple[tuple[str, ...], ...]
    img2img: bool = False


MOTION = "motion"
PARTS = (
    Part("Prompt travel", "travel", (("travel_interpolation", "travel_easing"), ("travel_hold", "prompt_weights"))),
    Part("First and last frame", "pictures", (("frame_lock", "latent_power", "latent_scale"), ("last_frame",),
                                              ("latent_power_last", "latent_scale_last"), ("batch_tab",)),
         img2img=True),
    Part("Motion LoRA, scale and mask", MOTION, (("motion_lora",), ("motion_scale", "motion_scale_steps"),
                                                 ("motion_effect",),
                                                 ("motion_mask", "motion_mask_min", "motion_mask_max"))),
    Part("FreeInit and noise", "freeinit", (("noise",), ("freeinit_iterations", "freeinit_fast"),
                                            ("freeinit_filter", "freeinit_order"), ("freeinit_d_s", "freeinit_d_t"))),
)


@dataclass(frozen=True)
class Controls:
    """`components` in the order of the table; the other two are what the host's Script class has under these names."""

    components: list[Any]
    infotext_fields: list[tuple[Any, infotext.Field]]
    paste_field_names: list[str]


def build(is_img2img: bool, script: Any) -> Controls:
    """Make the accordion in the gradio context that is open, and have its lines follow the page's controls."""
    import gradio as gr

    tab = "img2img" if is_img2img else "txt2img"
    made: dict[str, Any] = {}
    with gr.Accordion("AnimateDiff", open=False, elem_id=f"{tab}-ad"):
        if said := " ".join(filter(None, (neighbour.notice() for neighbour in getattr(script, "neighbours", ())))):
            gr.HTML(value=_said(_paragraph("ad-problem", said)), elem_id=f"{tab}-ad-older")
        for names in ROWS:
            with gr.Row():
                for name in names:
                    if name == MODULE:
                        modules = _Modules(gr, tab)
                        made[name], refresh = modules.control, _button(gr, REFRESH, f"{tab}-ad-refresh", "tool")
                    else:
                        made[name] = _control(gr, table.BY_NAME[name], tab)
        for part in PARTS:
            with gr.Accordion(part.title, open=False, visible=is_img2img or not part.img2img,
                              elem_id=f"{tab}-ad-{part.name}"):
                for names in part.rows:
                    with gr.Row():
                        made |= {name: _control(gr, table.BY_NAME[name], tab) for name in names}
                if part.name == MOTION:
                    painter = Painter(gr, tab, _keep_mask)
        with gr.Accordion(MORE, open=False, elem_id=f"{tab}-ad-more"):
            rest = [p for p in CLIP if p.name not in made]
            for start in range(0, len(rest), MORE_IN_A_ROW):
                with gr.Row():
                    made |= {p.name: _control(gr, p, tab) for p in rest[start:start + MORE_IN_A_ROW]}
        shown = gr.HTML(value="", elem_id=f"{tab}-ad-preflight")
        # Pressed by javascript/animatediff-preflight.js when the page is loaded and when the host's options change.
        update = _button(gr, "AnimateDiff", f"{tab}-ad-update", "ad-hidden")
    refresh.webui_tooltip = REFRESH_HELP  # the host's script.js shows it
    components = []
    for p in CLIP:
        made[p.name].webui_tooltip = HELP.get(p.name, p.help)
        components.append(made[p.name])
    if hasattr(script, "on_after_component"):
        def connect(last: Any) -> None:
            _connect(gr, tab, last.component, components, modules, painter, shown, (refresh, update))

        script.on_after_component(connect, elem_id=LAST_ON_PAGE.format(tab=tab))
    # Nothing is pasted where it cannot be seen.
    hidden = [name for part in PARTS if part.img2img and not is_img2img for name in sum(part.rows, ())]
    fields = [(made[p.name], _field(p)) for p in CLIP if p.name not in hidden]
    return Controls(components, fields, [str(field) for _, field in fields])


def _control(gr: Any, p: Parameter, tab: str) -> Any:
    """The control that suits the parameter's row."""
    common = _common(p, tab)
    if p.type is bool:
        return gr.Checkbox(value=p.default, min_width=NARROW, **common)
    if p.type is tuple:
        return gr.CheckboxGroup(choices=list(p.choices), value=list(_default(p)), **common)
    if p.choices:
        kind = gr.Radio if len(p.choices) <= LONGEST_RADIO else gr.Dropdown
        return kind(choices=list(p.choices), value=p.default, **common)
    if p.form == "picture":
        return gr.Image(type="pil", image_mode="RGBA", height=240, **common)
    if p.type is str:
        return gr.Textbox(value=p.default, max_lines=1, **common)
    if p.maximum is not None and p.maximum - p.minimum <= (LONGEST_SLIDER if p.type is int else 1):
        step = 1 if p.type is int else 0.01
        return gr.Slider(value=p.default, minimum=p.minimum, maximum=p.maximum, step=step, **common)
    # No limits: gradio's message about them names no control. The lines do, and so does the run.
    return gr.Number(value=p.default, precision=0 if p.type is int else None, min_width=NARROW, **common)


def _field(p: Parameter) -> infotext.Field:
    if p.form != "picture":
        return infotext.Field.of(p.name)
    from animatediff.hosts.a1111 import pictures

    return pictures.Field.of(p.name)


def _common(p: Parameter, tab: str) -> dict[str, str]:
    return {"label": p.label, "elem_id": f"{tab}-ad-{p.name.replace('_', '-')}"}


def _keep_mask(data: bytes) -> str:
    from animatediff.hosts.a1111 import motion_mask

    return motion_mask.keep(data)


def _default(p: Parameter) -> Any:
    if p.name == "formats":
        from animatediff.hosts.a1111 import options

        return options.default_formats()
    return p.default


def _button(gr: Any, text: str, elem_id: str, css_class: str) -> Any:
    button = gr.Button(text, elem_id=elem_id, elem_classes=[css_class], scale=0, min_width=40)
    button.do_not_save_to_config = True
    return button


class _Modules:
    """The list of motion modules: file names everywhere but in the browser, which shows labels.

    gradio 4 has names for a list's values. For 3.41, whose Dropdown has none, this translates on the way to the browser
    and back; the host, which reads `value` and `choices` for its API and its stored defaults, sees file names.
    Labels are common to both tabs, which send their values to each other.
    """

    names: ClassVar[dict[str, str]] = {}  # by label; a label that was shown once stays known
    labels: ClassVar[dict[str, str]] = {}  # by name, as of the last reading

    def __init__(self, gr: Any, tab: str):
        self.pairs = int(gr.__version__.split(".")[0]) >= 4
        self.read()
        self.control = gr.Dropdown(choices=self.shown() if self.pairs else list(self.labels), value="",
                                   **_common(table.BY_NAME[MODULE], tab))
        if not self.pairs:
            plain = self.control.get_config
            self.control.get_config = lambda: plain() | {
                "choices": self.shown(), "value": self.label(self.control.value)}
            self.control.preprocess = lambda label: self.names.get(label, label)
            self.control.postprocess = self.label

    def read(self) -> None:
        """Look into the folders, and at the checkpoint that is loaded now. What cannot be used comes last."""
        from animatediff.hosts.a1111 import library

        image = library.checkpoint()
        found = sorted(library.entries(), key=lambda entry: bool(library.misfit(entry, image)) + bool(entry.problem))
        self.labels.clear()
        self.labels.update({"": AUTOMATIC} | {entry.name: library.label(entry, image) for entry in found})
        self.names.update({label: name for name, label in self.labels.items()})

    def shown(self) -> list[Any]:
        """The choices as gradio takes them in an update."""
        return [(label, name) for name, label in self.labels.items()] if self.pairs else list(self.labels.values())

    def label(self, name: Any) -> Any:
        return self.labels.get(name, name)


def _connect(gr: Any, tab: str, last: Any, components: list, modules: _Modules, painter: Painter, shown: Any,
             buttons: tuple[Any, Any]) -> None:
    """Attach the events, in the gradio context of the page's tab. What is told of the run is their only output, beside
    the list's refresh and the painted mask."""
    page = {component.elem_id: component for component in _inside(_root(last)) if getattr(component, "elem_id", None)}
    wanted = {name: elem_id.format(tab=tab) for name, elem_id in HOST_CONTROLS.items()}
    theirs = {name: page[elem_id] for name, elem_id in wanted.items() if elem_id in page}
    # Pictures change nothing in the lines, and would be sent again with every change of another control.
    ours = {p.name: component for p, component in zip(CLIP, components) if p.form != "picture"}
    inputs = [*ours.values(), *theirs.values()]

    def told(*values: Any) -> str:
        with ONE_BY_ONE:
            return lines(dict(zip(ours, values)), dict(zip(theirs, values[len(ours):])), from_picture=tab == "img2img")

    def listed(*values: Any) -> list[Any]:
        modules.read()
        return [gr.update(choices=modules.shown(), value=values[list(ours).index(MODULE)]), told(*values)]

    for component in inputs:
        event = component.release if isinstance(component, gr.Slider) else component.change
        if component in (theirs.get("prompt"), theirs.get("negative")):
            event = component.blur  # not at every letter
        event(fn=told, inputs=inputs, outputs=[shown], **QUIET)
    size = [page[elem_id] for side in ("width", "height") if (elem_id := f"{tab}_{side}") in page]
    _preset(gr, tab, page, ours)
    painter.connect(components[[p.name for p in CLIP].index("motion_mask")], size, **QUIET)
    for button in buttons:
        button.click(fn=listed, inputs=inputs, outputs=[modules.control, shown], **QUIET)


def _preset(gr: Any, tab: str, page: dict[str, Any], ours: dict[str, Any]) -> None:
    from animatediff.hosts.a1111 import distilled

    distilled.on_page(gr, tab, page, ours["preset"], ours[MODULE], QUIET)


def _root(component: Any) -> Any:
    while getattr(component, "parent", None) is not None:
        component = component.parent
    return component


def _inside(block: Any) -> Iterator[Any]:
    for child in getattr(block, "children", None) or ():
        yield child
        yield from _inside(child)


def lines(ours: dict[str, Any], theirs: dict[str, Any], *, from_picture: bool) -> str:
    """The HTML under the controls, from the values of our controls and the host's."""
    try:
        return _html(_preflight(ours, theirs, from_picture), enabled=bool(ours["enable"]))
    except AnimateDiffError as error:
        return _said(_paragraph("ad-problem", _labelled(error)))
    except Exception as error:  # the page must stay usable; the run itself does not depend on this
        from modules import errors

        errors.report("AnimateDiff cannot tell what the run will do", exc_info=True)
        return _said(_paragraph("ad-problem", f"{type(error).__name__}: {error}"))


def _preflight(ours: dict[str, Any], theirs: dict[str, Any], from_picture: bool) -> Preflight:
    from animatediff.hosts.a1111.run_facts import of_run
    from animatediff.hosts.a1111.server_files import page_may_read_all

    # What is empty is not asked for, as in the request.
    wanted = table.parse({name: value for name, value in ours.items() if value is not None})
    return of_run(wanted, theirs, from_picture=from_picture, anywhere=page_may_read_all())


def _html(found: Preflight, enabled: bool) -> str:
    """Labels are text nodes of their own, which is what the host's localization replaces."""
    facts = "".join(f'<span class="ad-fact"><span>{html.escape(label)}</span> <b>{html.escape(value)}</b></span>'
                    for label, value in found.facts)
    said = [_paragraph("ad-problem", text) for text in found.problems]
    said += [_paragraph("ad-notice", text) for text in found.notices]
    off = "" if enabled else f'<span class="ad-off">{OFF}</span>'
    tables = "".join(f'<details class="ad-schedule"><summary>{name}</summary><pre>{html.escape(travel.table(schedule))}'
                     "</pre></details>" for name, schedule in found.schedules)
    return _said(f"<p>{off}{facts}</p>{''.join(said)}{tables}", "" if enabled else " ad-disabled")


def _labelled(error: AnimateDiffError) -> str:
    """The message with the control's label for the parameter's name."""
    label = table.BY_NAME[error.where].label if error.where in table.BY_NAME else error.where
    return str(AnimateDiffError(error.what, where=label, remedy=error.remedy))


def _said(inner: str, css_class: str = "") -> str:
    return f'<div class="ad-preflight{css_class}">{inner}</div>'


def _paragraph(css_class: str, text: str) -> str:
    return f'<p class="{css_class}">{html.escape(text)}</p>'
