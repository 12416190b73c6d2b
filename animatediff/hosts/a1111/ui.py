"""The accordion in txt2img and img2img, built from the settings table, and the lines that say what a run will do.

    controls = ui.build(is_img2img, script)   # in Script.ui, for the page and whenever the API asks for default values
    script.infotext_fields, script.paste_field_names = controls.infotext_fields, controls.paste_field_names
    return controls.components                # one for each name in request.ORDER

Only the user and a pasted infotext change a control. A button may also change the list of motion modules, the motion
LoRAs and the mask. The lines are updated when one of our controls, or a host's control that affects the run, is
changed. The host's controls are found by their elem_id once the page is complete. The code uses only what gradio 3.41
and 4.40 have in common.
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

from animatediff import settings as table
from animatediff.hosts.a1111 import finished_buttons, words
from animatediff.hosts.a1111.module_list import ModuleList
from animatediff.hosts.a1111.page_lines import box, lines, paragraph
from animatediff.hosts.a1111.page_parts import by_elem_id
from animatediff.hosts.shared import infotext
from animatediff.hosts.shared.lora_picker import LoraPicker
from animatediff.hosts.shared.mask_painter import Painter
from animatediff.hosts.shared.upload import SourceUpload, Upload
from animatediff.parameters import Parameter

MODULE = "motion_module"
CLIP = tuple(p for p in table.PARAMETERS if p.group == "clip")
# Rows of controls under Enable, the lines and the list of motion modules. All others go into the last part.
ROWS = (("frames", "fps", "loop_number"), ("context_length", "stride", "overlap"),
        ("closed_loop", "seam_repair"), ("formats",), ("speed", "preset"))
# Help texts that differ from those of the command line, which are in the table.
HELP = {"enable": "Make clips instead of pictures.",
        "motion_module": "Automatic takes the first that fits the checkpoint. The list shows the family and the number "
                         "of frames that it was trained on."}
TITLE = "AnimateDiff"
INFO = {  # text under the label; either all controls of a row have one, or none
    "frames": "0: the source's, or the context length", "fps": "frames per second; 0: the source's",
    "loop_number": "0: without end",
    "context_length": "frames seen at once", "stride": "1: adjacent frames", "overlap": "-1: ¼ of the context"}
REFRESH, REFRESH_HELP = "\U0001f504", "Read the folders of motion modules and motion LoRAs again"
MORE = "More AnimateDiff settings"
LONGEST_RADIO, LONGEST_SLIDER, MORE_IN_A_ROW = 4, 150, 2  # in choices, steps, controls
NARROW = 110  # minimum width of a number in pixels, so that four fit in a row
# elem_ids of the host's controls that a run depends on. Each tab has some of them.
HOST_CONTROLS = {"steps": "{tab}_steps", "sampler": "{tab}_sampling", "scheduler": "{tab}_scheduler",
                 "cfg": "{tab}_cfg_scale", "clips": "{tab}_batch_count",
                 "hires": "txt2img_hr-checkbox", "hires_steps": "txt2img_hires_steps", "hires_sampler": "hr_sampler",
                 "strength": "img2img_denoising_strength", "prompt": "{tab}_prompt", "negative": "{tab}_neg_prompt"}
LAST_ON_PAGE = "{tab}_gallery"
QUIET = {"queue": False, "show_progress": "hidden", "api_name": False}
ONE_BY_ONE = Lock()  # gradio handles events in parallel; an older result must not replace a newer one


@dataclass(frozen=True)
class Part:
    """A part of the accordion with its own fold."""

    title: str
    name: str
    rows: tuple[tuple[str, ...], ...]
    img2img: bool = False  # only for img2img; hidden in txt2img, since both tabs send the same arguments


MOTION, LORA, MASK, SOURCE = "motion", "motion_lora", "motion_mask", "video_source"
SOURCE_MASK, SOUND = "mask_path", "audio"
PARTS = (
    Part("Source video", "source", ((SOURCE,), ("video_path",), (SOURCE_MASK,),
                                    ("video_start", "video_end", "video_fps"),
                                    ("video_every", "video_max_frames", "fit"), ("denoising_strength_frames",))),
    Part("Prompt travel", "travel", (("travel_interpolation", "travel_easing"), ("travel_hold", "prompt_weights"))),
    Part("First and last frame", "pictures", (("frame_lock", "latent_power", "latent_scale"), ("last_frame",),
                                              ("latent_power_last", "latent_scale_last"), ("batch_tab",)),
         img2img=True),
    Part("Motion LoRA, scale and mask", MOTION, ((LORA,), ("motion_scale", "motion_scale_steps"), ("motion_effect",),
                                                 (MASK, "motion_mask_min", "motion_mask_max"))),
    Part("FreeInit and noise", "freeinit", (("noise",), ("freeinit_iterations", "freeinit_fast"),
                                            ("freeinit_filter", "freeinit_order"), ("freeinit_d_s", "freeinit_d_t"))),
    Part("Sound and video files", "sound", ((SOUND,), ("audio_start", "audio_loop"), ("video_codec", "video_preset"),
                                            ("video_crf", "bit_depth"), ("video_repeat",))),
)


@dataclass(frozen=True)
class Controls:
    """The controls of a tab, as the host's Script class needs them."""

    components: list[Any]  # in the order of the table
    infotext_fields: list[tuple[Any, infotext.Field]]
    paste_field_names: list[str]


