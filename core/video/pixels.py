"""From decoded frames to numbers and back: (C, H, W) in [0, 1] here, what decoders give and encoders take there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from ..clip import ClipError, Frames, not_finite
from .stored import FULL, depth, matrix

if TYPE_CHECKING:
    from torch import Tensor

# Without these, a saturated patch comes back 3/255 wrong and chroma is repeated instead of interpolated.
ACCURATE = 0x4 | 0x40000 | 0x2000  # SWS_BICUBIC, ACCURATE_RND, FULL_CHR_H_INT; PyAV 17 has no names for the latter two
# Threads of a conversion. It takes milliseconds, and stages run side by side: more would cost time and memory in all.
ONE = 1
STRIP = 1 << 17  # pixels of a frame that are rounded at once


def to_rgb(frame: VideoFrame, reformatter: VideoReformatter, *, alpha: bool) -> NDArray[np.generic]:
    """A decoded frame -> (H, W, 3 or 4), uint8 or, for more than 8 bits, uint16; the stored orientation."""
    deep = depth(frame.format.name) > 8
    wanted = ("rgba64le" if alpha else "rgb48le") if deep else ("rgba" if alpha else "rgb24")
    return _full_range(frame, reformatter, wanted).to_ndarray()


def to_planes(frame: VideoFrame, reformatter: VideoReformatter, *, alpha: bool) -> list[NDArray[np.generic]]:
    """The same as one (H, W) for each channel, which takes half the time."""
    rgb = _full_range(frame, reformatter, _planar(depth(frame.format.name) > 8, alpha))
    return [_plane(rgb, channel) for channel in range(4 if alpha else 3)]


def to_grey(frame: VideoFrame, reformatter: VideoReformatter, width: int, height: int) -> NDArray[np.uint8]:
    """A decoded frame -> (height, width, 1) uint8 brightness, each pixel the mean of what it covers; as stored."""
    grey = reformatter.reformat(frame, width, height, format="gray", interpolation="AREA", threads=ONE)
    return grey.to_ndarray().astype(np.uint8, copy=False)[..., None]


def to_frame(frame: Tensor, *, deep: bool, width: int, height: int) -> VideoFrame:
    """(3 or 4, H, W) in [0, 1] -> full-range RGB(A) of 8 or, if `deep`, 16 bits.

    Where width x height is larger, the last column and row are repeated.
    """
    levels = (frame.detach().clamp(0, 1) * (65535 if deep else 255)).round_().permute(1, 2, 0)
    # By way of int32: torch has 16-bit unsigned numbers only in newer versions than we ask for.
    whole = (levels.int() if deep else levels.byte()).cpu().numpy()
    right, below = width - whole.shape[1], height - whole.shape[0]
    if right or below:
        whole = np.pad(whole, ((0, below), (0, right), (0, 0)), mode="edge")
    alpha = whole.shape[2] == 4
    if deep:
        return VideoFrame.from_ndarray(whole.astype(np.uint16, order="C"), format="rgba64le" if alpha else "rgb48le")
    return VideoFrame.from_ndarray(whole.astype(np.uint8, order="C"), format="rgba" if alpha else "rgb24")


def to_planar_frame(frame: Tensor, *, deep: bool, width: int, height: int) -> VideoFrame:
    """The same as one plane for each channel, as encoders' converters take it: a sixth of the time.

    A few rows at a time: what lies between stays in the processor's caches, and takes no memory to speak of.
    """
    channels, high, wide = frame.shape
    made = VideoFrame(width, height, _planar(deep, channels == 4))
    top = 65535 if deep else 255
    # By numpy: torch wakes all its threads for pieces as small as these, which costs several times the work itself.
    values = frame.detach().cpu().float().numpy()
    strip = np.empty((min(high, max(1, STRIP // wide)), wide), np.float32)
    for channel in range(channels):
        plane = _plane(made, channel)
        for start in range(0, high, len(strip)):
            part = values[channel, start : start + len(strip)]
            levels = np.multiply(part, np.float32(top), out=strip[: len(part)])
            plane[start : start + len(part), :wide] = np.clip(np.rint(levels, out=levels), 0, top, out=levels)
        plane[:high, wide:] = plane[:high, wide - 1 : wide]
        plane[high:] = plane[high - 1]
    return made


def check_alike(frames: Frames, wanted: tuple[int, ...], number: int, where: object) -> None:
    """Raise ClipError unless frames, of which the first is `number`, have that shape (C, H, W) and finite values."""
    if tuple(frames.shape[1:]) != wanted:
        raise ClipError(
            f"{where}: frame {number} has (channels, height, width) {tuple(frames.shape[1:])}, "
            f"those before have {wanted}; all frames must be alike"
        )
    if (bad := not_finite(frames)) is not None:
        raise ClipError(f"{where}: frame {number + bad} holds values that are no numbers; compute it in float32")


def _full_range(frame: VideoFrame, reformatter: VideoReformatter, wanted: str) -> VideoFrame:
    if not frame.format.is_rgb:
        frame.colorspace = matrix(frame.colorspace, frame.height)
    return reformatter.reformat(frame, format=wanted, dst_color_range=FULL, interpolation=ACCURATE, threads=ONE)


def _planar(deep: bool, alpha: bool) -> str:
    return f"gbr{'a' if alpha else ''}p{'16le' if deep else ''}"


def _plane(frame: VideoFrame, channel: int) -> NDArray[np.generic]:
    """(H, W): R, G, B or A of a planar frame, whose memory it shares."""
    plane = frame.planes[(2, 0, 1, 3)[channel]]
    kind = np.dtype("<u2" if depth(frame.format.name) > 8 else np.uint8)
    return np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)[:, : plane.width]
