"""The motion module: temporal transformers, with the original AnimateDiff names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from animatediff.errors import ModelError
from animatediff.motion.in_windows import InWindows
from animatediff.motion.layers import GROUPS
from animatediff.motion.scale import Scale
from animatediff.motion.transformer import TemporalTransformer

if TYPE_CHECKING:
    from animatediff.few_steps import Distilled
    from animatediff.layout import Group
    from animatediff.motion.families import Family


class Site(nn.Module):
    """One entry of `motion_modules`. It exists because the original naming has this level."""

    def __init__(self, *args, **kwargs):
        super().__init__()
        self.temporal_transformer = TemporalTransformer(*args, **kwargs)

    def forward(self, x: Tensor, frames: int, scale: Scale = 1.0, effect: Scale = 1.0,
                in_windows: InWindows | None = None) -> Tensor:
        return self.temporal_transformer(x, frames, scale, effect, in_windows)


class Level(nn.Module):
    """The sites of one block of the UNet, in order."""

    def __init__(self, sites: list[Site]):
        super().__init__()
        self.motion_modules = nn.ModuleList(sites)


class MotionModule(nn.Module):
    """All temporal transformers of one motion module; `state_dict()` has exactly the original AnimateDiff keys.

    widths: channels per level of the UNet, outermost first.
    max_frames: longest context window, in frames.
    name: name of the module in messages.
    """

    window: Group = ()  # frame numbers that an injected site processes, set while it runs
    distilled: Distilled | None = None  # few-step distillation, if any

    def __init__(self, family: Family, widths: tuple[int, ...], *, max_frames: int, heads: int = 8, name: str = ""):
        super().__init__()
        self.family, self.widths, self.max_frames, self.heads = family, tuple(widths), max_frames, heads
        self.name = name or family.name
        for width in widths:
            if width % heads or width % GROUPS:
                raise ModelError(
                    f"a width of {width} channels is not a multiple of {GROUPS} (norm groups) and {heads} (heads)",
                    where=self.name,
                )

        def level(width: int, sites: int) -> Level:
            common = dict(stored=family.stores_pe, over_frames=family.module_norm_over_frames)
            return Level([Site(width, heads, max_frames, **common) for _ in range(sites)])

        self.down_blocks = nn.ModuleList([level(width, 2) for width in widths])
        self.up_blocks = nn.ModuleList([level(width, 3) for width in reversed(widths)])
        if family.has_mid:
            self.mid_block = level(widths[-1], 1)

    def sites(self) -> Mapping[str, Site]:
        """Return the sites by name, such as `down_blocks.0.motion_modules.1`."""
        return {name: site for name, site in self.named_modules() if isinstance(site, Site)}

    def release(self) -> None:
        """Free the data that sites keep between calls; the next call computes it again."""
        for site in self.sites().values():
            site.temporal_transformer.release()

    def check_frames(self, frames: int) -> None:
        """Raise ModelError if a window of `frames` frames is longer than the positional encoding."""
        if frames > self.max_frames:
            raise ModelError(
                f"a window of {frames} frames is longer than the {self.max_frames} that {self.name} has positions for",
                remedy=f"Set the context length to {self.max_frames} or less.",
            )
