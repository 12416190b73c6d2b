"""Rows of the table through the stand-in for the WebUI."""
from __future__ import annotations

import base64
import contextlib
import importlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PIL import Image
from torch import nn

from animatediff.errors import AnimateDiffError
from animatediff.settings import BY_NAME
from tests.golden.engine import of_files, plain
from tests.golden.table import FILES, STANDIN_SAMPLERS, Row
from tests.golden.watch import pictures, watching

ROOT = Path(__file__).parents[2]
STANDIN = ROOT / "tests" / "hosts" / "standin"
OF_THE_REQUEST = {"prompt": "prompt", "negative": "negative_prompt", "seed": "seed", "steps": "steps",
                  "cfg": "cfg_scale", "sampler": "sampler_name", "denoising_strength": "denoising_strength"}
OF_A_RUN = {"steps": "steps", "sampler": "sampler_name", "clips": "n_iter", "hires": "enable_hr",
            "strength": "denoising_strength", "hires_steps": "hr_second_pass_steps", "prompt": "prompt",
            "negative": "negative_prompt"}
NOT_SENT = ("size", "init", "resize_mode", "checkpoint", "device", "dtype")


@contextlib.contextmanager
def standing_in(files: SimpleNamespace, folder: Path) -> Iterator[Any]:
    """The stand-in with the extension, for all rows."""
    sys.path.insert(0, str(STANDIN))
    from standin_host import standing_in

    try:
        with standing_in(folder) as host:
            host.opts.data["animatediff_model_path"] = str(files.modules)
            host.shared.cmd_opts.gradio_allowed_path = [str(files.pictures)]
            host.load(ROOT / "scripts" / "animatediff.py")
            host.show()
            yield host
    finally:
        sys.path.remove(str(STANDIN))


def record(row: Row, host: Any, files: SimpleNamespace, folder: Path) -> dict[str, Any]:
    """What came of a row: the answer's status and pictures, infotexts, notices, UNet calls, latents, and what the
    preflight said before. Refused are rows with samplers that the stand-in has not."""
    values = {name: value.replace(FILES, str(files.pictures)) if isinstance(value, str) else value
              for name, value in row.values.items()}
    fields, settings, tab = _request(row, values)
    before = _preflight(fields, settings, tab)
    with _watching(host) as seen, contextlib.redirect_stdout(io.StringIO()):
        answer = host.request(tab, fields, {"AnimateDiff": [settings]})
    outputs = folder / "outputs"
    written = of_files([path for path in outputs.rglob("*") if path.is_file()], outputs)
    found = {"status": answer.status, "detail": str(answer.detail or answer.errors),
             "pictures": [pictures(io.BytesIO(raw)) for raw in answer.images],
             "info": answer.info, "preflight": before, "calls": seen.calls, "latents": seen.decoded, "files": written}
    for path in sorted(outputs.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    return plain(found, {str(files.pictures): FILES, str(folder): "FOLDER", str(files.modules): "MODELS"})


def preflight_of(row: Row, values: dict[str, Any]) -> dict[str, Any]:
    """What the preflight says of a row, with these values; {"refused": …} where they are refused."""
    return _preflight(*_request(row, values))


def has(row: Row) -> bool:
    return row.values["sampler"] in STANDIN_SAMPLERS


def _request(row: Row, values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Fields of the request, our settings in it, and the tab."""
    width, height = map(int, values["size"].split("x"))
    fields = {theirs: values[name] for name, theirs in OF_THE_REQUEST.items() if name in values}
    fields |= {"width": width, "height": height, **row.fields}
    if init := values.get("init"):
        sources = sorted(Path(init).iterdir()) if Path(init).is_dir() else [Path(init)]
        fields["init_images"] = [Image.open(path) for path in sources]
    settings = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
                if name not in OF_THE_REQUEST and name not in NOT_SENT}
    assert all(BY_NAME[name].group == "clip" or name == "windows_per_call" for name in settings)
    if last := settings.get("last_frame"):
        settings["last_frame"] = base64.b64encode(Path(last).read_bytes()).decode()
    settings = {"enable": True, "returns": "frames", **settings}
    return fields, settings, row.tab or ("img2img" if init else "txt2img")


def _preflight(fields: dict[str, Any], settings: dict[str, Any], tab: str) -> Any:
    """As the API's route answers, which the stand-in's fastapi has not."""
    request, run_facts = (importlib.import_module(f"animatediff.hosts.a1111.{name}")
                          for name in ("request", "run_facts"))
    host = {ours: fields.get(theirs) for ours, theirs in OF_A_RUN.items()}
    sources = len(fields.get("init_images") or ())
    try:
        wanted = request.read([settings])
        found = run_facts.of_run(wanted, host, from_picture=tab == "img2img", sources=sources if sources > 1 else None)
    except AnimateDiffError as error:
        return {"refused": str(error)}
    return found.to_dict()


@contextlib.contextmanager
def _watching(host: Any) -> Iterator[Any]:
    def is_decoder(module: nn.Module) -> bool:
        return module is host.shared.sd_model.first_stage_model

    with watching(lambda module: isinstance(module, host.tiny.UNet), is_decoder) as seen:
        yield seen
