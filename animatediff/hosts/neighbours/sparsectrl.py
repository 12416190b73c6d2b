"""The temporal layers of a SparseCtrl model (arXiv:2311.16933), which ControlNet imports from this extension.

ControlNet moves the modules of `MotionWrapper.down_blocks` into its own network, which calls them with rows only.
`in_pass` gives the layers access to the current pass, whose UNet call has the same rows.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from enum import Enum
from typing import Any

import torch
from torch import nn

from animatediff.attribute import attribute
from animatediff.errors import ModelError
from animatediff.hosts.a1111.neighbour import Sampled
from animatediff.layout import ClipLayout


class MotionModuleType(Enum):
    """The kinds of motion modules; ControlNet uses only this one."""

    SparseCtrl = "SparseCtrl"


class SparseSite(nn.Module):
    """One temporal transformer: x [rows c h w] -> the same."""

    def __init__(self, width: int, frames: int):
        super().__init__()
        self.run: Sampled | None = None  # the current pass
        from animatediff.motion.transformer import TemporalTransformer

        self.temporal_transformer = TemporalTransformer(width, 8, frames, stored=True, over_frames=False)
        for block in self.temporal_transformer.transformer_blocks:  # SparseCtrl's blocks have one attention
            block.attention_blocks, block.norms = block.attention_blocks[:1], block.norms[:1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        from animatediff.motion.grouping import apply_by_clip
        from animatediff.motion.in_windows import InWindows

        run, transformer = self.run, self.temporal_transformer
        layout = run.layout if run is not None else ClipLayout((), ())

        def of_clips(x: torch.Tensor, numbers: tuple[int, ...]) -> torch.Tensor:
            in_windows = layout.views and InWindows(layout.views, numbers, x)
            return transformer(x, len(numbers), in_windows=in_windows)

        # Without a clip, every row is a single picture.
        out = apply_by_clip(x, layout, of_clips) if layout.groups else transformer(x, 1)
        if run is None:
            transformer.release()
        return out


@contextmanager
def in_pass(networks: Iterable[Any], run: Sampled) -> Iterator[None]:
    """Connect these networks' layers to `run` inside the block. At the end their packed tensors are released."""
    sites = [site for network in networks if isinstance(network, nn.Module)
             for site in network.modules() if isinstance(site, SparseSite)]
    with ExitStack() as stack:
        for site in sites:
            stack.callback(site.temporal_transformer.release)
            stack.enter_context(attribute(site, "run", run))
        yield


class MotionWrapper(nn.Module):
    """`down_blocks[i].motion_modules[j]`, built from the shapes in the loaded state dict."""

    def __init__(self, name: str, hash: str, kind: Any):
        super().__init__()
        if getattr(kind, "name", "") != MotionModuleType.SparseCtrl.name:
            raise ModelError(f"{kind} is not a kind of temporal layers that is available here")
        self.down_blocks = nn.ModuleList()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
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