def build(is_img2img: bool, script: Any) -> Controls:
    """Build the accordion in the open gradio context, and update its lines when the page's controls change."""
    import gradio as gr

    tab = "img2img" if is_img2img else "txt2img"
    made: dict[str, Any] = {}
    with _accordion(gr, tab) as made["enable"]:
        if notices := " ".join(filter(None, (neighbour.notice() for neighbour in getattr(script, "neighbours", ())))):
            gr.HTML(value=box(paragraph("ad-problem", words.notice(notices))), elem_id=f"{tab}-ad-older")
        shown = gr.HTML(value="", elem_id=f"{tab}-ad-preflight")
        modules, refresh = _rows(gr, tab, made)
        beside = _parts(gr, tab, made)
        own = {name: _own_part(gr, tab, name, rows) for name, rows in finished_buttons.own_rows().items()}
        # Clicked by javascript/animatediff-preflight.js: when the page is loaded, when the host's options change,
        # and after changes for which gradio sends no event.
        update, renew = (_button(gr, TITLE, f"{tab}-ad-{name}", "ad-hidden") for name in ("update", "renew"))
    refresh.webui_tooltip = REFRESH_HELP  # the host's script.js shows it
    components = []
    for p in CLIP:
        made[p.name].webui_tooltip = HELP.get(p.name, p.for_people().help)
        components.append(made[p.name])
    if hasattr(script, "on_after_component"):
        def connect(last: Any) -> None:
            ours = _Page(gr, tab, components, modules, beside, shown)
            _connect(ours, last.component, (refresh, update), renew)

        script.on_after_component(connect, elem_id=LAST_ON_PAGE.format(tab=tab))
        finished_buttons.add(gr, script, tab, made, own)
    # Hidden controls take no pasted values.
    hidden = [name for part in PARTS if part.img2img and not is_img2img for name in sum(part.rows, ())]
    fields = [(made[p.name], _field(p)) for p in CLIP if p.name not in hidden]
    return Controls(components, fields, [str(field) for _, field in fields])


def _rows(gr: Any, tab: str, made: dict[str, Any]) -> tuple[ModuleList, Any]:
    """Build the controls that are always visible: the list of motion modules, its refresh button, and the rows."""
    with gr.Row():
        modules = ModuleList(gr, **_common(table.BY_NAME[MODULE], tab))
        refresh = _button(gr, REFRESH, f"{tab}-ad-refresh", "tool")
    made[MODULE] = modules.control
    for names in ROWS:
        with gr.Row():
            made |= {name: _control(gr, table.BY_NAME[name], tab) for name in names}
    return modules, refresh


