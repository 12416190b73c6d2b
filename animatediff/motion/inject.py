"""Add a motion module to a UNet for the length of a `with` block, by forward hooks.

Nothing of the host is edited: no module list, no class, no `forward`. The hooks ask the host for the batch layout at
every UNet call, since hosts run cond and uncond together or separately.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from torch import Tensor, nn

from animatediff.errors import ModelError
from animatediff.layout import ClipLayout, Group, LayoutOf
from animatediff.motion.grouping import apply_by_clip
from animatediff.motion.in_windows import InWindows
from animatediff.motion.module import MotionModule, Site
from animatediff.unet.places import find_places

if TYPE_CHECKING:
    from animatediff.motion.load import Description
    from animatediff.motion.steering import SteerOf


class MotionHook:
    """Forward hook that passes a submodule's output through one site of the motion module."""

    def __init__(self, module: MotionModule, site: Site, layout_of: LayoutOf, steer_of: SteerOf | None = None):
        self.module, self.site, self.layout_of, self.steer_of = module, site, layout_of, steer_of

    def __call__(self, host: nn.Module, args, output):
        x = output[0] if isinstance(output, tuple) else output
        layout: ClipLayout = self.layout_of(x.shape[0])
        for window in layout.views.windows if layout.views else layout.groups:
            self.module.check_frames(len(window))

        def run(clips: Tensor, numbers: Group) -> Tensor:
            in_windows = layout.views and InWindows(layout.views, numbers, clips, self.module)
            steer = self.steer_of(numbers, *clips.shape[2:]) if self.steer_of else (1.0, 1.0)
            self.module.window = numbers
            try:
                return self.site(clips, len(numbers), *steer, in_windows)
            finally:
                self.module.window = ()

        x = apply_by_clip(x, layout, run)
        return (x, *output[1:]) if isinstance(output, tuple) else x


class NormOverFrames:
    """Forward hook that recomputes a host's GroupNorm with statistics over all frames of each clip.

    It calls the norm's own `forward`, so that casts, offloading and patches of the host keep working. The price: the
    host's result for single frames is computed first and then replaced.
    """

    def __init__(self, layout_of: LayoutOf):
        self.layout_of = layout_of

    def __call__(self, norm: nn.Module, args, output: Tensor) -> Tensor:
        layout = self.layout_of(args[0].shape[0])

        def over_frames(clips: Tensor) -> Tensor:
            frames, c, h, w = clips.shape[1:]
            normed = norm.forward(clips.transpose(1, 2).reshape(-1, c, frames * h, w))
            return normed.view(-1, c, frames, h, w).transpose(1, 2)

        def run(x: Tensor, numbers: Group) -> Tensor:
            clips = x.unflatten(0, (-1, len(numbers)))
            in_windows = layout.views and InWindows(layout.views, numbers, x)
            return (in_windows(over_frames, clips) if in_windows else over_frames(clips)).reshape(x.shape)

        return apply_by_clip(args[0], layout, run, rest=output)


@contextmanager
def injected(
    unet: nn.Module, module: MotionModule, layout_of: LayoutOf, steer_of: SteerOf | None = None
) -> Iterator[MotionModule]:
    """Context manager in which `unet` runs with `module`. On exit the UNet is as before, also after an error.

    unet: a UNet in LDM layout (`input_blocks`, `middle_block`, `output_blocks`: A1111, Forge, ComfyUI) or diffusers'
        `UNet2DConditionModel`.
    module: must be on the UNet's device; its dtype may differ.
    layout_of: returns the ClipLayout for a number of rows. It is called at every site in every UNet call, so it must be
        fast.
    steer_of: returns motion scale and effect (see `steering`). It is called as often.

    Raises ModelError if the module does not fit the UNet, or if the UNet already has a motion module; that one stays
    as it is.
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


class ImageModel(Protocol):
    """The base model and the channel widths of a UNet."""

    @property
    def base(self) -> str: ...  # for example "SD1.5"

    @property
    def widths(self) -> tuple[int, ...]: ...  # channels per level, outermost first


def check_fit(places: ImageModel, module: MotionModule | Description) -> None:
    """Raise ModelError if the module's base model or widths differ from the UNet's."""
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
