"""The depth and the chroma of the source are kept where the codec can; else one line says so."""

from __future__ import annotations

import logging
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from steadyscale.core.clip import ClipError
from steadyscale.core.video.encode.codecs import CODECS
from steadyscale.core.video.encode.pixel_formats import choose_pixel_format, stored_chroma_location
from steadyscale.core.video.format.chroma_location import BOTTOM, CENTER, LEFT, TOP, TOP_LEFT, UNSPECIFIED_LOCATION
from steadyscale.core.video.format.stream_format import Orientation, StreamFormat

SOURCE = StreamFormat("ffv1", "yuv420p", Orientation(), Fraction(1), 1, False, 1, 1)
KEPT = [
    *(("h264", "yuv420p", "yuv420p"), ("h264", "yuv422p", "yuv422p"), ("h264", "yuv444p10le", "yuv444p10le")),
    *(("h264", "yuv420p10le", "yuv420p10le"), ("h264", "yuv422p10le", "yuv422p10le"), ("h264", "gray", "yuv420p")),
    *(
        ("hevc", "yuv420p12le", "yuv420p12le"),
        ("hevc", "yuv444p12le", "yuv444p12le"),
        ("hevc", "p010le", "yuv420p10le"),
    ),
    *(("hevc", "yuv420p9le", "yuv420p10le"), ("hevc", "gbrp10le", "yuv444p10le"), ("hevc", "gray10le", "yuv420p10le")),
    *(
        ("av1", "yuv420p", "yuv420p10le"),
        ("av1", "yuv420p10le", "yuv420p10le"),
        ("prores", "yuv420p10le", "yuv422p10le"),
    ),
    *(("prores", "yuv444p10le", "yuv444p10le"), ("ffv1", "yuv420p", "yuv420p"), ("ffv1", "yuv422p10le", "yuv422p10le")),
    *(("ffv1", "bgra", "bgr0"), ("ffv1", None, "bgr0"), ("ffv1", "yuvj420p", "yuv420p"), ("ffv1", "gray", "yuv420p")),
    *(("ffv1", "yuv420p16le", "yuv420p16le"), ("ffv1", "gbrp16le", "gbrp16le"), ("ffv1", "rgb48le", "gbrp16le")),
    *(("vp9", "yuv444p", "yuv444p"), ("h264", "yuvj444p", "yuv444p"), ("h264", "yuv411p", "yuv422p")),
]
REDUCED = [
    ("h264", "yuv420p12le", "yuv420p10le", "10 bits in place of 12"),
    ("h264", "yuv444p16le", "yuv444p10le", "10 bits in place of 16"),
    ("hevc", "yuv422p16le", "yuv422p12le", "12 bits in place of 16"),
    ("av1", "yuv422p10le", "yuv420p10le", "chroma of 4:2:0 in place of 4:2:2"),
    ("av1", "yuv444p", "yuv420p10le", "chroma of 4:2:0 in place of 4:4:4"),
    ("av1", "yuv440p", "yuv420p10le", "chroma of 4:2:0 in place of 4:4:0"),
    ("av1", "yuv411p", "yuv420p10le", "chroma of 4:2:0 in place of 4:1:1"),
    ("vp9", "yuv420p10le", "yuv420p", "8 bits in place of 10"),
    ("prores", "yuv422p12le", "yuv422p10le", "10 bits in place of 12"),
    ("h264", "bgr0", "yuv420p", "chroma of 4:2:0 in place of 4:4:4"),
    ("h264", "argb", "yuv420p", "chroma of 4:2:0 in place of 4:4:4, no alpha channel"),
    (
        "av1",
        "yuva444p12le",
        "yuv420p10le",
        "10 bits in place of 12, chroma of 4:2:0 in place of 4:4:4, no alpha channel",
    ),
    ("av1", "gray16le", "yuv420p10le", "10 bits in place of 16"),
]


def choose(codec: str, source: str | None, **options) -> str:
    source_format = None if source is None else replace(SOURCE, pixel_format=source)
    return choose_pixel_format(Path("out.mkv"), CODECS[codec], source_format=source_format, **options)


