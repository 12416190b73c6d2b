"""Motion modules in a UNet, by forward hooks that live as long as a `with` block.

Nothing of the host is edited: no module list, no class, no `forward`. A hook finds out how the batch is laid out
by asking the host, for every UNet call anew, since hosts run cond and uncond together or apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import Tensor, nn

from animatediff.errors import ModelError
from animatediff.layout import ClipLayout, Group, LayoutOf
from animatediff.motion.grouping import apply_by_clip
from animatediff.motion.network import MotionModule, Site
from animatediff.motion.places import Places, find_places

if TYPE_CHECKING:
    from animatediff.motion.load import Description
    from animatediff.motion.steering import SteerOf


class MotionHook:
    """Forward hook that sends a submodule's output through one site."""

    def __init__(self, module: MotionModule, site: Site, layout_of: LayoutOf, steer_of: SteerOf | None = None):
        self.module, self.site, self.layout_of, self.steer_of = module, site, layout_of, steer_of

    def __call__(self, host: nn.Module, args, output):
        x = output[0] if isinstance(output, tuple) else output
        layout: ClipLayout = self.layout_of(x.shape[0])
        for group in layout.groups:
            self.module.check_frames(len(group))
        x = apply_by_clip(x, layout, self._site)
        return (x, *output[1:]) if isinstance(output, tuple) else x

    def _site(self, x: Tensor, numbers: Group) -> Tensor:
        self.module.window = numbers
        try:
            if self.steer_of is None:
                return self.site(x, len(numbers))
            return self.site(x, len(numbers), *self.steer_of(numbers, *x.shape[2:]))
        finally:
            self.module.window = ()


class NormOverFrames:
    """Forward hook that gives a host's GroupNorm its statistics over the frames of each clip.

    It calls the norm's own `forward`, so that casts, offloading and patches of the host keep working; the
    price is that the host's result for single frames, which it replaces, was computed in vain.
    """

    def __init__(self, layout_of: LayoutOf):
        self.layout_of = layout_of

    def __call__(self, norm: nn.Module, args, output: Tensor) -> Tensor:
        def over_frames(x: Tensor, numbers: Group) -> Tensor:
            frames, (n, c, h, w) = len(numbers), x.shape
            clips = x.reshape(-1, frames, c, h, w).transpose(1, 2).reshape(-1, c, frames * h, w)
            return norm.forward(clips).view(-1, c, frames, h, w).transpose(1, 2).reshape(n, c, h, w)

        return apply_by_clip(args[0], self.layout_of(args[0].shape[0]), over_frames, rest=output)


@contextmanager
def injected(
    unet: nn.Module, module: MotionModule, layout_of: LayoutOf, steer_of: SteerOf | None = None
) -> Iterator[MotionModule]:
    """Run `unet` with `module` for the length of the block; afterwards the UNet is as it was, whatever happened.

    `unet` is a UNet in LDM layout (`input_blocks`, `middle_block`, `output_blocks`: A1111, Forge, ComfyUI) or
    diffusers' `UNet2DConditionModel`. `layout_of(rows)` is asked at every place of every UNet call and must
    answer cheaply; so must `steer_of`, if it is given, about scale and effect (see `steering`). The module has to be on
    the UNet's device; its dtype may differ. A UNet carries one motion module at a time: a second scope on it is
    refused, and leaves the first as it is.
    """
    places = find_places(unet)
    check_fit(places, module)
    everything = [*places.sites.values(), *places.resnet_norms, *places.out_norms]
    if any(isinstance(hook, (MotionHook, NormOverFrames)) for m in everything for hook in m._forward_hooks.values()):
        raise ModelError(
            "this UNet already carries a motion module", remedy="Leave the first scope before entering another."
        )
    sites, handles = module.sites(), []
    try:
        for name, host in places.sites.items():
            if name in sites:
                handles.append(host.register_forward_hook(MotionHook(module, sites[name], layout_of, steer_of)))
        norms = places.resnet_norms if module.family.resnet_norm_over_frames else []
        norms = norms + (places.out_norms if module.family.out_norm_over_frames else [])
        for norm in norms:
            handles.append(norm.register_forward_hook(NormOverFrames(layout_of)))
        yield module
    finally:
        for handle in handles:
            handle.remove()


def check_fit(places: Places, module: MotionModule | Description) -> None:
    """Refuse a module whose base or widths are not the UNet's. Of `places`, those two are looked at."""
    base = module.family.base
    if base != places.base:
        pick = f"Pick an {places.base} module or change" if places.base in ("SD1.5", "SDXL") else "Change"
        raise ModelError(
            f"{module.name} is an {base} motion module but the checkpoint is {places.base}",
            remedy=f"{pick} the checkpoint.",
        )
    if module.widths != places.widths:
        raise ModelError(
            f"{module.name} is made for {_joined(module.widths)} channels per level but the checkpoint has "
            f"{_joined(places.widths)}",
            remedy="Pick the motion module that was trained for this checkpoint.",
        )


def _joined(widths: tuple[int, ...]) -> str:
    return "/".join(map(str, widths))
