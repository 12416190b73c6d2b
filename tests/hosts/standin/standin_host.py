"""The stand-in as a host for the length of a `with` block; afterwards sys.modules and sys.path are as before.

    with standing_in(folder) as host:
        script = host.load(ROOT / "scripts" / "animatediff.py")
        host.show()
        answer = host.request("txt2img", {...}, {"AnimateDiff": [{"enable": True}]})
"""
from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).parent
SHADOWED = ("modules", "fastapi", "api", "gradio", "scripts")
OURS = "animatediff.hosts"  # imports `modules`, and must be imported again


@contextmanager
def standing_in(data: Path) -> Iterator[SimpleNamespace]:
    def shadowed(name: str) -> bool:
        return name.split(".")[0] in SHADOWED or name == OURS or name.startswith(f"{OURS}.")

    package = sys.modules.get("animatediff")
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if shadowed(name)}
    attribute = vars(package).pop("hosts", None) if package else None
    path = list(sys.path)
    sys.path.insert(0, str(HERE))
    try:
        yield _host(data)
    finally:
        for name in [name for name in sys.modules if shadowed(name)]:
            del sys.modules[name]
        sys.modules.update(kept)
        sys.path[:] = path
        package = sys.modules.get("animatediff")
        if package:
            vars(package).pop("hosts", None)
            if attribute is not None:
                package.hosts = attribute


def _host(data: Path) -> SimpleNamespace:
    names = ("paths", "shared", "scripts", "script_callbacks", "sd_models", "processing", "errors")
    # The paths must be set before any other import.
    paths = importlib.import_module("modules.paths")
    paths.data_path = paths.script_path = str(data)
    paths.models_path, paths.extensions_dir = str(data / "models"), str(data / "extensions")
    modules = {name: importlib.import_module(f"modules.{name}") for name in names}
    api, tiny = importlib.import_module("api"), importlib.import_module("tiny_ldm")
    opts = modules["shared"].opts
    for tab in ("txt2img", "img2img"):
        opts.data[f"outdir_{tab}_samples"] = str(data / "outputs" / f"{tab}-images")
    for seed, name in enumerate(("demo", "second"), 1):
        modules["sd_models"].register(
            modules["sd_models"].CheckpointInfo(name, tiny.LatentDiffusion, tiny.weights(seed)))
    modules["sd_models"].reload_model_weights()
    return SimpleNamespace(**modules, data=data, opts=opts, state=modules["shared"].state, api=api, tiny=tiny,
                           load=modules["scripts"].load, show=modules["scripts"].show, request=api.request)
