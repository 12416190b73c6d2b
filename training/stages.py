"""The stages of the training, run by one process or by several with averaged gradients."""
from __future__ import annotations

import argparse

import torch
import torch.distributed as dist
import torch.multiprocessing as processes

from . import export, image, latents, motion, text, vae


def run(options: argparse.Namespace) -> None:
    """Run all stages with `options.processes` processes."""
    if options.processes == 1:
        stages(options)
        return
    rendezvous = options.work / "processes"
    rendezvous.unlink(missing_ok=True)
    processes.spawn(one_of_many, (options, f"file://{rendezvous.resolve()}"), options.processes)


def one_of_many(rank: int, options: argparse.Namespace, rendezvous: str) -> None:
    """Run all stages as one process of several. Only the process of rank 0 saves and reports."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=options.processes)
    stages(options)
    dist.destroy_process_group()


def stages(options: argparse.Namespace) -> None:
    """Train autoencoder, text encoder, image model and motion module. Only rank 0 writes files."""
    work, out, seed = options.work, options.out, options.seed
    first = not dist.is_initialized() or dist.get_rank() == 0
    texts = _rank0_first(first, lambda: text.Texts(out / "clip"))
    autoencoder = vae.fit(work, steps=options.vae_steps, batch=8, seed=seed)
    x, captions = _rank0_first(first, lambda: latents.cached(work, autoencoder, clips=options.clips, seed=seed + 1))
    encoder = text.fit(work, captions, texts, steps=options.text_steps, batch=24, seed=seed + 4)
    contexts = text.Contexts(encoder, captions, texts)
    unet = image.fit(work, x, contexts, steps=options.image_steps, batch=32, seed=seed + 2)
    if first:
        export.image_model(out, unet, autoencoder, encoder)
    module = motion.fit(work, x, contexts, unet, steps=options.motion_steps, batch=4, seed=seed + 3)
    if first:
        export.motion_module(out, module)


def _rank0_first(first: bool, make):
    """Return make(), called first by rank 0, which creates a file, and then by the others, which find it."""
    if first:
        made = make()
    if dist.is_initialized():
        dist.barrier()
    return made if first else make()
