"""Noise with a generator for each picture of a batch, so that a picture does not depend on the others."""
import torch

from modules import devices


def create_generator(seed):
    return torch.Generator(devices.cpu).manual_seed(int(seed))


def randn_without_seed(shape, generator=None):
    return torch.randn(shape, generator=generator)


def randn(seed, shape, generator=None):
    return torch.randn(shape, generator=generator or create_generator(seed))


class ImageRNG:
    def __init__(self, shape, seeds, subseeds=None, subseed_strength=0.0, seed_resize_from_h=0, seed_resize_from_w=0):
        self.shape, self.seeds, self.subseeds = tuple(map(int, shape)), seeds, subseeds
        self.generators = [create_generator(seed) for seed in seeds]
        self.is_first = True

    def next(self):
        self.is_first = False
        return torch.stack([randn_without_seed(self.shape, g) for g in self.generators])
