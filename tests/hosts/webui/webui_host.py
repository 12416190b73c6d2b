"""A real WebUI in a process of its own, and a client that speaks its HTTP API with nothing but the standard library.

Environment
    WEBUI_DIR         folder of an AUTOMATIC1111 WebUI 1.10.1 (the one with launch.py) whose requirements are installed
    WEBUI_PYTHON      its Python, where that is not WEBUI_DIR/venv/bin/python
    FORGE_DIR, FORGE_PYTHON  the same for Forge; see KINDS for the others of its family (REFORGE, NEO)
    WEBUI_EXTRA_PATH  folders for its PYTHONPATH. Without it, what install.py would add is lent by links, where the
                      tests' Python is of the same version and has it; else the MP4 and WebM cases are skipped.
    WEBUI_PORT        a port, or a range such as 7880-7889; any free one without it

The WebUI runs on the CPU, offline, on 127.0.0.1, in a data folder of its own, so that nothing of an installation
in WEBUI_DIR is read or changed: models, extensions, settings and outputs all lie in the tests' folder.
"""
from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
DEMO = ROOT / "animatediff" / "engine" / "demo"
LENT = ("av", "dynamicprompts", "pyparsing")  # what install.py adds
FLAGS = (
    "--api", "--api-server-stop", "--skip-torch-cuda-test", "--skip-version-check", "--skip-python-version-check",
    "--skip-prepare-environment", "--skip-install", "--no-half", "--no-half-vae", "--no-download-sd-model",
    "--disable-console-progressbars",
)  # fmt: skip
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False", "PYTHONUNBUFFERED": "1",
    "no_proxy": "127.0.0.1,localhost", "NO_PROXY": "127.0.0.1,localhost",
}  # fmt: skip
SETTINGS = {  # settings of the WebUI that differ from its defaults
    "sd_model_checkpoint": "demo.safetensors",
    "show_progress_type": "Approx cheap",  # needs no file
    "show_progress_every_n_steps": 1,
    "live_previews_enable": True,
}
START_SECONDS = 600  # a full-size WebUI on one busy core
REQUEST_SECONDS = 900


@dataclass(frozen=True)
class Kind:
    """A program with the WebUI's API, and how it runs on the CPU with the demo checkpoint."""

    name: str
    prefix: str  # prefix of the environment variables for its folder and its Python
    flags: tuple[str, ...]
    extensions: Mapping[str, Path] = field(default_factory=dict)  # of the tests
    hires: Mapping[str, Any] = field(default_factory=dict)  # required fields of a request with Hires. fix
    settings: Mapping[str, Any] = field(default_factory=dict)  # further settings that differ from its defaults
    upscalers: Mapping[str, str] = field(default_factory=dict)  # for Hires. fix, in place of those that it lacks
    outputs: str = "outputs"  # folder of the files that it writes, in its data folder

    @property
    def folder(self) -> Path | None:
        found = os.environ.get(f"{self.prefix}_DIR")
        return Path(found).resolve() if found else None

    @property
    def python(self) -> Path:
        assert self.folder is not None, f"{self.prefix}_DIR is not set"
        return Path(os.environ.get(f"{self.prefix}_PYTHON", self.folder / "venv" / "bin" / "python"))

    def can_import(self, name: str, extra: str = "") -> bool:
        """Whether its Python has a package."""
        code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
        environment = {**os.environ, "PYTHONPATH": extra}
        return subprocess.run([self.python, "-c", code], env=environment, capture_output=True).returncode == 0


A1111 = Kind("A1111", "WEBUI", (*FLAGS, "--use-cpu", "all", "--do-not-download-clip"))
FORGES = ROOT / "tests" / "hosts" / "forge"
VISION = {"animatediff-test-vision": FORGES / "vision"}
NARROW = {"animatediff-test-narrow": FORGES / "narrow"}
FORGE = Kind("Forge", "FORGE", (*FLAGS, "--always-cpu"),
             {**VISION, **NARROW, "animatediff-test-pretended-gpu": FORGES / "pretended_gpu_forge"},
             {"hr_additional_modules": ["Use same choices"]})
