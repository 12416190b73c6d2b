"""Extension for tests only: reports the state of the model inside the WebUI, and injects faults.

    GET  /test-probe/state    fingerprint of everything that a job must leave as it was
    POST /test-probe/reset    restore the settings of the start
    POST /test-probe/options  set settings, also those that the host's API does not change
    POST /test-probe/fault    {"kind": "RuntimeError" | "interrupt" | "skip" | "stop", "call": n}: the UNet's call n of
                              the next job fails, or requests the job's end and goes on; {"kind": "OutOfMemory",
                              "call": n}: each call from n on fails; with "rows", only calls of so many rows; with
                              "parts", only calls whose self-attention is computed in parts
    POST /test-probe/watch    count the UNet's calls of the next job, in which the VAE adds no noise to latents
    GET  /test-probe/calls    those calls
    POST /test-probe/linear   Forge's family: take the beta schedule of SD1.5's motion modules, until the next reset
    POST /test-probe/refine   {"file": …, "values": {…}}: hosts/a1111/refine.py, in the host's queue
    GET  /test-probe/start    the job's start: its start latents and noise, and the first call's x and t

Hooks on the UNet exist only from a job's `process` until the fault, the next job or the reading.
"""
import copy
import hashlib
import sys
import time
from pathlib import Path

import torch
from modules import call_queue, script_callbacks, scripts, sd_models, shared

COUNTED = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_state_dict_hooks", "_load_state_dict_pre_hooks")
wish = {"fault": None, "watch": False}
handles = []
calls = []
start = {}
first_options = {}
first_schedule = {}


def digest(tensors):
    total = hashlib.sha256()
    for name, tensor in tensors:
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def networks():
    """Return the parts of the model by name. Forge's model is not a module itself."""
    model = shared.sd_model
    if not hasattr(model, "forge_objects"):
        return {"": model}
    parts = model.forge_objects
    return {"unet": parts.unet.model, "clip": parts.clip.cond_stage_model, "vae": parts.vae.first_stage_model}


def unet_of_model():
    parts = networks()
    return parts["unet"].diffusion_model if "unet" in parts else parts[""].model.diffusion_model


def schedule():
    parts = networks()
    if "unet" in parts:
        return sorted(noise_levels().named_buffers())
    return [("alphas", parts[""].alphas_cumprod), ("original", parts[""].alphas_cumprod_original)]


def noise_levels():
    unet = networks()["unet"]
    return unet.predictor if hasattr(unet, "predictor") else unet.model_sampling


def first_schedule_again():
    for (module, name), tensor in first_schedule.items():
        module.register_buffer(name, tensor)
    first_schedule.clear()


def lent():
    """Return the contents of Forge's patchers that are not in a network."""
    parts = getattr(shared.sd_model, "forge_objects", None)
    if parts is None:
        return []
    return sorted([f"model_options: {name}" for name in parts.unet.model_options]
                  + [f"transformer_options: {name}" for name in parts.unet.model_options["transformer_options"]]
                  + [f"sd_model: {name}" for name in vars(shared.sd_model)])


def state():
    model = shared.sd_model
    modules = [(f"{part}.{n}", m) for part, network in networks().items() for n, m in network.named_modules()]
    return {
        "checkpoint": model.sd_checkpoint_info.name,
        "weights": digest(sorted((f"{part}.{n}", t) for part, network in networks().items()
                                 for n, t in network.state_dict().items())),
        "alphas_cumprod": digest(schedule()),
        "lent": lent(),
        "modules": hashlib.sha256("\n".join(f"{n} {type(m).__qualname__}" for n, m in modules).encode()).hexdigest(),
        "hooks": {f"{n} {kind}": len(found) for n, m in modules for kind in COUNTED if (found := getattr(m, kind))},
        # Functions on instances: a patched forward, apply_model, …
        "patches": sorted(f"{n}.{k} = {getattr(v, '__module__', '')}.{getattr(v, '__qualname__', v)}"
                          for n, m in modules for k, v in vars(m).items() if callable(v) and not k.startswith("_")),
        "classes": sorted(f"{kind.__name__}.{k} = {getattr(v, '__module__', '')}.{getattr(v, '__qualname__', '')}"
                          for kind in {type(m) for _, m in modules} | {torch.nn.GroupNorm}
                          for k, v in vars(kind).items() if callable(v) and not k.startswith("__")),
        "callbacks": {category: len(found) for category, found in script_callbacks.callback_map.items()},
        # Without settings of loading the checkpoint, which may happen before or after the start is recorded.
        "options": {k: v for k, v in shared.opts.data.items() if k != "sd_checkpoint_hash"},
        "job": {k: v for k, v in shared.state.dict().items() if k in ("skipped", "interrupted", "job", "job_count")},
    }


def take_off():
    while handles:
        handles.pop().remove()


