"""The command line's messages about foreign input: escape sequences, impossible paths, unknown words."""
from __future__ import annotations

import json

import pytest
from command_line import QUICK

from animatediff.faces.cli.main import main

ESCAPES = "a\x1b]0;title\x07\x1b[2Jb\x9bc\x7f\u202ed\re"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """main(words) in an empty folder -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def command(*words: str) -> tuple[int, str, str]:
        return main(list(words)), *capsys.readouterr()

    return command


@pytest.mark.parametrize("words", [
    ["schedule", ESCAPES], ["schedule", f"0: {ESCAPES}\n2: b", "--to", "fizz"], ["schedule", "a", "--frames", ESCAPES],
    ["info", ESCAPES], ["render", "a", "--motion-module", ESCAPES], ["render", "a", "--checkpoint", ESCAPES],
    ["models", "--folder", ESCAPES], [ESCAPES], ["render", ESCAPES, *QUICK, "--motion-lora", ESCAPES],
    ["schedule", '"0": "a\\u001b[31mb"'], ["render", "a", "--bogus", ESCAPES],
])
def test_nothing_steers_the_terminal(run, words):
    _, out, err = run(*words)
    assert not {c for c in out + err if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 or c == "\u202e"}


def test_a_file_that_others_wrote(run, tmp_path):
    (tmp_path / "clip.txt").write_text(json.dumps({"settings": {"prompt": ESCAPES, "x": [1, ESCAPES]}}), "utf-8")
    code, out, _ = run("info", "clip.txt")
    assert code == 0 and r"a\x1b]0;title\x07" in out and "\x1b" not in out
    assert json.loads(run("info", "clip.txt", "--json")[1])["metadata"]["settings"]["prompt"] == ESCAPES


@pytest.mark.parametrize("path", ["a" * 5000, "a" * 300, "b/" * 3000, "~nosuchuser", "~nosuchuser/x.png"])
@pytest.mark.parametrize("flag", ["--init", "--last-frame", "--motion-mask", "--motion-module", "--checkpoint",
                                  "--motion-lora", "--from"])
def test_paths_that_no_file_has(run, flag, path):
    code, _, err = run("render", "a red circle", *QUICK, "--out", "a.gif", flag, path)
    assert code in (2, 3, 4) and "Unexpected" not in err and len(err) < 2000
