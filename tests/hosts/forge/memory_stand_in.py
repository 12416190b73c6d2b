"""The part of memory management that a clip uses, alike in Forge and reForge."""
import torch


def get_torch_device():
    return torch.device("cpu")


def get_free_memory(device):
    return 1e12


def minimum_inference_memory():
    return 0


def free_memory(memory_required, device):
    pass


def load_models_gpu(models, memory_required=0):
    pass
