"""The command line for tests: fixtures to import, in this process and in one of its own."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tiny_models import write_checkpoint, write_module

from animatediff.engine import models
from animatediff.faces.cli import main as cli

ROOT = Path(__file__).resolve().parents[1]
QUICK = ["--frames", "3", "--context", "4", "--steps", "1", "--cfg", "1", "--seed", "5", "--size", "64x64",
         "--device", "cpu"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Good and bad files that a user may name."""
    folder = tmp_path_factory.mktemp("files")
    image = write_checkpoint(folder / "image")
    good = write_module(folder / "model" / "good.safetensors")
    write_module(folder / "model" / "xl.safetensors", "AnimateDiff-SDXL", widths=(32, 32, 32))
    (folder / "model" / "cut.safetensors").write_bytes(good.read_bytes()[:5000])
    (folder / "model" / "image.safetensors").write_bytes(image.read_bytes())
    (folder / "image" / "cut.safetensors").write_bytes(image.read_bytes()[:5000])
    Image.new("RGB", (8, 8)).save(folder / "plain.png")
    return folder


@pytest.fixture
def run(files, tmp_path, monkeypatch, capsys):
    """main(arguments) in an empty folder -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(models.FOLDER_VARIABLE, str(files / "model"))

    def command(*arguments, models=True):
        arguments = [str(a) for a in arguments]
        if models and arguments[0] == "render":
            arguments += ["--checkpoint", str(files / "image" / "tiny.safetensors"), "--motion-module", "good"]
        code = cli.main(arguments)
        out = capsys.readouterr()
        assert "Traceback" not in out.err
        return code, out.out, out.err

    return command


def python(*arguments, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=environment, **options)
