"""The temporal layers of a SparseCtrl model, which ControlNet asks an AnimateDiff extension for (arXiv:2311.16933).

ControlNet takes the modules out of `MotionWrapper.down_blocks` and puts them into its own network, which calls them
with nothing but rows. The rows are those of the UNet call that is under way.
"""
from __future__ import annotations

from enum import Enum
from typing import Any

import torch
from torch import nn

from animatediff.errors import ModelError
from animatediff.layout import ClipLayout


class MotionModuleType(Enum):
    """ControlNet asks for the one kind that it has a use for."""

    SparseCtrl = "SparseCtrl"


class SparseSite(nn.Module):
    """One temporal transformer: x [rows c h w] -> the same."""

    def __init__(self, width: int, frames: int):
        super().__init__()
        from animatediff.motion.transformer import TemporalTransformer

        self.temporal_transformer = TemporalTransformer(width, 8, frames, stored=True, over_frames=False)
        for block in self.temporal_transformer.transformer_blocks:  # SparseCtrl's have one attention
            block.attention_blocks, block.norms = block.attention_blocks[:1], block.norms[:1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        from animatediff.hosts.a1111 import scope
        from animatediff.motion.grouping import apply_by_clip
        from animatediff.motion.in_windows import InWindows

        run, transformer = scope.current, self.temporal_transformer
        layout, kept = run.layout if run is not None else ClipLayout((), ()), transformer._packed

        def of_clips(x: torch.Tensor, numbers: tuple[int, ...]) -> torch.Tensor:
            in_windows = layout.views and InWindows(layout.views, numbers, x)
            return transformer(x, len(numbers), in_windows=in_windows)

        # Single pictures: every row is a clip of its own.
        out = apply_by_clip(x, layout, of_clips) if layout.groups else transformer(x, 1)
        if run is None:
            transformer.release()
        elif transformer._packed is not kept:  # ControlNet keeps its models, but this goes with the pass
            run.whole_pass.callback(transformer.release)
        return out


class MotionWrapper(nn.Module):
    """`down_blocks[i].motion_modules[j]`, made of the shapes of what is loaded."""

    def __init__(self, name: str, hash: str, kind: Any):
        super().__init__()
        if getattr(kind, "name", "") != MotionModuleType.SparseCtrl.name:
            raise ModelError(f"{kind} is not a kind of temporal layers that can be had here")
        self.down_blocks = nn.ModuleList()

    def load_state_dict(self, state_dict: dict[str, torch.Tensor], strict: bool = True, assign: bool = False) -> Any:
        if not len(self.down_blocks):
            for level in range(1 + max(int(key.split(".")[1]) for key in state_dict)):
                sites = 1 + max(int(key.split(".")[3]) for key in state_dict if key.startswith(f"down_blocks.{level}."))
                prefix = f"down_blocks.{level}.motion_modules.0.temporal_transformer."
                width = state_dict[f"{prefix}norm.weight"].shape[0]
                frames = state_dict[f"{prefix}transformer_blocks.0.attention_blocks.0.pos_encoder.pe"].shape[1]
                block = nn.Module()
                block.motion_modules = nn.ModuleList(SparseSite(width, frames) for _ in range(sites))
                self.down_blocks.append(block)
        return super().load_state_dict(state_dict, strict, assign)
