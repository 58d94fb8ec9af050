"""A clip with operations still to do. Nothing runs until its frames are read; then everything runs in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .clip import Clip, ClipError, ClipInfo, Frames, TensorClip
from .motion import estimate as motion
from .motion.flow import FlowMethod, FlowModel, flow_model, optional_opencv
from .path.trajectory import Correction
from .pipeline import ahead
from .upscaling.finish import Finish, with_grain
from .upscaling.precision import Precision
from .upscaling.reuse import Reuse, Tally
from .upscaling.stage import Alpha, ImageModel, Target, upscale
from .upscaling.temporal import STRENGTH, temporal
from .upscaling.tiles import Tiling
from .warping.move import Border, framed, warp
from .warping.ways import ways

MASK_SIDE = 480  # longer side at which `invented_ever` looks: twice as fine takes four times as long


@dataclass(frozen=True, eq=False)
class Enlarge:
    """Frames through a network: the settings of `upscale.upscale`, by the same names."""

    model: ImageModel
    target: Target = field(default_factory=Target)
    tiling: Tiling = field(default_factory=Tiling)
    precision: Precision = Precision.AUTO
    device: torch.device | str | None = None
    reuse: Reuse = field(default_factory=Reuse)
    finish: Finish = field(default_factory=Finish)
    alpha: Alpha = Alpha.RESIZE
    compile_network: bool = False
    tally: Tally | None = None

    def info(self, before: ClipInfo) -> ClipInfo:
        """What becomes of a clip."""
        return before.resized(*self.target.of(before.width, before.height, int(self.model.scale)))

    def run(self, frames: Iterator[Frames], before: ClipInfo, first: int = 0) -> Iterator[Frames]:
        """The frames of a clip, from that number on -> the frames of `info(before)`."""
        return upscale(
            frames,
            self.model,
            target=self.target,
            tiling=self.tiling,
            precision=self.precision,
            device=self.device,
            reuse=self.reuse,
            finish=self.finish,
            alpha=self.alpha,
            compile_network=self.compile_network,
            tally=self.tally,
            first=first,
        )


@dataclass(frozen=True, eq=False)
class Calm:
    """Frames without flicker, see `temporal.temporal`, and then with grain, which must not be taken for flicker.

    flow: None takes DIS, which also sees slow moves of smooth surfaces, or what there is without OpenCV.
    """

    strength: float = STRENGTH
    grain: float = 0.0
    flow: FlowModel | None = None

    def info(self, before: ClipInfo) -> ClipInfo:
        """What becomes of a clip: the same."""
        return before

    def run(self, frames: Iterator[Frames], before: ClipInfo, first: int = 0) -> Iterator[Frames]:
        """The frames of a clip, from that number on -> as many of the same size."""
        flow = self.flow or flow_model(FlowMethod.DIS if optional_opencv() else FlowMethod.FARNEBACK)
        done = first
        for calm in temporal(frames, flow, self.strength):
            yield with_grain(calm, self.grain, done) if self.grain else calm
            done += len(calm)


@dataclass(frozen=True, eq=False)
class Steady:
    """Frames moved by a correction: the settings of `warp.warp`, by the same names.

    correction: measured at any size of the clip; it is scaled to the frames that come. pad: pixels of those frames.
    """

    correction: Correction
    border: Border = Border.CROP
    pad: int = 0
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if self.pad and Border(self.border) in (Border.CROP, Border.CROP_ADAPTIVE):
            raise ClipError("a padded frame cannot be cropped: choose another border, or a pad of 0")

    def info(self, before: ClipInfo) -> ClipInfo:
        """What becomes of a clip. Raises ClipError where the correction is for frames of another shape."""
        self.correction.resized(before.width, before.height)
        return before.resized(before.width + 2 * self.pad, before.height + 2 * self.pad)

    def run(self, frames: Iterator[Frames], before: ClipInfo, first: int = 0) -> Iterator[Frames]:
        """The frames of a clip -> the frames of `info(before)`. The correction's first is that of the first frame."""
        fix = self.correction.resized(before.width, before.height)
        for warped in warp(frames, fix, self.border, pad=self.pad, device=self.device):
            yield warped.frames


Operation = Enlarge | Calm | Steady


