"""A training loop that can be stopped at any step and goes on from there."""
from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from copy import deepcopy
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn


def cosine(step: int, steps: int, warmup: int = 100) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then a cosine to a hundredth."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def average_gradients(parameters: list[nn.Parameter], world: int) -> None:
    """Replace each gradient by its mean over the processes, in one exchange."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients]) / world
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients])):
        gradient.copy_(part.view_as(gradient))


def train(
    name: str,
    folder: Path,
    modules: dict[str, nn.Module],
    parameters: Iterable[nn.Parameter],
    loss_at: Callable[[int], dict[str, torch.Tensor]],
    *,
    steps: int,
    rate: float,
    ema: float = 0.0,
    save_every: int = 250,
    on_save: Callable[[int], None] | None = None,
) -> None:
    """Minimise `loss_at(batch)["loss"]` over `parameters`; `modules` are saved
    and hold the averaged weights at the end.

    State lies in `folder/name.pt` and is picked up when it exists. Batches are numbered, and the number is the seed, so
    a run that was stopped and resumed sees the same data as one that was not. In a process group each process
    takes a batch of its own in each step, and their gradients are averaged.
    """
    world, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
    parameters = [p for p in parameters if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=1e-4)
    averaged = [p.detach().clone() for p in parameters] if ema else []
    path, first = folder / f"{name}.pt", 0
    if path.exists():
        state = torch.load(path, map_location="cpu", weights_only=True)
        for key, module in modules.items():
            module.load_state_dict(state["modules"][key])
        optimiser.load_state_dict(state["optimiser"])
        averaged, first = state["averaged"], state["step"]
        if rank == 0:
            print(f"{name}: goes on at step {first} of {steps}", flush=True)

    def save(step: int) -> None:
        state = {
            "modules": {k: m.state_dict() for k, m in modules.items()},
            "optimiser": optimiser.state_dict(),
            "averaged": averaged,
            "step": step,
        }
        torch.save(deepcopy(state), path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)
        if on_save:
            on_save(step)

    began, shown = time.monotonic(), {}
    for step in range(first, steps):
        torch.manual_seed(step * world + rank)
        for group in optimiser.param_groups:
            group["lr"] = rate * cosine(step, steps)
        losses = loss_at(step * world + rank)
        optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()
        if world > 1:
            average_gradients(parameters, world)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if ema:
            # The average forgets its random start faster than its final pace.
            torch._foreach_lerp_(averaged, [p.detach() for p in parameters], 1 - min(ema, (step + 1) / (step + 10)))
        for key, value in losses.items():
            shown[key] = shown.get(key, 0.0) * 0.98 + value.item() * 0.02 if key in shown else value.item()
        if rank:
            continue
        if (step + 1) % 50 == 0:
            pace = (time.monotonic() - began) / (step + 1 - first)
            values = "  ".join(f"{k} {v:.5f}" for k, v in shown.items())
            left = pace * (steps - step - 1) / 60
            print(f"{name} {step + 1}/{steps}  {values}  {pace:.2f} s/step  {left:.0f} min left", flush=True)
        if (step + 1) % save_every == 0 or step + 1 == steps:
            save(step + 1)
    if ema:
        with torch.no_grad():
            for parameter, value in zip(parameters, averaged):
                parameter.copy_(value)
