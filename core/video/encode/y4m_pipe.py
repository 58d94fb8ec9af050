"""Write frames as Y4M (YUV4MPEG2) to a pipe, each as soon as it is there.

Y4M is uncompressed; ffplay, mpv and ffmpeg read it from a pipe. 8 bits, 4:2:0, or 4:4:4 for odd sizes; BT.709 above 576
lines and BT.601 up to there, which is what readers assume of this format: it states the pixel aspect ratio and the
range, but not the colors.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from typing import BinaryIO

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from ...clip import ClipError, ClipInfo, Frames
from ...runtime.threads.prefetch import close
from ..decode.convert import check_uniform, to_planar_frame
from ..format.chroma_location import LEFT, with_chroma_location
from ..format.scaler import REFORMAT_THREADS, SWS_FLAGS
from ..format.stream_format import FULL_RANGE, HLG, LIMITED_RANGE, PQ, UNSPECIFIED, StreamFormat, resolve_matrix
from .output_format import SWS_MATRIX

log = logging.getLogger(__name__)


def write_y4m(
    pipe: BinaryIO, frames: Iterator[Frames], info: ClipInfo, *, source_format: StreamFormat | None = None
) -> int:
    """Write frames (B, 3 or 4, H, W) without alpha, and return how many.

    info: their size and rate. source_format: of their source, whose pixel aspect ratio and range are kept. Raises
    ClipError for a change of size, and where the pipe is closed by its reader. `frames` is closed in the end.
    """
    even = info.width % 2 == 0 and info.height % 2 == 0
    pixel_format, name = ("yuv420p", "420mpeg2") if even else ("yuv444p", "444")
    header = _header(info, source_format, name)
    color_range = FULL_RANGE if source_format and source_format.full_range else LIMITED_RANGE
    if source_format and source_format.transfer in (PQ, HLG):
        log.warning("Y4M cannot state that the source is HDR, so readers take it for SDR; write a video file instead")
    reformatter, count = VideoReformatter(), 0
    # 420mpeg2 has its chroma at the left, as MPEG-2; the conversion follows the tag of this frame.
    rgb = with_chroma_location(VideoFrame(info.width, info.height, "gbrp"), LEFT)
    try:
        pipe.write(header.encode())
        for batch in frames:
            check_uniform(batch, (batch.shape[1], info.height, info.width), count, "the pipe")
            for frame in batch:
                size = {"width": info.width, "height": info.height}
                rgb = to_planar_frame(frame[:3], high_bit_depth=False, **size, target=rgb)
                yuv = reformatter.reformat(
                    rgb,
                    format=pixel_format,
                    src_color_range=FULL_RANGE,
                    dst_colorspace=SWS_MATRIX[resolve_matrix(UNSPECIFIED, info.height)],
                    dst_color_range=color_range,
                    interpolation=SWS_FLAGS,
                    threads=REFORMAT_THREADS,
                )
                pipe.write(b"FRAME\n" + _packed_planes(yuv))
                pipe.flush()
                count += 1
    except BrokenPipeError as e:
        raise ClipError(f"the reader of the pipe has closed it after {count} frames") from e
    finally:
        close(frames)
    return count


def _header(info: ClipInfo, source_format: StreamFormat | None, chroma: str) -> str:
    rate, aspect = info.fps, source_format.pixel_aspect if source_format else Fraction(1)
    color_range = " XCOLORRANGE=FULL" if source_format and source_format.full_range else ""
    return (
        f"YUV4MPEG2 W{info.width} H{info.height} F{rate.numerator}:{rate.denominator} Ip "
        f"A{aspect.numerator}:{aspect.denominator} C{chroma}{color_range}\n"
    )


def _packed_planes(frame: VideoFrame) -> bytes:
    """The planes one after the other, without the padding at the end of their rows."""
    rows = [np.frombuffer(memoryview(p), np.uint8).reshape(p.height, p.line_size)[:, : p.width] for p in frame.planes]
    return b"".join(plane.tobytes() for plane in rows)
