"""FILM's network for frame interpolation of large motion (Reda et al., arXiv:2202.04901), for its published weights.

Both frames are halved six times. One small network extracts the features of every size, so coarse and fine levels have
the same kind of features. From coarse to fine, the flow of each level refines that of the level above. Pictures and
features are then warped to the time of the new frame, and a decoder makes the frame of the five finest levels.

The tensors have the names of https://github.com/dajes/frame-interpolation-pytorch, whose files hold Google's weights.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from animatediff.media.interpolate.frames import WIDEST, Shapes, frame_of, loaded, tensor_of, warped
from animatediff.media.interpolate.plan import halvings

LEVELS = 7  # sizes of a frame, each half of the one before; the first is the frame's own
FUSED = 5  # finest levels, of which the new frame is made
OWN = 3  # finest levels with a flow network of their own; all others share one
DEPTH = 4  # sizes of features that the extractor makes of a picture
MULTIPLE = 2 ** (LEVELS - 1)  # of the frames' sides


@dataclass(frozen=True)
class Layout:
    """Numbers of channels. The defaults are those of the published weights."""

    width: int = 64  # of the extractor at a picture's own size; doubled at each further one
    flow: tuple[int, ...] = (32, 64, 128, 256)  # of the flow networks, from the finest level

    def features(self, level: int) -> int:
        """Return the number of features of a frame at a level."""
        return sum(self.width << i for i in range(min(level + 1, DEPTH)))

    def aligned(self, level: int) -> int:
        """Return the number of channels that the decoder takes: two pictures with their features, and two flows."""
        return 2 * (3 + self.features(level) + 2)


def layout_of(shapes: Shapes) -> Layout | None:
    """Return the layout that these tensors belong to, or None if one is missing or has another shape."""
    def width(name: str) -> int:
        return next(iter(shapes.get(f"{name}.0.0.weight", ())), 0)

    flows = (*(f"predict_flow._predictors.{OWN - 1 - level}._convs" for level in range(OWN)),
             "predict_flow._predictor._convs")
    layout = Layout(width("extract.extract_sublevels.convs.0"), tuple(map(width, flows)))
    if not all(0 < each <= WIDEST for each in (layout.width, *layout.flow)):
        return None
    with torch.device("meta"):
        wanted = FilmNet(layout).state_dict()
    return layout if all(tuple(shapes.get(key, ())) == tuple(tensor.shape) for key, tensor in wanted.items()) else None


def _conv(inside: int, outside: int, size: int, *, active: bool = True) -> nn.Sequential:
    """Return a convolution that keeps the size of its input. Its tensors are named `0.weight` and `0.bias`."""
    found = nn.Sequential()
    if size % 2 == 0:
        found.add_module("pad", nn.ZeroPad2d((0, size - 1, 0, size - 1)))
    found.add_module("0", nn.Conv2d(inside, outside, size, padding=size // 2 if size % 2 else 0))
    if active:
        found.add_module("active", nn.LeakyReLU(0.2, inplace=True))
    return found


class Extractor(nn.Module):
    """Extracts the features of a frame at all levels."""

    def __init__(self, layout: Layout):
        super().__init__()
        widths = [3, *(layout.width << i for i in range(DEPTH))]
        convs = [nn.Sequential(_conv(inside, outside, 3), _conv(outside, outside, 3))
                 for inside, outside in pairwise(widths)]
        self.extract_sublevels = nn.ModuleDict({"convs": nn.ModuleList(convs)})

    def forward(self, pictures: Sequence[Tensor]) -> list[Tensor]:
        """Return the features at each level. pictures: the frame at each level, the finest first.

        The features at a level are those that are extracted from its own picture, and from up to three finer ones.
        """
        found = [self._sizes(picture, min(DEPTH, len(pictures) - level)) for level, picture in enumerate(pictures)]
        return [found[0][0], *(torch.cat([found[level - i][i] for i in range(min(level + 1, DEPTH))], 1)
                               for level in range(1, len(pictures)))]

    def _sizes(self, x: Tensor, count: int) -> list[Tensor]:
        """Return a picture's features at its own size and at `count` − 1 halves of it."""
        found = []
        for convs in list(self.extract_sublevels["convs"].children())[:count]:
            x = convs(F.avg_pool2d(x, 2) if found else x)
            found.append(x)
        return found


