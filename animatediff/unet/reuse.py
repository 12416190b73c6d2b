"""Sampler steps that do not run the whole UNet, for the presets of `animatediff.step_reuse`.

* Deep features are kept over neighbouring steps (DeepCache, arXiv:2312.00858): what the inner blocks make, motion
  included, changes little from step to step, so only the outermost block on each side runs, on what they made last.
* So is the difference that the negative prompt makes (CFG-Cache of FasterCache, arXiv:2410.19355; Adaptive Guidance,
  arXiv:2312.12487): the UNet runs for the prompt alone.

Both are kept for each frame by its number, since windows move from step to step. Nothing is kept beyond the scope.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from animatediff.attribute import attribute
from animatediff.layout import ClipLayout, Group, LayoutOf
from animatediff.step_reuse import whole_steps
from animatediff.unet.places import inner_blocks

DEVICE_BYTES, HOST_BYTES = 1 << 30, 8 << 30
NOTHING = ClipLayout((), ())
Row = tuple[int, int]  # role, frame


class Kept:
    """A feature map for each role and frame: the first on the device, more in the host's memory,
    the rest not at all."""

    def __init__(self, device_bytes: int = DEVICE_BYTES, host_bytes: int = HOST_BYTES):
        self.device_bytes, self.host_bytes = device_bytes, host_bytes
        self.rows: dict[Row, Tensor] = {}

    def put(self, rows: Sequence[Row], features: Tensor) -> None:
        for row, feature in zip(rows, features):
            place = self.rows[row].device if row in self.rows else self._place(feature)
            if place is not None:
                self.rows[row] = feature.to(place, copy=True)

    def get(self, rows: Sequence[Row], device: torch.device) -> Tensor:
        return torch.stack([self.rows[row].to(device) for row in rows])

    def has(self, rows: Sequence[Row]) -> bool:
        return all(row in self.rows for row in rows)

    def _place(self, feature: Tensor) -> torch.device | None:
        with_it = (len(self.rows) + 1) * feature.numel() * feature.element_size()
        if with_it <= self.device_bytes:
            return feature.device
        return torch.device("cpu") if with_it <= self.device_bytes + self.host_bytes else None


class Reuse:
    """Decides, for each call of the UNet in a run of samplers, what of it is computed.

    A host creates one for a pass, enters `installed` after the motion module's scope, and gives that scope its layout
    through `layout_of`, as sites behind blocks that rest have nothing to do. Each window's answer it gets by `answers`.
    """

    def __init__(self, speed: str):
        self.speed = speed
        self.whole = self.calls = 0  # windows that were asked for, and how many of them ran the whole UNet
        self.kept, self.differences = Kept(), {}
        self.rows: list[Row] = []  # of the call of the UNet that is under way
        self.reusing = self.resting = False
        self.step, self.noise = -1, float("inf")

    @property
    def note(self) -> str:
        """What was done, in words."""
        return f"speed {self.speed}: the UNet ran as a whole for {self.whole} of {self.calls} windows"

    def is_whole(self, step: int, steps: int) -> bool:
        return step in whole_steps(self.speed, steps)

    def layout_of(self, layout_of: LayoutOf) -> LayoutOf:
        """The host's, but nothing while inner blocks rest."""
        return lambda rows: NOTHING if self.resting else layout_of(rows)

    def answers(self, frames: Group, roles: int, step: int, steps: int, t: Tensor,
                call: Callable[[Sequence[int]], Tensor]) -> Tensor:
        """[role f c h w]: the UNet's answers for these frames in each role, of which 0 is a prompt and the last may be
        the negative one.

        call(roles): asks the UNet for some roles -> the same; it says `shows` before each call of the UNet. t: its
        timestep; where noise has risen, another run begins, and nothing of the one before counts.
        """
        if self.speed == "exact":
            return call(range(roles))
        whole, noise = self.is_whole(step, steps), float(t.max())
        if noise > self.noise or (whole and step != self.step):
            self.kept.rows.clear()
            self.differences.clear()
        self.step, self.noise = step, noise
        self.reusing = not whole and self.kept.has([(role, frame) for role in range(roles) for frame in frames])
        reused = self.reusing
        alone = reused and roles > 1
        try:
            out = call(range(1) if alone else range(roles))
        finally:
            self.rows, self.reusing, self.resting = [], False, False
        self.calls, self.whole = self.calls + 1, self.whole + (not reused)
        if alone:
            return torch.cat([out, out + torch.stack([self.differences[frame] for frame in frames], 1)])
        if roles > 1:
            self.differences.update(zip(frames, (out[1:] - out[:1]).unbind(1)))
        return out

    def shows(self, frames: Group, roles: Sequence[int]) -> None:
        """The rows of the call of the UNet that comes next: [(role frame)]."""
        self.rows = [(role, frame) for role in roles for frame in frames]

    @contextmanager
    def installed(self, unet: nn.Module) -> Iterator[None]:
        """The UNet's inner blocks rest when they are told to, for the length of the block."""
        blocks = [] if self.speed == "exact" else inner_blocks(unet)
        with ExitStack() as stack:
            for block in blocks[-1:]:
                stack.callback(block.register_forward_hook(self._border).remove)
            for block in blocks:
                stack.enter_context(attribute(block, "forward", self._resting(block.forward)))
            stack.callback(self.differences.clear)
            stack.callback(self.kept.rows.clear)
            yield

    def _resting(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """A block's `forward` that gives zeros of its output's shape instead: for hosts and extensions that look at
        what lies between blocks, or add to it. No zero comes past the border."""
        form: tuple = ()

        def forward(x: Tensor, *args: Any, **kwargs: Any) -> Any:
            nonlocal form
            if self.reusing:
                self.resting = True
                packed, shape, dtype = form
                zeros = x.new_zeros((x.shape[0], *shape), dtype=dtype)
                return (zeros,) if packed else zeros
            out = plain(x, *args, **kwargs)
            packed = isinstance(out, tuple)
            made = out[0] if packed else out
            form = packed, made.shape[1:], made.dtype
            return out

        return forward

    def _border(self, block: nn.Module, args: Any, out: Any) -> Any:
        """Forward hook of the last inner block, behind its motion: keeps what comes out, or puts it there."""
        x = out[0] if isinstance(out, tuple) else out
        if not self.reusing:
            if self.rows:
                self.kept.put(self.rows, x)
            return None
        self.resting = False
        x = self.kept.get(self.rows, x.device)
        return (x, *out[1:]) if isinstance(out, tuple) else x