REFORGE = Kind("reForge", "REFORGE", (*FLAGS, "--always-cpu"),
               {**VISION, "animatediff-test-narrow": FORGES / "narrow_reforge",
                "animatediff-test-pretended-gpu": FORGES / "pretended_gpu"})
UNKNOWN_TO_NEO = ("--no-half", "--no-half-vae", "--no-download-sd-model")
NEO_SETTINGS = {
    "VERSION_UID": "PY313",  # else it waits for Enter
    "CLIP_stop_at_last_layers": 1,
    "forge_checkpoint_sd": SETTINGS["sd_model_checkpoint"],  # of the page
    "refiner_use_steps": True,  # else the switch is a value of σ
    "res_step": 8,  # else Hires. fix rounds sizes to multiples of 64
}
NEO = Kind("Neo", "NEO", (*(flag for flag in FLAGS if flag not in UNKNOWN_TO_NEO), "--cpu"), NARROW, FORGE.hires,
           NEO_SETTINGS, {"Latent": "None", "Lanczos": "None"}, "output")
KINDS = (A1111, FORGE, REFORGE, NEO)


@dataclass
class Answer:
    """The response to a request."""

    status: int
    body: Any

    @property
    def ok(self) -> bool:
        return self.status == 200

    @property
    def detail(self) -> str:
        """The message of an error, in the API's `detail`."""
        return str(self.body.get("detail", "")) if isinstance(self.body, dict) else ""

    @property
    def images(self) -> list[str]:
        """Pictures and clips in base64."""
        return self.body["images"]

    @property
    def info(self) -> dict:
        return json.loads(self.body["info"])

    def expect(self) -> Answer:
        """Return this response if it is a success. Otherwise the assertion shows its message."""
        assert self.ok, f"HTTP {self.status}: {json.dumps(self.body)[:2000]}"
        return self


def free_port() -> int:
    """Return an unused port on 127.0.0.1, in WEBUI_PORT's range if there is one."""
    first, _, last = os.environ.get("WEBUI_PORT", "0").partition("-")
    for port in range(int(first), int(last or first) + 1):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise OSError(f"no free port in WEBUI_PORT={os.environ['WEBUI_PORT']}")


def write_checkpoints(folder: Path) -> None:
    """Write demo.safetensors, and second.safetensors: the same with a disturbed UNet.

    The configuration beside each names the tokenizer's folder by an absolute path, since the WebUI looks for a relative
    one on the hub.
    """
    import torch
    import yaml
    from safetensors.torch import load_file, save_file

    folder.mkdir(parents=True)
    config = yaml.safe_load((DEMO / "demo.yaml").read_text())
    config["model"]["params"]["cond_stage_config"]["params"]["version"] = str(DEMO / "clip")
    weights = load_file(DEMO / "demo.safetensors")
    random = torch.Generator().manual_seed(0)
    for key, value in weights.items():
        if key.startswith("model.diffusion_model.") and value.ndim > 1:
            weights[key] = value * (1 + 0.05 * torch.randn(value.shape, generator=random)).to(value)
    save_file(weights, folder / "second.safetensors")
    shutil.copyfile(DEMO / "demo.safetensors", folder / "demo.safetensors")
    for name in ("demo", "second"):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))


def write_controlnet(folder: Path, random: Any = None) -> dict[str, Any]:
    """Write control_tiny_sd15.safetensors, a ControlNet for the demo checkpoint, and return its weights.

    A ControlNet is the UNet's encoder, with a small network for the hint and 1x1 convolutions out of each block.
    random: a generator for the weights.
    """
    import torch
    from safetensors.torch import load_file, save_file

    prefix, random = "model.diffusion_model.", random or torch.Generator().manual_seed(1)
    unet = {k.removeprefix(prefix): v.float() for k, v in load_file(DEMO / "demo.safetensors").items()
            if k.startswith(prefix)}
    control = {k: v for k, v in unet.items() if k.startswith(("time_embed.", "input_blocks.", "middle_block."))}
    channels = (3, 16, 16, 32, 32, 96, 96, 256, 64)
    sizes = {f"input_hint_block.{2 * i}": (channels[i + 1], channels[i], 3, 3) for i in range(8)}
    sizes |= {f"zero_convs.{i}.0": (64, 64, 1, 1) for i in range(12)} | {"middle_block_out.0": (64, 64, 1, 1)}
    for name, (into, *out) in sizes.items():
        fan = out[0] * out[1] * out[2]
        strength = 0.25 if name.startswith(("zero", "middle")) else 1.4
        control[f"{name}.weight"] = torch.randn(into, *out, generator=random) * strength / fan**0.5
        control[f"{name}.bias"] = torch.zeros(into)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(control, folder / "control_tiny_sd15.safetensors")
    return control


