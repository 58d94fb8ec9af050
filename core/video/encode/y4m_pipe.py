"""Write frames as Y4M (YUV4MPEG2) to a pipe, each as soon as it is there.

Y4M is uncompressed; ffplay, mpv and ffmpeg read it from a pipe. 8 bits, 4:2:0, or 4:4:4 for odd sizes; BT.709 above 576
lines and BT.601 up to there, limited range, which is what readers of this untagged format assume.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from ...clip import ClipError, ClipInfo, Frames
from ...runtime.threads.prefetch import close
from ..decode.convert import check_uniform, to_planar_frame
from ..format.chroma_location import LEFT, with_chroma_location
from ..format.scaler import REFORMAT_THREADS, SWS_FLAGS
from ..format.stream_format import FULL_RANGE, LIMITED_RANGE, UNSPECIFIED, resolve_matrix
from .output_format import SWS_MATRIX


def write_y4m(pipe: BinaryIO, frames: Iterator[Frames], info: ClipInfo) -> int:
    """Write frames (B, 3 or 4, H, W) without alpha, and return how many.

    info: their size and rate. Raises ClipError for a change of size, and where the pipe is closed by its reader.
    `frames` is closed in the end.
    """
    even = info.width % 2 == 0 and info.height % 2 == 0
    pixel_format, name = ("yuv420p", "420mpeg2") if even else ("yuv444p", "444")
    header = f"YUV4MPEG2 W{info.width} H{info.height} F{info.fps.numerator}:{info.fps.denominator} Ip A1:1 C{name}\n"
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
                    dst_color_range=LIMITED_RANGE,
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


def _packed_planes(frame: VideoFrame) -> bytes:
    """The planes one after the other, without the padding at the end of their rows."""
    rows = [np.frombuffer(memoryview(p), np.uint8).reshape(p.height, p.line_size)[:, : p.width] for p in frame.planes]
    return b"".join(plane.tobytes() for plane in rows)
