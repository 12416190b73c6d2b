"""Extension for tests only: records how Forge, reForge or Neo calls its UNet.

    POST /call-recorder/begin   record every call of the UNet and every memory estimate from here on
    POST /call-recorder/end     return the records, in order

A call is {"chunks": cond_or_uncond, "rows", "c": names and shapes, "told": the transformer_options that depend on rows,
"marks": cond_mark if there is one, "uuids": how many, "same σ": whether all rows have one}. An estimate is {"estimate":
the shape that it is for}.
"""
from contextlib import ExitStack

import torch
from modules import script_callbacks, scripts, shared

recording = False
events = []
undo = ExitStack()


def plain(value):
    if isinstance(value, torch.Tensor):
        return list(value.shape)
    return list(map(plain, value)) if isinstance(value, (list, tuple)) else value


def wrapper(apply_model, call):
    told = call["c"]["transformer_options"]
    events.append({
        "chunks": list(call["cond_or_uncond"]), "rows": len(call["input"]),
        "c": {name: plain(value) for name, value in call["c"].items() if isinstance(value, torch.Tensor)},
        "told": {name: plain(told[name]) for name in sorted(told)
                 if name in ("cond_or_uncond", "cond_indices", "uncond_indices", "cond_mark", "sigmas")},
        **({"marks": told["cond_mark"].tolist()} if "cond_mark" in told else {}),
        **({"uuids": len(told["uuids"])} if "uuids" in told else {}),
        "same σ": bool((call["timestep"] == call["timestep"][0]).all())})
    return apply_model(call["input"], call["timestep"], **call["c"])


def class_of_models():
    try:
        from backend.modules.k_model import KModel
    except ImportError:
        from ldm_patched.modules.model_base import BaseModel as KModel
    return KModel


class CallRecorder(scripts.Script):
    def title(self):
        return "AnimateDiff call recorder"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return []

    def process_before_every_sampling(self, p, *args, **kwargs):
        if not recording:
            return
        events.append({"hook": "process_before_every_sampling", "Hires. pass": bool(p.is_hr_pass)})
        unet = shared.sd_model.forge_objects.unet.clone()
        unet.set_model_unet_function_wrapper(wrapper)
        shared.sd_model.forge_objects.unet = unet


def routes(_, app):
    @app.post("/call-recorder/begin")
    def begin():
        global recording
        recording = True
        events.clear()
        kind = class_of_models()
        required = kind.memory_required

        def memory_required(self, input_shape, **shapes):
            events.append({"estimate": list(input_shape)})
            return required(self, input_shape, **shapes)

        kind.memory_required = memory_required
        undo.callback(setattr, kind, "memory_required", required)

    @app.post("/call-recorder/end")
    def end():
        global recording
        recording = False
        undo.close()
        return events


script_callbacks.on_app_started(routes)
