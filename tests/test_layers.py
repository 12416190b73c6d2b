"""Dependencies point one way: every import of the package, those inside functions too,
against what its part may use."""
from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "animatediff"
PURE = {"errors", "version", "parameters", "settings", "curves", "loras", "windows", "fuse", "travel", "notices",
        "layout", "speed", "attribute"}
CORE = PURE | {"motion", "sampling", "video"}
LIBRARIES = {"torch", "einops", "numpy", "PIL", "safetensors"}
# Part -> parts of the package and libraries that it may import, next to itself and Python's own.
MAY = {
    **{part: PURE for part in PURE}, "travel": {"errors", "simpleeval", "dynamicprompts", "pyparsing"},
    "motion": PURE | LIBRARIES, "sampling": CORE | LIBRARIES, "video": PURE | LIBRARIES | {"av"},
    "engine": CORE | LIBRARIES | {"diffusers", "transformers", "tokenizers", "tqdm", "yaml", "av"},
    "hosts": CORE | LIBRARIES | {"modules", "gradio", "fastapi", "k_diffusion", "ldm", "launch", "scripts"},
    "__init__": PURE, "__main__": {"engine"},
}  # fmt: skip
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Parts of the package and names of libraries."""
    here = ("animatediff", *path.relative_to(PACKAGE).parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[:len(here) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "animatediff" else [module]
        else:
            continue
        for name in names:
            words = name.split(".")
            found.add(words[1] if words[0] == "animatediff" and len(words) > 1 else words[0])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    part = part_of(path)
    allowed = MAY[part] | {part, "animatediff", "__future__"} | set(sys.stdlib_module_names)
    assert not imported(path) - allowed


def test_no_settings_need_torch():
    import subprocess

    code = "import sys, animatediff.settings; print('torch' in sys.modules, 'simpleeval' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.stdout.split() == ["False", "False"], done.stderr
