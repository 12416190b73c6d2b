"""install.py as the WebUI runs it, with a pip that only records its arguments."""
from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LAUNCH = '''
import os, sys
def run_pip(command, desc=None):
    print("PIP", command)
    if os.environ.get("PIP_FAILS"):
        raise RuntimeError("Couldn't install av\\nCommand: pip\\nError code: 1")
'''


@pytest.fixture
def install():
    spec = importlib.util.spec_from_file_location("animatediff_install", ROOT / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def finder(*there):
    return lambda name: object() if name in there else None


def test_only_what_is_missing_is_installed(install, capsys):
    asked = []
    install.install(lambda command, description: asked.append(command), finder(*install.NEEDED))
    assert asked == [] and capsys.readouterr().out == ""
    install.install(lambda command, description: asked.append(command), finder(*install.NEEDED.keys() - {"av"}))
    command, = asked
    words = shlex.split(command)
    assert words[0] == "install" and "--no-deps" in words  # no other package may change its version
    assert not {"-U", "--upgrade", "--force-reinstall"} & set(words) and "==" not in command
    wanted = Requirement(words[-1])
    assert wanted.name == "av" and "18.1.0" in wanted.specifier and "99" not in wanted.specifier
    assert capsys.readouterr().out.count("\n") == 1


def test_what_is_tested_is_within_the_versions_that_are_installed(install):
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.lower().split("==") for line in lines if "==" in line)
    assert install.TESTED.keys() == install.NEEDED.keys()
    for name, versions in install.TESTED.items():
        assert pinned[name] in Requirement(name + versions).specifier and "<" in versions


def test_a_failure_is_one_line_and_stops_nothing(install, capsys):
    def pip(command, description):
        raise RuntimeError("Couldn't install av.\nCommand: pip\nError code: 1\nstdout: …")

    install.install(pip, finder())
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(install.NEEDED) and "Couldn't install av" in said[0] and "MP4" in said[0]


def test_a_package_that_cannot_be_looked_up_is_missing(install):
    def broken(name):
        raise ValueError("av.__spec__ is None")

    assert install.missing(broken) == list(install.NEEDED)


@pytest.mark.parametrize("there, fails", [(True, False), (False, False), (False, True)])
def test_as_the_host_runs_it(install, tmp_path, there, fails):
    """In its own process with the host's `launch`. If nothing is missing, `launch` is not even imported."""
    (tmp_path / "launch.py").write_text(LAUNCH if not there else "raise SystemExit('imported without need')")
    if there:
        for name in install.NEEDED:
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").write_text("raise ImportError('must not be imported')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PIP_FAILS": "1" if fails else ""}
    run = subprocess.run([sys.executable, "-S", ROOT / "install.py"], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines == [] if there else lines[0].startswith("PIP install") and len(lines) == 2 * len(install.NEEDED)
    assert there or ("was not installed" if fails else "installed av") in lines[1]


def test_the_host_brings_the_rest():
    """Every dependency is either in the host's own requirements or installed by install.py."""
    folder = os.environ.get("WEBUI_DIR")
    if not folder:
        pytest.skip("needs WEBUI_DIR")
    theirs = {line.split("==")[0].strip().lower()
              for line in (Path(folder) / "requirements_versions.txt").read_text("utf-8").splitlines()}
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    needed = pyproject.split("dependencies = [")[1].split("]")[0]
    names = {word.strip(' "').split(">")[0].lower() for word in needed.split(",")}
    assert names - theirs <= {"numpy"}, names - theirs  # which torch and Pillow's users there need anyway