def _parts(gr: Any, tab: str, made: dict[str, Any]) -> dict[str, Any]:
    """Build the foldable parts. All remaining controls go into the last one.

    Return the helpers of some controls, by the controls' names.
    """
    beside: dict[str, Any] = {}
    for part in PARTS:
        shown = tab == "img2img" or not part.img2img
        with gr.Accordion(part.title, open=False, visible=shown, elem_id=f"{tab}-ad-{part.name}"):
            for names in part.rows:
                with gr.Row():
                    made |= {name: _control(gr, table.BY_NAME[name], tab) for name in names}
                if names[0] in BESIDE:
                    beside[names[0]] = BESIDE[names[0]](gr, tab)
    with gr.Accordion(MORE, open=False, elem_id=f"{tab}-ad-more"):
        rest = [p for p in CLIP if p.name not in made]
        for start in range(0, len(rest), MORE_IN_A_ROW):
            with gr.Row():
                made |= {p.name: _control(gr, p, tab) for p in rest[start:start + MORE_IN_A_ROW]}
    return beside


def _own_part(gr: Any, tab: str, name: str, rows: tuple[Parameter, ...]) -> dict[str, Any]:
    """Build the controls of an operation on finished clips, by name. They are not script arguments."""
    found = {}
    with gr.Accordion(name.capitalize(), open=False, elem_id=f"{tab}-ad-{name}-part"), gr.Row():
        for p in rows:
            found[p.name] = _control(gr, replace(p, name=f"{name}_{p.name}"), tab)
            found[p.name].do_not_save_to_config, found[p.name].webui_tooltip = True, p.help
    return found


@contextmanager
def _accordion(gr: Any, tab: str) -> Iterator[Any]:
    """Build our accordion and yield the control of Enable. It is in the accordion's header if the host supports that.
    """
    p = table.BY_NAME["enable"]
    if int(gr.__version__.split(".")[0]) < 4:
        from modules.ui_components import InputAccordion

        with InputAccordion(p.default, label=p.label, elem_id=f"{tab}-ad") as enable:
            yield enable
        return
    with gr.Accordion(TITLE, open=False, elem_id=f"{tab}-ad"):
        yield _control(gr, p, tab)


def _control(gr: Any, p: Parameter, tab: str) -> Any:
    """Build the control that suits the parameter."""
    common, p = _common(p, tab), p.for_people()
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
    limits = None if p.minimum is None or p.maximum is None else p.maximum - p.minimum
    if limits is not None and limits <= (LONGEST_SLIDER if p.type is int else 1):
        step = 1 if p.type is int else 0.01
        return gr.Slider(value=p.default, minimum=p.minimum, maximum=p.maximum, step=step, **common)
    # No limits: gradio's message about them does not name the control. The lines and the run check them.
    return gr.Number(value=p.default, precision=0 if p.type is int else None, min_width=NARROW, **common)


def _field(p: Parameter) -> infotext.Field:
    if p.form != "picture":
        return infotext.Field.of(p.name)
    from animatediff.hosts.a1111 import pictures

    return pictures.Field.of(p.name)


def _common(p: Parameter, tab: str) -> dict[str, str]:
    info = {"info": INFO[p.name]} if p.name in INFO else {}
    return {"label": p.label, "elem_id": f"{tab}-ad-{p.name.replace('_', '-')}", **info}


def _lora_names() -> list[str]:
    from animatediff.hosts.a1111 import library

    return [entry.name for entry in library.lora_entries() if not entry.problem]


def _keep_mask(data: bytes) -> str:
    from animatediff.hosts.a1111 import motion_mask

    return motion_mask.keep(data)


def _keep_source(path: str | None) -> str:
    """Keep an uploaded source video or its mask."""
    from animatediff.hosts.a1111 import source

    return source.KEPT.uploaded(path)


def _keep_sound(path: str | None) -> str:
    from animatediff.hosts.a1111 import server_sound

    return server_sound.KEPT.uploaded(path)


def _default(p: Parameter) -> Any:
    if p.name == "formats":
        from animatediff.hosts.a1111 import options

        return options.default_formats()
    return p.default


