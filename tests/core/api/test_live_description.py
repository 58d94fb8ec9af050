"""Live results keep colors, pixel aspect ratio and title of their source, in a file and as Y4M."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from numbered_video import make_video, numbered_frames
from steadyscale.core.api import stabilize_live_video
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.stabilize import StabilizeSettings
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.codecs import Encoding
from steadyscale.core.video.encode.y4m_pipe import write_y4m
from steadyscale.core.video.format.source_description import raw_format
from steadyscale.core.video.format.stream_format import PQ, SMPTE170M, StreamFormat

INFO = ClipInfo(64, 48, Fraction(24))


def make_tagged(path: Path, pixel_format: str, matrix: int, color_range: int, primaries: int, transfer: int) -> Path:
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        context = stream.codec_context
        context.colorspace, context.color_range = matrix, color_range
        context.color_primaries, context.color_trc = primaries, transfer
        for number, frame in enumerate(numbered_frames(3)):
            rgb = (frame * 255).byte().permute(1, 2, 0).numpy()
            yuv = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
                format=pixel_format, dst_color_range=color_range or 1
            )
            yuv.pts, yuv.time_base = number, Fraction(1, 24)
            sink.mux(stream.encode(yuv))
        sink.mux(stream.encode(None))
    return path


def stabilize(source: Path, target: Path, codec: str | None = None, **options) -> StreamFormat:
    settings = StabilizeSettings(border="edge")
    stabilize_live_video(source, target, settings=settings, look_ahead=0, encoding=Encoding(codec, **options))
    return VideoClip(target).stream_format


@pytest.mark.parametrize(
    ("pixel_format", "tags"),
    [("yuv420p10le", (9, 1, 9, PQ)), ("yuv420p", (1, 2, 1, 1)), ("yuv420p", (2, 1, 2, 2))],
    ids=["HDR", "full range", "no tags"],
)
def test_colors_are_tagged_as_in_the_source(tmp_path: Path, pixel_format: str, tags: tuple[int, int, int, int]):
    source = make_tagged(tmp_path / "in.mkv", pixel_format, *tags)
    result = stabilize(source, tmp_path / "out.mkv")
    matrix, color_range, primaries, transfer = tags
    assert (result.matrix, result.tagged) == (SMPTE170M if matrix == 2 else matrix, matrix != 2)
    assert (result.full_range, result.primaries, result.transfer) == (color_range == 2, primaries, transfer)


def test_hdr_in_8_bits_is_refused(tmp_path: Path):
    source = make_tagged(tmp_path / "in.mkv", "yuv420p10le", 9, 1, 9, PQ)
    with pytest.raises(ClipError, match="the source is HDR"):
        stabilize(source, tmp_path / "out.mp4", "h264", pixel_format="yuv420p")


@pytest.mark.parametrize(("rotation", "aspect"), [(0, Fraction(4, 3)), (90, Fraction(3, 4))])
def test_the_pixel_aspect_ratio_is_that_of_the_displayed_frame(tmp_path: Path, rotation: int, aspect: Fraction):
    source = make_video(tmp_path / "in.mp4", 3, pixel_aspect=Fraction(4, 3), rotation=rotation)
    result = stabilize(source, tmp_path / "out.mp4")
    assert (result.pixel_aspect, result.orientation.transpose) == (aspect, False)
    assert VideoClip(tmp_path / "out.mp4").info.size == ((48, 64) if rotation else (64, 48))


def test_the_title_is_kept(tmp_path: Path):
    source = make_video(tmp_path / "in.mkv", 3, metadata={"title": "A title"})
    stabilize(source, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert container.metadata["title"] == "A title"


def test_a_raw_source_without_tags_is_tagged_as_players_assume(tmp_path: Path):
    untagged = VideoClip(make_video(tmp_path / "in.mkv", 1)).stream_format
    assert raw_format(untagged, 48) is None, "no statement, no format"
    wide = raw_format(replace(untagged, pixel_aspect=Fraction(4, 3)), 48)
    assert wide is not None
    assert (wide.tagged, wide.matrix, wide.primaries, wide.transfer) == (True, *(SMPTE170M,) * 3)
    stated = replace(untagged, tagged=True, primaries=9)
    assert raw_format(stated, 48) is stated


def test_y4m_states_the_aspect_and_the_range(tmp_path: Path):
    """A reader finds both, and the color of a flat frame."""
    source = VideoClip(make_video(tmp_path / "in.mkv", 1)).stream_format
    pipe, color = io.BytesIO(), torch.tensor([0.8, 0.3, 0.1]).view(1, 3, 1, 1)
    wide = replace(source, pixel_aspect=Fraction(4, 3), full_range=True)
    write_y4m(pipe, iter([color.expand(1, 3, 48, 64)]), INFO, source_format=wide)
    with av.open(io.BytesIO(pipe.getvalue()), format="yuv4mpegpipe") as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
        [frame] = container.decode(video=0)
    assert frame.color_range == 2
    decoded = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1) / 255
    assert (decoded - color[0]).abs().max() < 0.015


def test_hdr_as_y4m_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    source = replace(VideoClip(make_video(tmp_path / "in.mkv", 1)).stream_format, transfer=PQ)
    write_y4m(io.BytesIO(), iter(numbered_frames(1).split(1)), INFO, source_format=source)
    assert "cannot state that the source is HDR" in caplog.text
