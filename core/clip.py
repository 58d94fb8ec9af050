"""Frames, what is known about a clip, and the smallest thing that is one.

`Frames` are consecutive frames of one clip: a float32 tensor (B, C, H, W), RGB or RGBA (C = 3 or 4, alpha not
premultiplied), values in [0, 1], on the CPU unless a docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Frames: TypeAlias = "Tensor"


class ClipError(Exception):
    """A clip cannot be read, written or processed. The message names the clip, the number and the way out."""


def all_finite(values: Tensor) -> bool:
    """Whether none is NaN or infinite. A sum is not finite if any of its terms is not; it takes a tenth of the time of
    asking each of them, and no memory.
    """
    import torch

    return bool(torch.isfinite(values.sum(dtype=torch.float32))) or bool(torch.isfinite(values).all())


def first_non_finite(frames: Frames) -> int | None:
    """The index of the first of these frames that holds NaN or infinity; None if none does."""
    if all_finite(frames):
        return None
    return int((~frames.isfinite()).flatten(1).any(dim=1).nonzero()[0])


@dataclass(frozen=True)
class ClipInfo:
    """What is known about a clip before its pixels are read.

    width, height: pixels, as shown (rotation applied). fps: frames per second, the average where it varies.
    length: number of frames that the container claims, or None; good for progress bars, not for loops.
    """

    width: int
    height: int
    fps: Fraction
    length: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.width, self.height

    @property
    def frame_bytes(self) -> float:
        """What one frame takes in memory: RGB, float32."""
        return 12.0 * self.width * self.height

    def resized(self, width: int, height: int) -> ClipInfo:
        """The same clip at another size."""
        return replace(self, width=width, height=height)

    def fit_within(self, side: int) -> ClipInfo:
        """The same clip reduced to at most `side` pixels on the longer side, to even sizes; as it is if no larger."""
        factor = side / max(self.width, self.height)
        if factor >= 1:
            return self
        return self.resized(*(2 * max(1, round(size * factor / 2)) for size in (self.width, self.height)))

    def scaled(self, factor: float) -> ClipInfo:
        """The same clip enlarged: each side times `factor`, rounded to whole pixels."""
        return self.resized(round(self.width * factor), round(self.height * factor))


def is_same_aspect(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether frames of the size `other` can be those of `size` enlarged or reduced; both are (width, height).

    Whole pixels are rounded to, so the sides of `other` may be off by one.
    """
    return abs(other[0] * size[1] - other[1] * size[0]) <= other[0] + other[1]


class Clip(Protocol):
    """Frames that can be read from the start any number of times.

    A clip may also have `greys(side)`, which yields grey frames (1, 1, h, w) of the size `info.within(side)`: what
    motion is measured on, and what a file gives faster than in full size and colour. A video file's has `pictures()`
    and `stored` too: its frames as the decoder gives them, and what they are.
    """

    @property
    def info(self) -> ClipInfo: ...

    def frames(self, batch: int = 1) -> Iterator[Frames]:
        """Yield all frames in order, at most `batch` at a time, holding no more than that. Starts anew at each call."""
        ...


class TensorClip:
    """A clip that is already in memory: `frames` is (N, C, H, W) as `Frames` says. Batches are views, not copies."""

    def __init__(self, frames: Frames, fps: Fraction = Fraction(24)) -> None:
        if frames.ndim != 4 or frames.shape[1] not in (3, 4):
            raise ClipError(f"a clip needs frames of shape (N, 3 or 4, H, W), got {tuple(frames.shape)}")
        self._frames = frames
        n, _, height, width = frames.shape
        self.info = ClipInfo(width, height, fps, n)

    @property
    def channels(self) -> int:
        """3, or 4 with alpha."""
        return self._frames.shape[1]

    def frames(self, batch: int = 1) -> Iterator[Frames]:
        for start in range(0, len(self._frames), batch):
            yield self._frames[start : start + batch]
