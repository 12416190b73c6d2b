"""The stand-in's /sdapi/v1: from a request to a job, and from its result to a response.

It runs one job at a time, as the host's queue does.
"""
from __future__ import annotations

import base64
import io
import json
from contextlib import closing
from dataclasses import dataclass
from typing import Any


@dataclass
class Answer:
    status: int
    images: list[bytes]
    info: dict
    error: str = ""
    errors: str = ""
    detail: str = ""


def request(tab: str, fields: dict[str, Any], args: dict[str, list] | None = None) -> Answer:
    """Run a request.

    tab: txt2img or img2img.
    args: title of an always-on script -> its arguments, in place of the page's controls.
    """
    from modules import processing, scripts, sd_samplers, shared

    runner = scripts.scripts_img2img if tab == "img2img" else scripts.scripts_txt2img
    values: list[Any] = [0]
    for script in runner.alwayson_scripts:
        given = (args or {}).get(script.title(), [])
        script.args_from, script.args_to = len(values), len(values) + len(given)
        values += given
    kind = {"txt2img": processing.StableDiffusionProcessingTxt2Img,
            "img2img": processing.StableDiffusionProcessingImg2Img}
    fields = {"do_not_save_samples": True, "do_not_save_grid": True, **fields}
    named = fields.get("sampler_name") or fields.pop("sampler_index", "Euler")
    fields["sampler_name"] = sd_samplers.get_sampler_and_scheduler(named, fields.get("scheduler"))[0]
    fields["override_settings"] = dict(fields.get("override_settings", {}))
    try:
        with closing(kind[tab](**fields)) as p:
            p.is_api = True
            p.scripts = runner
            p.outpath_samples = getattr(shared.opts, f"outdir_{tab}_samples")
            try:
                shared.state.begin(f"scripts_{tab}")
                p.script_args = tuple(values)
                processed = processing.process_images(p)
            finally:
                shared.state.end()
    except Exception as error:
        own = vars(error)
        return Answer(own.get("status_code", 500), [], {}, type(error).__name__, str(error), own.get("detail", ""))
    more = {"infotexts": processed.infotexts, "extra_generation_params": processed.extra_generation_params}
    return Answer(200, [encoded(i) for i in processed.images], more)


def encoded(picture: Any) -> bytes:
    if isinstance(picture, str):
        return base64.b64decode(picture)
    out = io.BytesIO()
    picture.save(out, format="PNG")
    return out.getvalue()


def plain(value: Any) -> Any:
    """Return the value as it would be after JSON serialization."""
    return json.loads(json.dumps(value))
