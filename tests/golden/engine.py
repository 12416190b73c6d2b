"""Rows of the table through the command line."""
from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from diffusers import UNet2DConditionModel
from diffusers.models.autoencoders.vae import Decoder

from animatediff.engine.pipeline import Pipeline
from animatediff.faces.cli import main as cli
from animatediff.settings import BY_NAME, parse
from tests.golden.table import FILES, Row
from tests.golden.watch import digest, pictures, watching

PROGRESS = re.compile(r"^(Sampling|Decoding)\b.*")


def record(row: Row, files: SimpleNamespace, folder: Path) -> dict[str, Any]:
    """What came of a row: exit code, what was said, the JSON report, UNet calls, digests of latents and frames."""
    values = {name: value.replace(FILES, str(files.pictures)) if isinstance(value, str) else value
              for name, value in row.values.items()}
    values |= {"checkpoint": str(files.checkpoint), "device": "cpu", "dtype": values.get("dtype", "fp32")}
    with mock.patch.dict(os.environ, {"ANIMATEDIFF_MODELS": str(files.modules)}):
        if row.stills:
            found = _stills(values)
        else:
            out = folder / "clips"
            arguments = ["render", values.pop("prompt"), "--out", f"{out}/", "--json"]
            arguments += [word for name, value in values.items()
                          for word in (BY_NAME[name].cli, ",".join(value) if isinstance(value, tuple) else str(value))]
            found = {"begun": _run(arguments, out, row.cut)} if row.cut else {}
            found |= _run([*arguments, "--resume"] if row.cut else arguments, out)
            shutil.rmtree(out, ignore_errors=True)
    return plain(found, {str(files.pictures): FILES, str(folder): "FOLDER", str(files.checkpoint.parent): "MODELS"})


def plain(found: Any, places: dict[str, str]) -> Any:
    """As JSON has it, without the names of temporary folders and today's date."""
    text = json.dumps(found)
    for place, name in places.items():
        text = text.replace(place, name)
    return json.loads(re.sub(r"\d{4}-\d\d-\d\d(?=/)", "DATE", text))


def of_files(paths: list[Path], folder: Path) -> dict[str, list[str]]:
    """Digests of the frames in each file."""
    return {str(path.relative_to(folder)): pictures(path) for path in sorted(paths)}


def _run(arguments: list[str], out: Path, cut: int = 0) -> dict[str, Any]:
    said, answer = io.StringIO(), io.StringIO()
    with _watching(cut) as seen, contextlib.redirect_stderr(said), contextlib.redirect_stdout(answer):
        code = cli.main(arguments)
    lines = [line for line in re.split(r"[\r\n]+", said.getvalue()) if line.strip() and not PROGRESS.match(line)]
    written = of_files([path for path in out.rglob("*") if path.is_file() and path.suffix != ".state"], out)
    return {"exit_code": code, "said": lines, "report": json.loads(answer.getvalue() or "null"), "calls": seen.calls,
            "latents": seen.decoded, "files": written}


def _stills(values: dict[str, Any]) -> dict[str, Any]:
    """Without AnimateDiff, which the command line has no flag for."""
    settings = parse({**values, "enable": False})
    with _watching() as seen:
        pipeline = Pipeline.load(settings.checkpoint, settings.motion_module, device="cpu", dtype="fp32")
        frames = [digest(frame) for frame in pipeline.render(settings)]
    return {"notices": pipeline.plan(settings).notices, "frames": frames, "calls": seen.calls,
            "latents": seen.decoded}


@contextlib.contextmanager
def _watching(cut: int = 0) -> Iterator[Any]:
    with watching(lambda module: isinstance(module, UNet2DConditionModel), lambda module: isinstance(module, Decoder),
                  cut) as seen:
        yield seen
