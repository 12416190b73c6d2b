"""`animatediff score`, and `--score` for a run's files."""
from __future__ import annotations

import json

import numpy as np
import pytest

from animatediff.faces.cli import main as cli
from animatediff.media.write import ClipWriter


@pytest.fixture
def clip(tmp_path):
    """make(name): ten frames at 8 fps whose brightness is a sine of period 4 and amplitude 8 of 255."""
    pattern = np.kron(np.random.default_rng(0).integers(60, 160, (8, 8, 3)), np.ones((8, 8, 1)))

    def make(name, formats):
        with ClipWriter(tmp_path / name, formats, 8) as writer:
            for i in range(10):
                writer.add((pattern + 8 * np.sin(np.pi * i / 2)).round().astype(np.uint8))
        return tmp_path / name

    return make


def run(capsys, *words):
    code = cli.main(["score", *map(str, words)])
    return code, *capsys.readouterr()


@pytest.mark.parametrize(("name", "formats"), [("a.webp", "WEBP"), ("a.apng", "APNG"), ("a", "PNG")])
def test_the_figures_of_a_file(clip, capsys, name, formats):
    path = clip(name, formats)
    path = path / "clip" if formats == "PNG" else path
    code, out, _ = run(capsys, path, "--json", "--quiet")
    found = json.loads(out)
    assert code == 0 and found["frames"] == 10 and found["fps"] == 8 and found["notes"] == []
    assert found["flicker"]["brightness"] == pytest.approx(8, rel=0.15) and found["drift"]["end"] < 5
    assert found["colours"]["distribution"] > 0 and found["loop"]["seam"] > 0
    code, out, _ = run(capsys, path, "--quiet")
    assert code == 0 and "10 frames at 8 fps" in out and "Flicker: brightness" in out and "Loop score:" in out


def test_what_cannot_be_read(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("no clip")
    code, _, err = run(capsys, tmp_path / "text.txt")
    assert code == 4 and "text.txt" in err