@pytest.mark.parametrize(("codec", "source", "expected"), KEPT)
def test_what_the_codec_can_hold_is_kept(codec: str, source: str, expected: str, caplog: pytest.LogCaptureFixture):
    assert choose(codec, source) == expected
    assert "in place of" not in caplog.text
    assert len(caplog.records) == (codec == "h264" and expected != "yuv420p"), "few players decode such H.264"


@pytest.mark.parametrize(
    ("source", "kept", "advice"),
    [
        (
            "yuv420p10le",
            "10 bits",
            "--codec hevc plays in more of them, and --pixel-format yuv420p plays in all, with 8 bits",
        ),
        ("yuv422p", "chroma of 4:2:2", "--pixel-format yuv420p plays in all, with chroma of 4:2:0"),
        (
            "yuv444p10le",
            "10 bits and chroma of 4:4:4",
            "--pixel-format yuv420p plays in all, with 8 bits and chroma of 4:2:0",
        ),
    ],
)
def test_h264_that_few_players_decode_is_named_with_the_alternatives(source: str, kept: str, advice: str, caplog):
    choose("h264", source)
    assert caplog.messages == [
        f"out.mkv: is H.264 with {kept} ({source}), to lose nothing of the source; some players and browsers do not "
        f"play that: {advice}"
    ]


@pytest.mark.parametrize(("codec", "source", "expected", "losses"), REDUCED)
def test_a_reduction_is_one_line_with_both_formats_and_what_is_lost(
    codec: str, source: str, expected: str, losses: str, caplog
):
    assert choose(codec, source) == expected
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"the source is {source}, the result {expected}: {losses}; with {CODECS[codec].encoder} " in record.message


def test_a_choice_that_is_not_logged_is_silent(caplog: pytest.LogCaptureFixture):
    choose("h264", "yuv444p10le", is_logged=False)
    choose("av1", "argb", is_logged=False)
    assert caplog.records == []


def test_a_requested_format_wins_silently(caplog):
    assert choose("h264", "yuv444p10le", requested="yuv420p") == "yuv420p"
    assert caplog.records == []
    with pytest.raises(ClipError, match="does not write yuv420p12le"):
        choose("h264", "yuv420p12le", requested="yuv420p12le")


@pytest.mark.parametrize(
    ("codec", "bits", "transparent", "expected"),
    [
        ("h264", 8, False, "yuv420p"),
        ("hevc", 16, False, "yuv420p12le"),
        ("ffv1", 16, False, "gbrp16le"),
        ("ffv1", 16, True, "gbrap16le"),
        ("ffv1", 8, True, "bgra"),
        ("prores", 8, True, "yuva444p10le"),
        ("vp9", 8, True, "yuva420p"),
    ],
)
def test_frames_without_a_source_have_a_depth_only(codec: str, bits: int, transparent: bool, expected: str):
    assert choose(codec, None, bits=bits, is_transparent=transparent) == expected


@pytest.mark.parametrize(
    ("codec", "muxer", "pixel_format", "wanted", "expected"),
    [
        ("h264", "mp4", "yuv420p", BOTTOM, BOTTOM),
        ("h264", "mp4", "yuv422p", CENTER, LEFT),
        ("hevc", "mp4", "yuv420p10le", TOP_LEFT, TOP_LEFT),
        ("hevc", "mp4", "yuv422p10le", LEFT, CENTER),
        ("av1", "mp4", "yuv420p10le", TOP, LEFT),
        ("ffv1", "matroska", "yuv420p10le", TOP_LEFT, TOP_LEFT),
        ("vp9", "webm", "yuv420p", BOTTOM, LEFT),
        ("prores", "mov", "yuv422p10le", LEFT, CENTER),
        ("h264", "mp4", "yuv444p", LEFT, UNSPECIFIED_LOCATION),
        ("ffv1", "matroska", "bgr0", LEFT, UNSPECIFIED_LOCATION),
    ],
)
def test_chroma_is_written_where_readers_will_find_it(codec, muxer, pixel_format, wanted, expected):
    assert stored_chroma_location(codec, muxer, pixel_format, wanted, is_hardware=False) == expected


@pytest.mark.parametrize(("codec", "expected"), [("h264", LEFT), ("hevc", LEFT), ("av1", CENTER)])
def test_hardware_encoders_write_no_location(codec: str, expected: int):
    assert stored_chroma_location(codec, "mp4", "yuv420p", TOP_LEFT, is_hardware=True) == expected
