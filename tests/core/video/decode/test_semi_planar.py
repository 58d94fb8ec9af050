"""Frames keep their samples and properties between the layouts of software and hardware codecs."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from steadyscale.core.video.decode.semi_planar import SEMI_PLANAR, has_same_samples, to_planar, to_semi_planar

SIZES = [(64, 48), (130, 66), (2, 2), (1922, 4)]


def random_frame(width: int, height: int, pixel_format: str) -> av.VideoFrame:
    frame, rng = av.VideoFrame(width, height, pixel_format), np.random.default_rng(0)
    dtype, levels = ("<u2", 1024) if pixel_format == "yuv420p10le" else ("u1", 256)
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), dtype).reshape(plane.height, -1)
        rows[...] = rng.integers(0, levels, rows.shape)
    tag(frame)
    return frame


def rows_of(frame: av.VideoFrame, plane: int, dtype: str, samples: int) -> np.ndarray:
    stored = frame.planes[plane]
    return np.frombuffer(memoryview(stored), dtype).reshape(stored.height, -1)[:, :samples]


def interleave(frame: av.VideoFrame) -> av.VideoFrame:
    """Convert to NV12 or P010 as their definitions say: U first, 10 bits in the upper bits, the others 0."""
    deep = frame.format.name == "yuv420p10le"
    dtype, shift, chroma_width = ("<u2", 6, frame.planes[1].width) if deep else ("u1", 0, frame.planes[1].width)
    converted = av.VideoFrame(frame.width, frame.height, "p010le" if deep else "nv12")
    rows_of(converted, 0, dtype, frame.width)[...] = rows_of(frame, 0, dtype, frame.width) << shift
    chroma = rows_of(converted, 1, dtype, 2 * chroma_width)
    chroma[:, 0::2] = rows_of(frame, 1, dtype, chroma_width) << shift
    chroma[:, 1::2] = rows_of(frame, 2, dtype, chroma_width) << shift
    tag(converted)
    return converted


def tag(frame: av.VideoFrame) -> None:
    frame.pts, frame.time_base, frame.duration = 7, Fraction(1, 90), 3
    frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = 5, 2, 9, 16


def properties(frame: av.VideoFrame) -> tuple[object, ...]:
    tags = (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc)
    return (frame.width, frame.height, frame.pts, frame.time_base, frame.duration, *tags)


@pytest.mark.parametrize("color_range", [0, 1, 2])
@pytest.mark.parametrize("size", [*SIZES, (7, 5), (1, 1), (1921, 3)])
@pytest.mark.parametrize("pixel_format", SEMI_PLANAR)
def test_frames_of_devices_become_planar(size: tuple[int, int], pixel_format: str, color_range: int):
    frame = random_frame(*size, pixel_format)
    from_device = interleave(frame)
    from_device.color_range = color_range
    planar = to_planar(from_device, VideoReformatter(), pixel_format)
    assert has_same_samples(planar, frame)
    assert properties(planar) == properties(from_device)


@pytest.mark.parametrize("color_range", [0, 1, 2])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
def test_planar_frames_become_frames_for_devices(size: tuple[int, int], pixel_format: str, color_range: int):
    frame = random_frame(*size, pixel_format)
    frame.color_range = color_range
    expected, converted = interleave(frame), to_semi_planar(frame, VideoReformatter())
    assert (converted.format.name, properties(converted)) == (SEMI_PLANAR[pixel_format], properties(frame))
    dtype = "u1" if pixel_format == "yuv420p" else "<u2"
    for plane in (0, 1):
        found, wanted = (rows_of(each, plane, dtype, size[0]) for each in (converted, expected))
        assert np.array_equal(found, wanted)


def test_frames_of_another_size_format_or_content_are_not_equal():
    frame, changed = random_frame(8, 6, "yuv420p"), random_frame(8, 6, "yuv420p")
    assert has_same_samples(frame, changed)
    rows_of(changed, 2, "u1", 4)[2, 3] ^= 1
    assert not has_same_samples(frame, changed)
    assert not has_same_samples(frame, random_frame(8, 8, "yuv420p"))
    assert not has_same_samples(frame, random_frame(8, 6, "yuvj420p"))
