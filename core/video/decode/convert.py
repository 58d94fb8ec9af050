"""From decoded frames to numbers and back: (C, H, W) in [0, 1] here, what decoders give and encoders take there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from ...clip import ClipError, Frames, first_non_finite
from .stream_format import FULL_RANGE, bit_depth, resolve_matrix

if TYPE_CHECKING:
    from torch import Tensor

# Without these, a saturated patch comes back 3/255 wrong and chroma is repeated instead of interpolated.
SWS_FLAGS = 0x4 | 0x40000 | 0x2000  # SWS_BICUBIC, ACCURATE_RND, FULL_CHR_H_INT; PyAV 17 has no names for the latter two
# Threads of a conversion. It takes milliseconds, and stages run side by side: more would cost time and memory in all.
REFORMAT_THREADS = 1
STRIP_PIXELS = 1 << 17  # pixels of a frame that are rounded at once
# By the number of channels and whether they have 16 bits: the formats of PNG.
PACKED_FORMATS = {(3, False): "rgb24", (4, False): "rgba", (3, True): "rgb48be", (4, True): "rgba64be"}


def to_rgb(frame: VideoFrame, reformatter: VideoReformatter, *, alpha: bool) -> NDArray[np.generic]:
    """A decoded frame -> (H, W, 3 or 4), uint8 or, for more than 8 bits, uint16; the stored orientation."""
    deep = bit_depth(frame.format.name) > 8
    wanted = ("rgba64le" if alpha else "rgb48le") if deep else ("rgba" if alpha else "rgb24")
    return _to_full_range(frame, reformatter, wanted).to_ndarray()


def to_planes(frame: VideoFrame, reformatter: VideoReformatter, *, alpha: bool) -> list[NDArray[np.generic]]:
    """The same as one (H, W) for each channel, which takes half the time."""
    rgb = _to_full_range(frame, reformatter, _planar_format(bit_depth(frame.format.name) > 8, alpha))
    return [_plane_view(rgb, channel) for channel in range(4 if alpha else 3)]


def to_gray(frame: VideoFrame, reformatter: VideoReformatter, width: int, height: int) -> NDArray[np.uint8]:
    """A decoded frame -> (height, width, 1) uint8 brightness, each pixel the mean of what it covers; as stored."""
    grey = reformatter.reformat(frame, width, height, format="gray", interpolation="AREA", threads=REFORMAT_THREADS)
    return grey.to_ndarray().astype(np.uint8, copy=False)[..., None]


def to_planar_frame(frame: Tensor, *, high_bit_depth: bool, width: int, height: int) -> VideoFrame:
    """(3 or 4, H, W) in [0, 1] -> full-range RGB(A) of 8 or, if `deep`, 16 bits, as one plane for each channel.

    Where width x height is larger, the last column and row are repeated.
    """
    channels, high, wide = frame.shape
    made = VideoFrame(width, height, _planar_format(high_bit_depth, channels == 4))
    planes = [_plane_view(made, channel) for channel in range(channels)]
    _quantize_into([plane[:high, :wide] for plane in planes], frame, high_bit_depth)
    for plane in planes:
        plane[:high, wide:] = plane[:high, wide - 1 : wide]
        plane[high:] = plane[high - 1]
    return made


def to_packed_frame(frame: Tensor, *, high_bit_depth: bool) -> VideoFrame:
    """(3 or 4, H, W) in [0, 1] -> the same with a pixel's channels side by side; 16 bits have the upper ones first."""
    channels, height, width = frame.shape
    made = VideoFrame(width, height, PACKED_FORMATS[channels, high_bit_depth])
    kind = np.dtype(">u2" if high_bit_depth else np.uint8)
    rows = np.frombuffer(memoryview(made.planes[0]), kind).reshape(height, -1)[:, : width * channels]
    _quantize_into([rows[:, channel::channels] for channel in range(channels)], frame, high_bit_depth)
    return made


def _quantize_into(planes: list[NDArray[np.generic]], frame: Tensor, high_bit_depth: bool) -> None:
    """Fill a plane (H, W) for each channel, a few rows at a time: what lies between stays in the processor's caches,
    and takes no memory to speak of.
    """
    _, high, wide = frame.shape
    top = 65535 if high_bit_depth else 255
    # By numpy: torch wakes all its threads for pieces as small as these, which costs several times the work itself.
    values = frame.detach().cpu().float().numpy()
    strip = np.empty((min(high, max(1, STRIP_PIXELS // wide)), wide), np.float32)
    for plane, channel in zip(planes, values, strict=True):
        for start in range(0, high, len(strip)):
            part = channel[start : start + len(strip)]
            levels = np.multiply(part, np.float32(top), out=strip[: len(part)])
            plane[start : start + len(part)] = np.clip(np.rint(levels, out=levels), 0, top, out=levels)


def check_uniform(frames: Frames, shape: tuple[int, ...], first_number: int, path: object) -> None:
    """Raise ClipError unless frames, of which the first is `number`, have that shape (C, H, W) and finite values."""
    if tuple(frames.shape[1:]) != shape:
        raise ClipError(
            f"{path}: frame {first_number} has (channels, height, width) {tuple(frames.shape[1:])}, "
            f"those before have {shape}; all frames must be alike"
        )
    if (bad := first_non_finite(frames)) is not None:
        raise ClipError(f"{path}: frame {first_number + bad} holds values that are no numbers; compute it in float32")


def _to_full_range(frame: VideoFrame, reformatter: VideoReformatter, pixel_format: str) -> VideoFrame:
    if not frame.format.is_rgb:
        frame.colorspace = resolve_matrix(frame.colorspace, frame.height)
    return reformatter.reformat(
        frame, format=pixel_format, dst_color_range=FULL_RANGE, interpolation=SWS_FLAGS, threads=REFORMAT_THREADS
    )


def _planar_format(high_bit_depth: bool, alpha: bool) -> str:
    return f"gbr{'a' if alpha else ''}p{'16le' if high_bit_depth else ''}"


def _plane_view(frame: VideoFrame, channel: int) -> NDArray[np.generic]:
    """(H, W): R, G, B or A of a planar frame, whose memory it shares."""
    plane = frame.planes[(2, 0, 1, 3)[channel]]
    kind = np.dtype("<u2" if bit_depth(frame.format.name) > 8 else np.uint8)
    return np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)[:, : plane.width]