def has_memory(fault, unet, x):
    if fault.get("parts"):
        return all("forward" in vars(m) for name, m in unet.named_modules() if name.endswith("attn1"))
    return x.shape[0] <= fault.get("rows", 0)


class Noiseless:
    """Until `remove`, the VAE gives the middle of its distribution in place of a random value."""

    def __init__(self):
        found = {getattr(module, "__dict__", {}).get("DiagonalGaussianDistribution")  # sys.modules may hold None
                 for module in list(sys.modules.values())} - {None}
        self.plain = {kind: kind.sample for kind in found}
        for kind in found:
            kind.sample = lambda distribution, *args, **kwargs: distribution.mode()

    def remove(self):
        for kind, sample in self.plain.items():
            kind.sample = sample


class TestProbe(scripts.Script):
    def title(self):
        return "AnimateDiff test probe"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return []

    def process(self, p, *args):
        take_off()
        unet = unet_of_model()
        fault, wish["fault"] = wish["fault"], None
        watch, wish["watch"] = wish["watch"], False
        if not fault and not watch:
            return
        calls.clear()
        start.clear()

        def before(module, args, kwargs):
            x = args[0] if args else kwargs["x"]
            calls.append({"rows": x.shape[0], "size": list(x.shape[2:]), "began": time.perf_counter()})
            if len(calls) == 1:
                start.update(x=x.tolist(), t=(args[1] if len(args) > 1 else kwargs["timesteps"]).tolist())
            if fault and fault["kind"] == "OutOfMemory":
                if len(calls) >= fault["call"] and not has_memory(fault, unet, x):
                    raise torch.OutOfMemoryError("out of memory, on purpose, by the test's probe")
            elif fault and len(calls) == fault["call"]:
                if not watch:
                    take_off()
                if fault["kind"] in ("interrupt", "skip", "stop"):
                    getattr(shared.state, {"stop": "stop_generating"}.get(fault["kind"], fault["kind"]))()
                else:
                    raise RuntimeError("raised on purpose by the test's probe")

        handles.append(unet.register_forward_pre_hook(before, with_kwargs=True))
        if watch:
            handles.append(Noiseless())

    def process_before_every_sampling(self, p, *args, x=None, noise=None, **kwargs):
        if handles and "noise" not in start:
            start.update(latents=x.tolist(), noise=noise.tolist())


def routes(_, app):
    from fastapi import Body

    first_options.update(copy.deepcopy(shared.opts.data))

    @app.get("/test-probe/state")
    def read_state():
        take_off()
        return state()

    @app.post("/test-probe/reset")
    def reset():
        shared.opts.data = copy.deepcopy(first_options)
        first_schedule_again()
        getattr(sd_models, "reload_model_weights", lambda: None)()  # Neo loads the checkpoint with the next job
        take_off()
        wish.update(fault=None, watch=False)

    @app.post("/test-probe/options")
    def change(values: dict = Body()):
        shared.opts.data.update(values)

    @app.post("/test-probe/fault")
    def arm(fault: dict = Body()):
        wish["fault"] = fault

    @app.post("/test-probe/watch")
    def watch():
        wish["watch"] = True

    @app.get("/test-probe/calls")
    def read_calls():
        take_off()
        return calls

    @app.post("/test-probe/linear")
    def set_linear_schedule():
        first_schedule.update({(noise_levels(), name): tensor for name, tensor in noise_levels().named_buffers()})
        alphas = torch.cumprod(1 - torch.linspace(0.00085, 0.012, 1000, dtype=torch.float64), 0)
        noise_levels().set_sigmas(((1 - alphas) / alphas).sqrt())
        if isinstance(shared.sd_model, torch.nn.Module):  # reForge's, whose samplers read it
            first_schedule[shared.sd_model, "alphas_cumprod"] = shared.sd_model.alphas_cumprod
            shared.sd_model.alphas_cumprod = alphas.to(shared.sd_model.alphas_cumprod)

    @app.post("/test-probe/refine")
    def refine_clip(body: dict = Body()):
        from animatediff.clip.finished import Finished
        from animatediff.hosts.a1111 import refine
        from animatediff.media.write import Target

        path = Path(body["file"])
        with call_queue.queue_lock:
            shared.state.begin(job="refine")
            try:
                made = refine.refine(Finished.read(path), body["values"], str(path.parent / "refined"),
                                     lambda taken: Target(f"{path.parent}/refined/", "clip"), lambda *_: False)
            except Exception as error:
                return {"error": f"{type(error).__name__}: {error}"}
            finally:
                shared.state.end()
        return {"paths": list(map(str, made.paths)), "frames": made.frames, "fps": made.fps, "text": made.text,
                "notes": made.notes, "size": list(made.first.size)}

    @app.get("/test-probe/start")
    def read_start():
        take_off()
        return start


script_callbacks.on_app_started(routes)
