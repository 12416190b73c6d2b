"""Sampler steps that skip parts of the UNet, for the presets of `animatediff.step_reuse`.

* Deep features are reused in neighbouring steps (DeepCache, arXiv:2312.00858). The output of the inner blocks, motion
  included, changes little from step to step. So only the outermost block on each side runs, on their last output.
* The difference between cond and uncond is reused (CFG-Cache of FasterCache, arXiv:2410.19355; Adaptive Guidance,
  arXiv:2312.12487). So the UNet runs for the prompt alone.

Both are stored by frame number, since context windows move from step to step. Everything is freed when the scope ends.
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
    """Stores a feature map per role and frame.

    device_bytes: limit on the device. Further maps go to the host's memory, up to host_bytes; the rest is not stored.
    """

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
    """Decides for each UNet call of a pass which parts are computed and which are reused.

    A host creates one for each pass and enters `installed` after the motion module's scope. It passes its layout to
    that scope through `layout_of`, so that sites after skipped blocks do nothing. It gets the output of each window by
    `answers`.
    """

    def __init__(self, speed: str):
        self.speed, self.stopped = speed, ""  # why all further windows run the whole UNet
        self.whole = self.calls = 0  # windows that ran the whole UNet, and all windows
        self.kept, self.differences = Kept(), {}
        self.rows: list[Row] = []  # of the current UNet call
        self.reusing = self.resting = False
        self.step, self.noise = -1, float("inf")

    @property
    def note(self) -> str:
        """A sentence for the user: how many windows ran the whole UNet."""
        count = f"speed {self.speed}: the UNet ran as a whole for {self.whole} of {self.calls} windows"
        return count + (self.stopped and f", because {self.stopped}")

    def stop(self, why: str) -> None:
        """Reuse nothing from now on."""
        self.stopped = self.stopped or why
        self.kept.rows.clear()
        self.differences.clear()

    def is_whole(self, step: int, steps: int) -> bool:
        return step in whole_steps(self.speed, steps)

    def layout_of(self, layout_of: LayoutOf) -> LayoutOf:
        """Return the host's function, except that its layout is empty while inner blocks are skipped."""
        return lambda rows: NOTHING if self.resting else layout_of(rows)

    def answers(self, frames: Group, roles: int, step: int, steps: int, t: Tensor,
                call: Callable[[Sequence[int]], Tensor]) -> Tensor:
        """Return the UNet's outputs for these frames in each role, [role f c h w].

        Role 0 is a prompt; the last role may be the negative prompt.
        call: runs the UNet for some roles and returns the same shape; it must call `shows` before each UNet call.
        t: timestep. If it rises, a new sampler run begins and everything stored is dropped.
        """
        if self.speed == "exact":
            return call(range(roles))
        if self.stopped:
            self.calls, self.whole = self.calls + 1, self.whole + 1
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
        """Set the rows of the next UNet call: (role frame)."""
        self.rows = [] if self.stopped else [(role, frame) for role in roles for frame in frames]

    @contextmanager
    def installed(self, unet: nn.Module) -> Iterator[None]:
        """Context manager in which the UNet's inner blocks can be skipped."""
        blocks = [] if self.speed == "exact" else inner_blocks(unet)
        with ExitStack() as stack:
            for block in blocks[-1:]:
                stack.callback(block.register_forward_hook(self._boundary).remove)
            for block in blocks:
                stack.enter_context(attribute(block, "forward", self._resting(block.forward)))
            stack.callback(self.differences.clear)
            stack.callback(self.kept.rows.clear)
            yield

    def _resting(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """Return a `forward` that returns zeros in the shape of the block's output while blocks are skipped.

        Hosts and extensions may read or add to tensors between blocks, so these must exist. `_boundary` replaces them.
        """
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

    def _boundary(self, block: nn.Module, args: Any, out: Any) -> Any:
        """Forward hook of the last inner block, after its motion: store its output, or replace it by the stored one."""
        x = out[0] if isinstance(out, tuple) else out
        if not self.reusing:
            if self.rows:
                self.kept.put(self.rows, x)
            return None
        self.resting = False
        x = self.kept.get(self.rows, x.device)
        return (x, *out[1:]) if isinstance(out, tuple) else x
