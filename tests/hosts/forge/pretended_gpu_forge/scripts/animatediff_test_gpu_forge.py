"""Extension for tests only: Forge takes the CPU for a GPU with as much memory as the test says.

As ../../pretended_gpu for reForge, with the same routes. torch's device cpu:0 is the CPU, but is not equal to its
device cpu, with which the host compares. Tensors forget the difference, so loaded weights are counted here.
"""
import torch
from backend import memory_management
from fastapi import Body
from modules import call_queue, script_callbacks, sd_models

GPU = torch.device("cpu:0")
NAMES = ("get_torch_device", "get_free_memory", "is_device_cpu", "load_models_gpu", "vram_state",
         "current_inference_memory")
plain = {name: getattr(memory_management, name) for name in NAMES}
loads = []


def size(module):
    return sum(weight.nbytes for weight in module.parameters(recurse=False))


def weights():
    """Return (bytes, bytes on the GPU) of each loaded network. Layers that are fetched when called are marked."""
    found = {}
    for one in memory_management.current_loaded_models:
        layers = list(one.model.model.modules())
        there = [layer for layer in layers if not hasattr(layer, "prev_parameters_manual_cast")]
        found[type(one.model.model).__name__] = [sum(map(size, layers)), sum(map(size, there))]
    return found


def reload():
    memory_management.unload_all_models()
    sd_models.model_data.forge_hash = ""  # the next job loads the checkpoint


def pretend(memory, state):
    def free(device=None, torch_free_too=False):
        left = memory - sum(there for _, there in weights().values())
        return (left, 0) if torch_free_too else left

    def load(models, memory_required=0, **more):
        plain["load_models_gpu"](models, memory_required, **more)
        loads.append({"wanted": memory_required, "networks": weights()})

    vars(memory_management).update(
        get_torch_device=lambda: GPU, get_free_memory=free, load_models_gpu=load, current_inference_memory=0,
        is_device_cpu=lambda device: device != GPU and plain["is_device_cpu"](device),
        vram_state=memory_management.VRAMState[state])


def routes(_, app):
    @app.post("/test-gpu")
    def on(wish: dict = Body()):
        with call_queue.queue_lock:
            reload()
            pretend(wish["memory"], wish.get("state", "NORMAL_VRAM"))
            loads.clear()

    @app.post("/test-gpu/off")
    def off():
        with call_queue.queue_lock:
            reload()
            vars(memory_management).update(plain)
            sd_models.forge_model_reload()

    @app.get("/test-gpu/loads")
    def read():
        found = [*loads]
        loads.clear()
        return found


script_callbacks.on_app_started(routes)
