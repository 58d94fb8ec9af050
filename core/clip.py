"""Frames, the properties of a clip, the `Clip` protocol and a clip in memory.

`Frames` are consecutive frames of one clip: a float32 tensor (B, C, H, W), RGB or RGBA (C = 3 or 4, alpha not
premultiplied), values in [0, 1], on the CPU unless a docstring states otherwise.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Frames: TypeAlias = "Tensor"


class ClipError(Exception):
    """A clip cannot be read, written or processed.

    The message states the clip, the number and what to do.
    """


def all_finite(values: Tensor) -> bool:
    """Return whether no value is NaN or infinite.

    The sum is tested, which is not finite if one of its terms is not: this takes a tenth of the time of a test of each
    value, and no memory.
    """
    import torch

    return bool(torch.isfinite(values.sum(dtype=torch.float32))) or bool(torch.isfinite(values).all())


def first_non_finite(frames: Frames) -> int | None:
    """Index of the first frame that contains NaN or infinity; None if all are finite."""
    if all_finite(frames):
        return None
    return int((~frames.isfinite()).flatten(1).any(dim=1).nonzero()[0])


MAX_FPS = 1_000_000  # containers store rates as quotients of 32-bit numbers


def check_fps(fps: Fraction | float) -> None:
    """Raise ClipError unless a frame rate is above 0 and at most MAX_FPS."""
    if not 0 < fps <= MAX_FPS:  # also NaN
        raise ClipError(f"{float(fps):g} frames per second is no frame rate; give 25, 23.976 or 24000/1001")


def parse_fps(fps: Fraction | float | str) -> Fraction:
    """Convert a frame rate to a Fraction. Raises ClipError as `check_fps` does."""
    if isinstance(fps, str):
        try:
            # Exponents are left out: 1e999999999 would take hours to compute.
            fps = Fraction(fps) if len(fps) < 32 and "e" not in fps.lower() else 0
        except (ValueError, ZeroDivisionError):
            fps = 0
    check_fps(fps)
    return Fraction(fps)


@dataclass(frozen=True)
class ClipInfo:
    """Properties of a clip that are known before its pixels are read.

    width, height: displayed size in pixels, with the rotation applied. fps: frames per second, the average for a
    variable frame rate. length: number of frames that the container claims, or None; for progress bars, not for loops.
    """

    width: int
    height: int
    fps: Fraction
    length: int | None = None

    def __post_init__(self) -> None:
        check_fps(self.fps)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.width, self.height

    @property
    def frame_bytes(self) -> float:
        """Memory of one frame in bytes: RGB, float32."""
        return 12.0 * self.width * self.height

    def resized(self, width: int, height: int) -> ClipInfo:
        """The same clip at another size."""
        return replace(self, width=width, height=height)

    def fit_within(self, side: int) -> ClipInfo:
        """Reduce the size to at most `side` pixels on the longer side.

        Reduced sizes are even; a size that fits already is not changed.
        """
        factor = side / max(self.width, self.height)
        if factor >= 1:
            return self
        return self.resized(*(2 * max(1, round(size * factor / 2)) for size in (self.width, self.height)))

    def scaled(self, factor: float) -> ClipInfo:
        """The same clip with each side multiplied by `factor` and rounded to whole pixels."""
        return self.resized(round(self.width * factor), round(self.height * factor))

    @property
    def within(self) -> Callable[[int], ClipInfo]:
        """Deprecated alias of `fit_within`."""
        # core.runtime.deprecation is in a higher layer than this module.
        message = "ClipInfo.within is now ClipInfo.fit_within; the old name is removed in version 0.2"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return self.fit_within


def is_same_aspect(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return whether `other` can be `size` scaled by one factor.

    Both are (width, height). Sizes are rounded to whole pixels, so the sides of `other` may be off by one.
    """
    return abs(other[0] * size[1] - other[1] * size[0]) <= other[0] + other[1]


class Clip(Protocol):
    """Frames that can be read from the start any number of times.

    Optional methods: `luma_frames(side)` yields luma (1, 1, h, w) of the size `info.fit_within(side)`, on which motion
    is measured; a file decodes it faster than full-size color. `luma_range(side, first, stop, times)` yields a part of
    it, see motion/estimate.py. `frame_times(count)` returns the seconds at which the frames are presented
    (motion/frame_times.py). `second_pass(count)` returns the same clip, for reading `count` of its frames once more: a
    clip that reports progress needs it. Video files also have `native_frames()` and `stream_format`: frames in the
    decoder's pixel format, and that format. `bit_depth`, an attribute, is that of the stored frames; see
    `clip_bit_depth`.
    """

    @property
    def info(self) -> ClipInfo: ...

    def frames(self, batch: int = 1) -> Iterator[Frames]:
        """Yield all frames in order, at most `batch` at a time.

        Holds no more than one batch. Each call starts at frame 0.
        """
        ...


def clip_bit_depth(clip: Clip) -> int:
    """Return the bits per channel in which the clip's frames are stored; 8 if unknown."""
    return getattr(clip, "bit_depth", 8)


class TensorClip:
    """A clip in memory.

    Its frames are (N, C, H, W), as `Frames` defines them. Batches are views, not copies. bit_depth: bits per channel
    with which a file of them should be written.
    """

    def __init__(self, frames: Frames, fps: Fraction = Fraction(24), *, bit_depth: int = 8) -> None:
        if frames.ndim != 4 or frames.shape[1] not in (3, 4):
            raise ClipError(f"a clip needs frames of shape (N, 3 or 4, H, W), got {tuple(frames.shape)}")
        self._frames, self.bit_depth = frames, bit_depth
        n, _, height, width = frames.shape
        self.info = ClipInfo(width, height, fps, n)

    @property
    def channels(self) -> int:
        """3, or 4 with alpha."""
        return self._frames.shape[1]

    def frames(self, batch: int = 1) -> Iterator[Frames]:
        for start in range(0, len(self._frames), batch):
            yield self._frames[start : start + batch]