def lend(python: Path, folder: Path, names: list[str]) -> str:
    """Return a folder for PYTHONPATH with only these packages of the tests' Python, or "" if that is impossible."""
    import importlib.util

    version = subprocess.run([python, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True,
                             text=True).stdout.strip()
    specs = [importlib.util.find_spec(name) for name in names] if version == str(sys.version_info[:2]) else []
    folder.mkdir(parents=True)
    for spec in filter(None, specs):
        package = Path(spec.submodule_search_locations[0] if spec.submodule_search_locations else spec.origin)
        for part in (package, package.parent / f"{spec.name}.libs"):
            if part.exists():
                (folder / part.name).symlink_to(part)
    return str(folder) if any(specs) else ""


class Host:
    """One WebUI.

    extensions: name -> folder, linked into its extensions folder.
    flags: additional command line flags.
    without: flags of its kind to leave out.
    headers: sent with every request.
    """

    def __init__(self, data: Path, extensions: dict[str, Path], settings: dict[str, Any] | None = None,
                 flags: Sequence[str] = (), without: Sequence[str] = (), kind: Kind = A1111):
        self.data, self.process, self.kind = data, None, kind
        self.outputs = data / kind.outputs
        self.flags = [flag for flag in kind.flags if flag not in without] + [*flags]
        self.headers: dict[str, str] = {}
        (data / "extensions").mkdir(parents=True)
        (data / "tmp").mkdir()  # Neo saves sent pictures there, but does not make it in another data folder
        for name, folder in {**extensions, **kind.extensions}.items():
            (data / "extensions" / name).symlink_to(folder, target_is_directory=True)
        write_checkpoints(data / "models" / "Stable-diffusion")
        self.settings = json.dumps({**SETTINGS, **kind.settings, **(settings or {})})
        (data / "config.json").write_text(self.settings)
        self.extra = os.environ.get("WEBUI_EXTRA_PATH", "")
        if not self.extra and (missing := [name for name in LENT if not kind.can_import(name)]):
            self.extra = lend(kind.python, data / "lent", missing)
        self.has_pyav = kind.can_import("av", self.extra)
        self.log_path = data / "webui.log"
        self._mark = 0

    # -- the process ---------------------------------------------------------------------------------------------------

    def start(self) -> Host:
        self.port = free_port()
        environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": self.extra}
        environment.setdefault("OMP_NUM_THREADS", "1")  # fixed order of sums, so that pictures are equal bit for bit
        environment.setdefault("MKL_NUM_THREADS", environment["OMP_NUM_THREADS"])
        command = [self.kind.python, "launch.py", "--port", str(self.port), *self.flags, "--data-dir", self.data,
                   "--gradio-allowed-path", self.kind.folder]  # Forge's page loads its scripts from there
        self.log_path.touch()
        self.mark()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(list(map(str, command)), cwd=self.kind.folder, env=environment, stdout=log,
                                            stderr=subprocess.STDOUT, start_new_session=True)
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"the WebUI ended while it started:\n{self.log_path.read_text()[-4000:]}")
            try:
                # A request before its last start-up message would end it:
                # an app that has answered takes no middleware.
                if "Startup time:" in self.log() and self.get("/sdapi/v1/options", seconds=2).status < 500:
                    return self
            except OSError:
                pass
            time.sleep(1)
        self.stop()
        raise RuntimeError(f"the WebUI did not answer within {START_SECONDS} s:\n{self.log_path.read_text()[-4000:]}")

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        with suppress(OSError):  # it may exit before it responds
            if not self.post("/sdapi/v1/server-kill", {}, seconds=5).ok:
                self.process.terminate()  # it has no API, or requires a password
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def restart(self) -> Host:
        self.stop()
        (self.data / "config.json").write_text(self.settings)  # Forge saves what the API sets
        return self.start()

    def mark(self) -> None:
        """Set the start for `log`."""
        self._mark = self.log_path.stat().st_size

    def log(self) -> str:
        """Return the WebUI's output since the last mark."""
        with open(self.log_path, "rb") as file:
            file.seek(self._mark)
            return file.read().decode("utf-8", "replace")

    # -- its API -------------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def send(self, path: str, data: bytes | None, seconds: float = REQUEST_SECONDS) -> Answer:
        """Send a body as it is, or None for a GET."""
        headers = self.headers | ({"Content-Type": "application/json"} if data is not None else {})
        return self._send(urllib.request.Request(self.url + path, data, headers), seconds)

    def _send(self, request: urllib.request.Request, seconds: float) -> Answer:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=seconds) as response:
                status, raw = response.status, response.read()
        except urllib.error.HTTPError as error:
            status, raw = error.code, error.read()
        try:
            return Answer(status, json.loads(raw))
        except ValueError:
            return Answer(status, raw)

    def get(self, path: str, seconds: float = REQUEST_SECONDS) -> Answer:
        return self.send(path, None, seconds)

    def post(self, path: str, body: Any, seconds: float = REQUEST_SECONDS) -> Answer:
        if path == "/sdapi/v1/txt2img" and isinstance(body, dict) and body.get("enable_hr"):
            body = {**self.kind.hires, **body}
            if (named := body.get("hr_upscaler")) in self.kind.upscalers:
                body["hr_upscaler"] = self.kind.upscalers[named]
        return self.send(path, json.dumps(body).encode(), seconds)

    def txt2img(self, animatediff: Any = None, **fields: Any) -> Answer:
        """Send a txt2img request.

        animatediff: a dict of settings, a list of positional arguments, or None for a plain picture.
        """
        return self.post("/sdapi/v1/txt2img", self._request(animatediff, fields))

    def img2img(self, images: list[str], animatediff: Any = None, **fields: Any) -> Answer:
        fields = {"denoising_strength": 0.6, **fields}
        return self.post("/sdapi/v1/img2img", {**self._request(animatediff, fields), "init_images": images})

    def options(self, **values: Any) -> None:
        """Set settings of the WebUI, which are restored after each case."""
        self.post("/sdapi/v1/options", values).expect()

    def set_directly(self, **values: Any) -> None:
        """Set settings that the API does not allow to change."""
        self.post("/test-probe/options", values).expect()

    # -- values that must be the same before and after -----------------------------------------------------------------

    def plain(self) -> dict[str, bytes]:
        """Return a fixed plain txt2img and a fixed plain img2img picture, as whole PNGs with infotexts."""
        text = self.txt2img(prompt="a red circle moving right", seed=11, steps=3, sampler_name="Euler a").expect()
        image = self.img2img(text.images[:1], prompt="a blue square", seed=12, steps=3, sampler_name="DDIM").expect()
        return {"txt2img": base64.b64decode(text.images[0]), "img2img": base64.b64decode(image.images[0])}

    def state(self) -> dict:
        """Return the probe's fingerprint of the model, the settings and the callbacks."""
        return self.get("/test-probe/state").expect().body

    def fault(self, kind: str, call: int, **more: Any) -> None:
        """Make the UNet's call number `call` (from 1) of the next job fail; see probe/."""
        self.post("/test-probe/fault", {"kind": kind, "call": call, **more}).expect()

    def watch(self) -> None:
        """Count the UNet's calls of the next job."""
        self.post("/test-probe/watch", {}).expect()

    def unet_calls(self) -> list[dict]:
        """Return `rows`, `size` and `began` (seconds) of each UNet call since `watch`."""
        return self.get("/test-probe/calls").expect().body

    def _request(self, animatediff: Any, fields: dict[str, Any]) -> dict[str, Any]:
        body = {"prompt": "a red circle moving right", "width": 64, "height": 64, "steps": 4, "cfg_scale": 5, "seed": 1,
                "sampler_name": "DDIM", **fields}
        if animatediff is not None:
            args = animatediff if isinstance(animatediff, list) else [animatediff]
            body["alwayson_scripts"] = {**body.get("alwayson_scripts", {}), "AnimateDiff": {"args": args}}
        return body
