"""Extension for tests only: reForge takes the CPU for a GPU with as much memory as the test says.

torch's device cpu:0 is the CPU, but is not equal to its device cpu, with which the host compares. So the host loads,
splits and offloads weights as on a GPU, and computes the same numbers.

    POST /test-gpu         {"memory": bytes, "state": "NORMAL_VRAM" | "HIGH_VRAM" | "NO_VRAM", "flags": {name: value}}:
                           load the checkpoint anew on such a GPU; `flags` are flags of the command line.
                           Without "memory", on the CPU
    POST /test-gpu/off     load it anew on the CPU
    GET  /test-gpu/loads   since the last call, for each load: the memory that the host wants free, and the weights
                           there after it, by network: bytes, and bytes on the GPU
"""
import torch
from fastapi import Body
from ldm_patched.modules import model_management
from ldm_patched.modules.args_parser import args
from modules import call_queue, script_callbacks, sd_models

GPU = torch.device("cpu:0")
NAMES = ("get_torch_device", "get_free_memory", "is_device_cpu", "load_models_gpu", "vram_state")
plain = {name: getattr(model_management, name) for name in NAMES}
loads, first_flags = [], dict(vars(args))


def weights():
    """Return (bytes, bytes on the GPU) of each loaded network."""
    return {type(one.model.model).__name__: [one.model_memory(), one.model_loaded_memory()]
            for one in model_management.current_loaded_models}


def reload(flags):
    vars(args).update({**first_flags, **flags})
    sd_models.load_model(sd_models.model_data.sd_model.sd_checkpoint_info, forced_reload=True)


def pretend(memory, state):
    def free(device=None, torch_free_too=False):
        left = memory - sum(there for _, there in weights().values())
        return (left, 0) if torch_free_too else left

    def load(models, memory_required=0, **more):
        plain["load_models_gpu"](models, memory_required, **more)
        loads.append({"wanted": memory_required, "networks": weights()})

    vars(model_management).update(
        get_torch_device=lambda: GPU, get_free_memory=free, load_models_gpu=load,
        is_device_cpu=lambda device: device != GPU and plain["is_device_cpu"](device),
        vram_state=model_management.VRAMState[state])


def routes(_, app):
    @app.post("/test-gpu")
    def on(wish: dict = Body()):
        with call_queue.queue_lock:
            model_management.unload_all_models()
            if "memory" in wish:
                pretend(wish["memory"], wish.get("state", "NORMAL_VRAM"))
            reload(wish.get("flags", {}))
            loads.clear()

    @app.post("/test-gpu/off")
    def off():
        with call_queue.queue_lock:
            model_management.unload_all_models()
            vars(model_management).update(plain)
            reload({})

    @app.get("/test-gpu/loads")
    def read():
        found = [*loads]
        loads.clear()
        return found


script_callbacks.on_app_started(routes)