def _button(gr: Any, text: str, elem_id: str, css_class: str) -> Any:
    button = gr.Button(text, elem_id=elem_id, elem_classes=[css_class], scale=0, min_width=40)
    button.do_not_save_to_config = True
    return button


@dataclass(frozen=True)
class _Page:
    """Our controls on a tab."""

    gr: Any
    tab: str
    components: list[Any]
    modules: ModuleList
    beside: dict[str, Any]  # name of a control -> its helper: LoraPicker, Painter or Upload
    shown: Any  # displays the lines

    def component(self, name: str) -> Any:
        return self.components[[p.name for p in CLIP].index(name)]


def _connect(ours: _Page, last: Any, listing: tuple[Any, ...], renew: Any) -> None:
    """Attach the events, in the gradio context of the page's tab. They change only the lines and the buttons' targets.

    listing: buttons that read the folders again.
    renew: the button that updates only the lines.
    """
    page = by_elem_id(last)
    wanted = {name: elem_id.format(tab=ours.tab) for name, elem_id in HOST_CONTROLS.items()}
    theirs = {name: page[elem_id] for name, elem_id in wanted.items() if elem_id in page}
    # Pictures do not affect the lines, and would be sent again with every change of another control.
    asked = {p.name: component for p, component in zip(CLIP, ours.components) if p.form != "picture"}
    inputs = [*asked.values(), *theirs.values()]

    def shown_lines(*values: Any) -> str:
        with ONE_BY_ONE:
            return lines(dict(zip(asked, values)), dict(zip(theirs, values[len(asked):])),
                         from_picture=ours.tab == "img2img")

    def listed(*values: Any) -> list[Any]:
        ours.modules.read()
        value = values[list(asked).index(MODULE)]
        return [ours.gr.update(choices=ours.modules.shown(), value=value), ours.beside[LORA].read(),
                shown_lines(*values)]

    for name, component in (asked | theirs).items():
        event = component.release if isinstance(component, ours.gr.Slider) else component.change
        if name in ("prompt", "negative"):
            event = component.blur  # not at every keystroke
        event(fn=shown_lines, inputs=inputs, outputs=[ours.shown], **QUIET)
    renew.click(fn=shown_lines, inputs=inputs, outputs=[ours.shown], **QUIET)
    for button in listing:
        outputs = [ours.modules.control, ours.beside[LORA].list, ours.shown]
        button.click(fn=listed, inputs=inputs, outputs=outputs, **QUIET)
    size = [page[elem_id] for side in ("width", "height") if (elem_id := f"{ours.tab}_{side}") in page]
    _preset(ours.gr, ours.tab, page, asked)
    ours.beside[MASK].connect(ours.component(MASK), size, **QUIET)
    ours.beside[LORA].connect(ours.component(LORA), **QUIET)
    ours.beside[SOURCE].connect(ours.component(SOURCE), ours.component("fps"), **QUIET)
    for name in (SOURCE_MASK, SOUND):
        ours.beside[name].connect(ours.component(name), **QUIET)


BESIDE = {
    LORA: lambda gr, tab: LoraPicker(gr, tab, _lora_names), MASK: lambda gr, tab: Painter(gr, tab, _keep_mask),
    SOURCE: lambda gr, tab: SourceUpload(gr, gr.Video(
        label="Upload a source video", height=240, elem_id=f"{tab}-ad-source-upload"), _keep_source),
    SOURCE_MASK: lambda gr, tab: Upload(gr, gr.File(
        label="Upload a mask of the source", file_types=["image", "video"], height=90,
        elem_id=f"{tab}-ad-mask-upload"), _keep_source),
    SOUND: lambda gr, tab: Upload(gr, gr.File(
        label="Upload a sound", file_types=["audio", "video"], height=90, elem_id=f"{tab}-ad-sound-upload"),
        _keep_sound)}


def _preset(gr: Any, tab: str, page: dict[str, Any], ours: dict[str, Any]) -> None:
    from animatediff.hosts.a1111 import distilled

    distilled.on_page(gr, tab, page, ours["preset"], ours[MODULE], QUIET)
