"""Where subsampled chroma samples are, read from and written to frames.

PyAV has no attribute for it, but swscale follows the tag of a frame.
"""

from __future__ import annotations

import av
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from .scaler import REFORMAT_THREADS, SWS_FLAGS

# FFmpeg's constants for the position of chroma samples (AVCHROMA_LOC_*).
UNSPECIFIED_LOCATION, LEFT, CENTER, TOP_LEFT, TOP, BOTTOM_LEFT, BOTTOM = range(7)
# By these constants, the position (x, y) of the first chroma sample; the first luma sample is at (0, 0), the next at 1.
CHROMA_POSITIONS = {
    UNSPECIFIED_LOCATION: (0.5, 0.5),
    LEFT: (0.0, 0.5),
    CENTER: (0.5, 0.5),
    TOP_LEFT: (0.0, 0.0),
    TOP: (0.5, 0.0),
    BOTTOM_LEFT: (0.0, 1.0),
    BOTTOM: (0.5, 1.0),
}
LOCATION_NAMES = ("unspecified", "left", "center", "topleft", "top", "bottomleft", "bottom")
"""FFmpeg's names, in the order of its constants."""
_BT709, _FULL_RANGE = 1, 2  # AVCOL_SPC_BT709, AVCOL_RANGE_JPEG


def chroma_subsampling(pixel_format: str) -> tuple[int, int]:
    """Return luma columns and rows per chroma sample; (1, 1) for RGB and gray."""
    chroma = av.VideoFormat(pixel_format, 8, 8)
    if chroma.is_rgb or len(chroma.components) < 3:
        return 1, 1
    return 8 // max(1, chroma.chroma_width(8)), 8 // max(1, chroma.chroma_height(8))


def chroma_location_of(frame: VideoFrame) -> int:
    """Return where the chroma samples of a decoded frame are, as FFmpeg's constant.

    An impulse in a small frame with the same tags appears at that position. H.264, HEVC and MPEG decoders often set
    LEFT; without a tag it is CENTER.
    """
    reformatter = VideoReformatter()
    probe = reformatter.reformat(
        frame, 16, 16, format="yuv420p16le", interpolation="POINT", dst_color_range=_FULL_RANGE,
        threads=REFORMAT_THREADS,
    )  # fmt: skip
    for index, plane in enumerate(probe.planes):
        samples = np.frombuffer(memoryview(plane), "<u2").reshape(plane.height, -1)
        samples[:] = 32768
        if index == 2:
            samples[4, 4] += 8192
    probe.colorspace, probe.color_range = _BT709, _FULL_RANGE
    rgb = reformatter.reformat(probe, format="gbrp16le", interpolation=SWS_FLAGS, threads=REFORMAT_THREADS)
    red = rgb.planes[2]
    impulse = np.frombuffer(memoryview(red), "<u2").reshape(red.height, -1)[:, : red.width].astype(float) - 32768
    total = impulse.sum()
    x, y = (float(impulse.sum(axis) @ np.arange(16) / total) - 8 for axis in (0, 1))
    return min(CHROMA_POSITIONS, key=lambda k: (abs(CHROMA_POSITIONS[k][0] - x) + abs(CHROMA_POSITIONS[k][1] - y), -k))


def with_chroma_location(frame: VideoFrame, location: int) -> VideoFrame:
    """Return a copy of a frame whose tag is `location`.

    Frames that swscale computes from it have chroma there, and the same tag.
    """
    graph = Graph()
    source = graph.add("buffer", f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1")
    tags = graph.add("setparams", f"chroma_location={LOCATION_NAMES[location]}")
    sink = graph.add("buffersink")
    source.link_to(tags)
    tags.link_to(sink)
    graph.configure()
    frame.pts = 0
    source.push(frame)
    tagged = sink.pull()
    assert isinstance(tagged, VideoFrame)
    tagged.make_writable()
    tagged.colorspace, tagged.color_range = frame.colorspace, frame.color_range
    return tagged
