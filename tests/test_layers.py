"""Dependencies point one way: every import of the package, those inside functions and for type checking too."""
from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "animatediff"
PURE = ("errors", "version", "parameters", "settings", "curves", "loras", "windows", "fuse", "travel", "notices",
        "packages", "layout", "step_reuse", "few_steps", "sampler_table", "attribute", "disk", "user_paths")
SCIENCE = "torch numpy PIL"
CORE = "weights unet media motion sampling"
# Room: other rooms that it may import, beside the pure ones, and libraries.
ROOMS = {
    **dict.fromkeys(PURE, ("", "")),
    "travel": ("", "dynamicprompts pyparsing"),
    "weights": ("", f"{SCIENCE} safetensors"),  # the only room that opens them
    "unet": ("", SCIENCE),
    "media": ("weights", f"{SCIENCE} av cv2 pillow_heif spandrel torchvision"),
    "motion": ("weights unet", f"{SCIENCE} triton"),
    "sampling": ("weights unet motion", SCIENCE),
    "clip": (CORE, SCIENCE),
    "engine": (f"{CORE} clip", f"{SCIENCE} diffusers transformers tokenizers yaml"),
    "hosts.shared": (f"{CORE} clip", f"{SCIENCE} fastapi"),
    "hosts.forge": (f"{CORE} clip hosts.shared", f"{SCIENCE} modules backend"),
    "hosts.a1111": (f"{CORE} clip hosts.shared hosts.forge", f"{SCIENCE} modules gradio fastapi"),
    "hosts.neighbours": (f"{CORE} clip hosts.shared hosts.forge hosts.a1111", f"{SCIENCE} modules gradio scripts"),
    "faces": (f"{CORE} clip engine", "tqdm"),
}
# Arrows against the order. The list must only shrink.
AGAINST: set[tuple[str, str]] = set()


@cache
def modules() -> dict[str, Path]:
    """Modules by name, without `animatediff.`; "" is the package itself."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str) -> tuple[set[str], set[str]]:
    """What a module imports: modules of the package, and names of libraries."""
    ours, theirs = set(), set()
    for node in ast.walk(ast.parse(modules()[name].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports by a relative name: write from animatediff.… import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for full in names:
            package, _, rest = full.partition(".")
            if package != "animatediff":
                theirs.add(package)
                continue
            while rest not in modules():
                rest = rest.rpartition(".")[0]
            ours.add(rest)
    return ours - {name}, theirs - set(sys.stdlib_module_names)


def room_of(name: str) -> str:
    """"" for the package itself and `python -m animatediff`, which see every room."""
    return next((room for room in ROOMS if f"{name}.".startswith(f"{room}.")), "")


def test_imports_point_one_way():
    wrong = []
    for name in modules():
        room = room_of(name)
        if not room:
            assert name in ("", "__main__", "hosts"), f"{name} is in no room of the table"
            continue
        ours, theirs = imported(name)
        below, libraries = (set(words.split()) for words in ROOMS[room])
        wrong += [f"{name} imports {library}" for library in theirs - libraries]
        wrong += [f"{name} imports {other}" for other in ours - {""}
                  if room_of(other) not in {room, *PURE, *below} and (room, room_of(other)) not in AGAINST]
    assert not wrong


def test_no_module_leads_back_to_itself():
    graph = {name: imported(name)[0] for name in modules()}
    reached = {name: set(ours) for name, ours in graph.items()}
    for middle in graph:  # Warshall's transitive closure
        for name in graph:
            if middle in reached[name]:
                reached[name] |= reached[middle]
    circles = {frozenset(other for other in reached[name] if name in reached[other])
               for name in graph if name in reached[name]}
    assert not circles


def test_exceptions_are_still_needed():
    arrows = {(room_of(name), room_of(other)) for name in modules() for other in imported(name)[0]}
    assert arrows >= AGAINST


def test_a_face_and_the_settings_need_no_torch():
    code = ("import sys, animatediff.settings, animatediff.faces.cli.main; "
            "print([name for name in ('torch', 'numpy', 'dynamicprompts') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]", done.stderr