@dataclass(frozen=True, eq=False)
class Recipe:
    """A `Clip`: the frames of `source` after `operations`, in their order. Made by `Recipe(source)` and `then`.

    Reading it reads the source once, whatever the number of operations, and holds no more than they do.
    """

    source: Clip
    operations: tuple[Operation, ...] = ()

    def then(self, operation: Operation) -> Recipe:
        """The recipe with one more operation.

        What is enlarged after a warp is enlarged before it where that is the same picture: the frames are then
        resampled once, at their final size, and the network sees frames that nobody has interpolated. Flicker, too, is
        taken out before the warp.
        Raises ClipError for a correction of frames of another shape.
        """
        last = self.operations[-1] if self.operations else None
        if isinstance(operation, Enlarge) and isinstance(last, Steady):
            before = replace(self, operations=self.operations[:-1])
            swapped = _swapped(before.info, last, operation)
            if swapped is not None:
                enlarge, steady = swapped
                return before.then(enlarge).then(steady)
        if isinstance(operation, Calm) and isinstance(last, Steady):
            return replace(self, operations=self.operations[:-1]).then(operation).then(last)
        operation.info(self.info)
        return replace(self, operations=(*self.operations, operation))

    def steps(self) -> Iterator[tuple[Operation, ClipInfo]]:
        """Each operation, and what the clip is when it comes to it."""
        info = self.source.info
        for operation in self.operations:
            yield operation, info
            info = operation.info(info)

    @property
    def info(self) -> ClipInfo:
        """What the result is. Nothing is run for it."""
        info = self.source.info
        for operation, before in self.steps():
            info = operation.info(before)
        return info

    def frames(self, batch: int = 1) -> Iterator[Frames]:
        """Run everything: yield all frames in order, at most `batch` at a time. Starts anew at each call."""
        frames = self.source.frames(batch)
        if not isinstance(self.source, TensorClip):
            frames = ahead(frames, name="decode")
        for operation, before in self.steps():
            frames = operation.run(frames, before)
        return frames

    def greys(self, side: int) -> Iterator[Tensor]:
        """What motion is measured on, as `Clip.greys` says, but before any enlarging, so that no network runs.

        The frames are those of the source, warped as the result is, and at most `side` pixels on the longer side. They
        show the same motion as the result: `estimate_motion` states it in the pixels of `info` whatever their size.
        """
        small = self.without_enlarging()
        return motion.greys(_FramesOnly(small) if small.operations else self.source, side)

    def without_enlarging(self) -> Recipe:
        """What runs for `greys`: the same picture, smaller. A size of another shape is another one, so that is kept."""
        small = Recipe(self.source)
        for operation, before in self.steps():
            if isinstance(operation, Calm):
                continue
            if isinstance(operation, Enlarge) and _same_shape(before, operation.info(before)):
                continue
            if isinstance(operation, Steady):
                operation = replace(operation, pad=round(operation.pad * small.info.width / before.width))
            small = replace(small, operations=(*small.operations, operation))
        return small


class _FramesOnly:
    """A recipe without its `greys`: the general way, by way of its frames, is meant."""

    def __init__(self, clip: Clip) -> None:
        self.info, self.frames = clip.info, clip.frames


def _swapped(info: ClipInfo, steady: Steady, enlarge: Enlarge) -> tuple[Enlarge, Steady] | None:
    """What does the same to a clip in the other order, or None: enlarged by a factor that whole pixels of pad survive.

    All borders allow it, for the correction scales with the frames.
    """
    padded = steady.info(info)
    wanted = enlarge.info(padded)
    pad = steady.pad * wanted.width / padded.width
    if abs(pad - round(pad)) > 1e-9 or not _same_shape(padded, wanted):
        return None
    inner = info.resized(wanted.width - 2 * round(pad), wanted.height - 2 * round(pad))
    if min(inner.width, inner.height) < 1 or not _same_shape(info, inner):
        return None
    if enlarge.info(info) != inner:
        enlarge = replace(enlarge, target=Target(size=(inner.width, inner.height)))
    return enlarge, replace(steady, pad=round(pad))


def _same_shape(one: ClipInfo, other: ClipInfo) -> bool:
    """Whether one is the other at another size, but for a pixel's rounding: the rule of `Correction.resized`."""
    return abs(other.width * one.height - other.height * one.width) <= other.width + other.height


def invented_ever(steady: Steady, info: ClipInfo) -> Tensor:
    """Where at least one frame of the warped clip shows what its source frame does not: (1, H, W), 0 or 1.

    info: of the clip that is warped. Nothing is decoded. Looked at in a reduced size and rounded up, so that the area
    is too large by a few pixels rather than too small. Raises ClipError where the border's zoom cannot be found.
    """
    size = steady.info(info)
    small = info.within(MASK_SIDE)
    pad = round(steady.pad * small.width / info.width)
    fix = framed(steady.correction.resized(small.width, small.height), Border(steady.border))
    buffers = torch.empty(3, small.height + 2 * pad, small.width + 2 * pad)
    ever = torch.zeros(buffers.shape[1:])
    for way in ways(fix, pad):
        torch.maximum(ever, way.invented(*way.places(buffers)), out=ever)
    wider = F.max_pool2d(ever[None], 3, stride=1, padding=1)
    return F.interpolate(wider[None], (size.height, size.width), mode="nearest")[0]
