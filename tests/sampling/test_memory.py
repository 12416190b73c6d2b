"""The number of items in a call, and the memory fallbacks that need no pipeline."""
from __future__ import annotations

import pytest
import torch

from animatediff.sampling import memory

WINDOWS, APART = "windows are denoised one by one", "prompt and negative prompt are denoised apart"
PARTS = "attention is computed in parts"


class Network:
    def __init__(self, place):
        self.device, self.way = torch.device(place), []

    def to(self, place):
        self.device = torch.device(place)
        self.way.append(str(place))


def test_unused_networks_leave_the_device_and_come_back(monkeypatch):
    monkeypatch.setattr(memory, "fits", lambda device, work, most: (work(), 1))
    vae, text, unet = Network("cuda:1"), Network("cuda:1"), Network("cuda:1")
    messages = []
    device = torch.device("cpu")

    def work():
        if vae.device.type == "cuda":
            raise torch.OutOfMemoryError
        return "done"

    with memory.WhileSampling(device, messages.append, lambda: (vae, text), 2, torch.nn.Module(), None) as in_use:
        assert in_use(work) == "done" and unet.device.type == "cuda" and text.device.type == "cpu"
    assert vae.way == text.way == ["cpu", "cuda:1"] and not unet.way
    assert messages == [WINDOWS, APART, PARTS, "networks that are not in use are kept in main memory"]

    def picture():
        if unet.device.type == "cuda":
            raise torch.OutOfMemoryError
        return "picture"

    with memory.WhileDecoding(device, messages.append, lambda: (unet, None, text)) as in_use:
        assert in_use(picture) == "picture" and vae.device.type == "cuda"
    assert unet.way == ["cpu", "cuda:1"]


def test_device_of_a_module_is_that_of_its_weights():
    encoder = torch.nn.Linear(1, 1)
    encoder.device = "cuda"  # LDM's CLIP has such an attribute, on every device

    def short():
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        with memory.WhileDecoding(torch.device("cpu"), lambda message: None, lambda: [encoder]) as in_use:
            in_use(short)


def test_number_of_calls_that_fit_follows_from_the_memory_of_one(monkeypatch):
    """One call takes 100. 310 is free in the driver and 140 in torch's cache, and 0.8 of 450 holds three calls."""
    facts = dict(memory_allocated=60, max_memory_allocated=160, memory_reserved=200, mem_get_info=(310, 1000),
                 reset_peak_memory_stats=None)
    for name, value in facts.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert memory.fits(gpu, lambda: "done", 8) == ("done", 3)
    assert memory.fits(gpu, lambda: "done", 2) == ("done", 2)
    assert memory.fits(cpu, lambda: "done", 8) == ("done", 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 1000))
    assert memory.fits(gpu, lambda: "done", 8) == ("done", 1)


def test_help_of_windows_per_call_names_the_largest_number():
    from animatediff.settings import BY_NAME

    assert f"up to {memory.MOST_WINDOWS}, " in BY_NAME["windows_per_call"].help
