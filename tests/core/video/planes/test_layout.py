"""Layouts describe the memory of frames, and follow the same tags as swscale."""

from __future__ import annotations

from pathlib import Path

import pytest
import yuv_frames
from av.video.frame import VideoFrame
from steadyscale.core.video.encode.output_format import SWS_MATRIX
from steadyscale.core.video.format import chroma_location
from steadyscale.core.video.format.stream_format import BT709, FULL_RANGE, SMPTE170M, UNSPECIFIED
from steadyscale.core.video.planes import layout as layouts
from steadyscale.core.video.planes.layout import layout_for, layout_of

SUPPORTED = [
    *("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p", "yuva420p", "yuva422p", "yuva444p"),
    *("yuv420p9le", "yuv420p10le", "yuv422p10le", "yuv444p12le", "yuv444p16le", "yuva444p10le", "nv12", "p010le"),
    *("gray", "gray10le", "gray16le", "gbrp", "gbrp10le", "gbrap12le", "gbrp16le", "rgb24", "bgr24", "rgba", "bgra"),
]


@pytest.mark.parametrize("pixel_format", SUPPORTED)
def test_the_planes_of_a_layout_fill_the_lines_of_a_frame(pixel_format: str):
    layout = layout_for(pixel_format)
    assert layout is not None
    frame = VideoFrame(34, 22, pixel_format)
    assert layout.has_alpha == any(c.is_alpha for c in frame.format.components)
    assert layout.is_rgb == frame.format.is_rgb
    assert len(frame.planes) == len(layout.channels)
    sample_bytes = 1 if layout.bits == 8 else 2
    for plane, (height, width, *interleaved) in zip(frame.planes, layout.plane_shapes(34, 22), strict=True):
        row_bytes = width * sample_bytes * (interleaved or [1])[0]
        assert plane.height == height
        assert row_bytes <= plane.line_size < row_bytes + 128, "the rest is padding"


@pytest.mark.parametrize("pixel_format", ["yuv410p", "yuv440p", "yuyv422", "yuv420p10be", "pal8", "ya8", "rgb48le"])
def test_other_pixel_formats_have_no_layout(pixel_format: str):
    assert layout_for(pixel_format) is None


def test_the_matrices_are_those_of_the_writer():
    assert layouts.LUMA_COEFFICIENTS.keys() == SWS_MATRIX.keys()
    assert layout_for("yuv420p", 8) is None, "YCgCo"
    assert layout_for("yuv420p", BT709, chroma_location=9) is None


def test_a_frame_without_tags_has_the_matrix_that_players_assume():
    frame = VideoFrame(64, 48, "yuv420p")
    frame.colorspace = UNSPECIFIED
    layout = layout_of(frame)
    assert layout is not None
    assert (layout.matrix, layout.full_range) == (SMPTE170M, False)
    frame.colorspace, frame.color_range = BT709, FULL_RANGE
    layout = layout_of(frame)
    assert layout is not None
    assert (layout.matrix, layout.full_range) == (BT709, True)


@pytest.mark.parametrize("location", yuv_frames.LOCATIONS)
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le"])
def test_chroma_location_is_that_of_the_tag(pixel_format: str, location: str):
    frame = yuv_frames.set_parameters(VideoFrame(62, 46, pixel_format), chroma_location=location)
    expected = list(yuv_frames.LOCATIONS).index(location)
    assert chroma_location.chroma_location_of(frame) == (expected or chroma_location.CENTER)


@pytest.mark.parametrize(("codec", "location"), [("libx264", chroma_location.LEFT), ("ffv1", chroma_location.CENTER)])
def test_chroma_location_is_that_of_the_decoder(codec: str, location: int, tmp_path: Path):
    frame = yuv_frames.frame_from_rgb(yuv_frames.photo(64, 48), "yuv420p")
    layout = layout_of(yuv_frames.encode_and_decode(frame, codec, str(tmp_path / "clip.mkv")))
    assert layout is not None
    assert layout.chroma_location == location


def test_interlaced_420_has_no_layout():
    """Swscale upsamples its fields separately."""
    for pixel_format, is_supported in (("yuv420p", False), ("yuv422p", True)):
        frame = yuv_frames.set_parameters(VideoFrame(64, 48, pixel_format), field_mode="tff")
        assert (layout_of(frame) is not None) == is_supported
        assert (layout_of(frame, chroma_location.LEFT) is not None) == is_supported
