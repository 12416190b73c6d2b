"""A training loop that can be stopped at any time and resumes from its last saved step."""
from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn


def cosine(step: int, steps: int, warmup: int = 100) -> float:
    """Return the factor of the peak learning rate at a step: linear warm-up, then a cosine down to 0.01."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def average_gradients(parameters: list[nn.Parameter], world: int) -> None:
    """Replace each gradient by its mean over all processes, in one all-reduce."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients]) / world
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients])):
        gradient.copy_(part.view_as(gradient))


@dataclass(frozen=True)
class Plan:
    """Hyperparameters of a training."""

    steps: int
    rate: float  # peak learning rate
    ema: float = 0.0  # decay of the averaged weights; 0 turns averaging off
    save_every: int = 250  # in steps


class State:
    """The state of a training: modules, optimiser, averaged weights and step. It is saved to a file and restored."""

    def __init__(self, path: Path, modules: dict[str, nn.Module], parameters: list[nn.Parameter], plan: Plan):
        self.path, self.modules, self.step = path, modules, 0
        self.optimiser = torch.optim.AdamW(parameters, lr=plan.rate, betas=(0.9, 0.99), weight_decay=1e-4)
        self.averaged = [p.detach().clone() for p in parameters] if plan.ema else []

    def restore(self) -> bool:
        """Load the state from the file and return True; return False if there is no file."""
        if not self.path.exists():
            return False
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        for key, module in self.modules.items():
            module.load_state_dict(state["modules"][key])
        self.optimiser.load_state_dict(state["optimiser"])
        self.averaged, self.step = state["averaged"], state["step"]
        return True

    def save(self) -> None:
        state = {"modules": {key: module.state_dict() for key, module in self.modules.items()},
                 "optimiser": self.optimiser.state_dict(), "averaged": self.averaged, "step": self.step}
        torch.save(deepcopy(state), self.path.with_suffix(".part"))
        self.path.with_suffix(".part").replace(self.path)


class Report:
    """Prints the losses, smoothed over about 50 steps, and the remaining time."""

    def __init__(self, name: str, first: int, steps: int):
        self.name, self.first, self.steps = name, first, steps
        self.began, self.shown = time.monotonic(), {}

    def add(self, step: int, losses: dict[str, torch.Tensor]) -> None:
        """Add the losses of a step. step: number of steps done."""
        for key, value in losses.items():
            self.shown[key] = self.shown[key] * 0.98 + value.item() * 0.02 if key in self.shown else value.item()
        if step % 50 == 0:
            pace = (time.monotonic() - self.began) / (step - self.first)
            values = "  ".join(f"{key} {value:.5f}" for key, value in self.shown.items())
            left = pace * (self.steps - step) / 60
            print(f"{self.name} {step}/{self.steps}  {values}  {pace:.2f} s/step  {left:.0f} min left", flush=True)


def train(
    name: str,
    folder: Path,
    modules: dict[str, nn.Module],
    parameters: Iterable[nn.Parameter],
    loss_at: Callable[[int], dict[str, torch.Tensor]],
    plan: Plan,
) -> None:
    """Minimise `loss_at(batch)["loss"]` over `parameters`. At the end `modules` have the averaged weights.

    The state is saved to `folder/name.pt` and restored from it. Each batch has a number that is its seed, so a resumed
    run sees the same data as an uninterrupted one. In a process group each process takes its own batch in each step,
    and gradients are averaged.
    """
    world, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
    parameters = [p for p in parameters if p.requires_grad]
    state = State(folder / f"{name}.pt", modules, parameters, plan)
    if state.restore() and rank == 0:
        print(f"{name}: goes on at step {state.step} of {plan.steps}", flush=True)
    report = Report(name, state.step, plan.steps)
    for step in range(state.step, plan.steps):
        torch.manual_seed(step * world + rank)
        for group in state.optimiser.param_groups:
            group["lr"] = plan.rate * cosine(step, plan.steps)
        losses = loss_at(step * world + rank)
        state.optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()
        if world > 1:
            average_gradients(parameters, world)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        state.optimiser.step()
        if plan.ema:
            # The decay starts lower, so that the average soon forgets the random initial weights.
            share = 1 - min(plan.ema, (step + 1) / (step + 10))
            torch._foreach_lerp_(state.averaged, [p.detach() for p in parameters], share)
        state.step = step + 1
        if rank == 0:
            report.add(state.step, losses)
            if state.step % plan.save_every == 0 or state.step == plan.steps:
                state.save()
    with torch.no_grad():
        for parameter, value in zip(parameters, state.averaged):
            parameter.copy_(value)