class Estimator(nn.Module):
    """Estimates the flow between two frames from the features of both at one level."""

    def __init__(self, inside: int, width: int):
        super().__init__()
        self._convs = nn.Sequential(
            _conv(2 * inside, width, 3), _conv(width, width, 3), _conv(width, width, 3), _conv(width, width // 2, 1),
            _conv(width // 2, 2, 1, active=False))

    def forward(self, both: Tensor) -> Tensor:
        return self._convs(both)


class PyramidFlow(nn.Module):
    """Estimates the flow at all levels."""

    def __init__(self, layout: Layout):
        super().__init__()
        self._predictor = Estimator(layout.features(OWN), layout.flow[OWN])
        self._predictors = nn.ModuleList(
            Estimator(layout.features(level), layout.flow[level]) for level in reversed(range(OWN)))

    def forward(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> list[Tensor]:
        """Return where each pixel of a lies in b, relative to it, at each level: [b 2 h w], the finest first."""
        found = [self._predictor(torch.cat((a[-1], b[-1]), 1))]
        for level in reversed(range(len(a) - 1)):
            flow = F.interpolate(2 * found[0], size=a[level].shape[2:], mode="bilinear")
            estimate = self._predictors[OWN - 1 - level] if level < OWN else self._predictor
            found.insert(0, estimate(torch.cat((a[level], warped(b[level], flow)), 1)) + flow)
        return found


class Fusion(nn.Module):
    """Makes the new frame, from coarse to fine."""

    def __init__(self, layout: Layout):
        super().__init__()
        self.output_conv = nn.Conv2d(layout.width, 3, 1)
        self.convs = nn.ModuleList()
        inside = layout.aligned(FUSED - 1)
        for level in reversed(range(FUSED - 1)):
            outside = layout.width << min(level, OWN)
            self.convs.append(nn.Sequential(
                _conv(inside, outside, 2, active=False), _conv(layout.aligned(level) + outside, outside, 3),
                _conv(outside, outside, 3)))
            inside = outside

    def forward(self, aligned: Callable[[], list[Tensor]]) -> Tensor:
        """Return the frame. aligned: returns the decoder's input at each level, the coarsest first, in parts."""
        x = torch.cat(aligned(), 1)
        for convs in self.convs:
            enlarge, mix, refine = convs.children()
            here = aligned()
            here.append(enlarge(F.interpolate(x, size=here[0].shape[2:])))
            x = torch.cat(here, 1)
            here.clear()
            x = refine(mix(x))
        return self.output_conv(x)


class FilmNet(nn.Module):
    """The network. Takes frames a and b [b 3 h w] in 0…1, returns the frame at `time` between 0 (a) and 1 (b).

    It is trained for time 0.5. The sides of the frames are at least MULTIPLE.
    """

    def __init__(self, layout: Layout):
        super().__init__()
        self.extract = Extractor(layout)
        self.predict_flow = PyramidFlow(layout)
        self.fuse = Fusion(layout)

    def forward(self, a: Tensor, b: Tensor, time: float) -> Tensor:
        pictures = [_halved(x) for x in (a, b)]
        features = [self.extract(each) for each in pictures]
        # The flow from b to a tells where to sample a, and the other way round.
        flows = [self.predict_flow(*features[::-1]), self.predict_flow(*features)]
        for pyramid in (*pictures, *features, *flows):
            del pyramid[FUSED:]

        def aligned() -> list[Tensor]:  # takes the levels away, since they are large
            moved = [share * flow.pop() for flow, share in zip(flows, (time, 1 - time))]
            seen = [warped(torch.cat((picture.pop(), known.pop()), 1), flow)
                    for picture, known, flow in zip(pictures, features, moved)]
            return [*seen, *moved]

        return self.fuse(aligned)


def _halved(x: Tensor) -> list[Tensor]:
    """Return the picture at all levels, the finest first."""
    found = [x]
    while len(found) < LEVELS:
        found.append(F.avg_pool2d(found[-1], 2))
    return found


class Film:
    """Interpolates with FILM. tensors: weights by the published names.

    New frames are made in the middle of two known ones as far as possible, see `plan.halvings`.
    """

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        layout = layout_of({key: tensor.shape for key, tensor in tensors.items()})
        assert layout is not None, "shapes are checked before a file is loaded"
        self.network = loaded(lambda: FilmNet(layout), tensors, self.device)

    @torch.inference_mode()
    def between(self, a: np.ndarray, b: np.ndarray, times: Sequence[float]) -> list[np.ndarray]:
        known = {time: tensor_of(frame, MULTIPLE, self.device) for time, frame in ((0.0, a), (1.0, b))}
        for step in halvings(times):
            known[step.at] = self.network(known[step.left], known[step.right], step.share).clamp(0, 1)
        return [frame_of(known[time], *a.shape[:2]) for time in times]
