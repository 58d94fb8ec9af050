"""Encodings that cannot be written are refused before there is a frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.video.encode.codecs import CODECS, CONTAINERS, X264_PRESETS, Encoding, codec_for
from steadyscale.core.video.encode.writer import write_video
from steadyscale.core.video.open import check_target


@pytest.mark.parametrize("name", CODECS)
def test_the_defaults_of_every_codec_are_accepted(tmp_path: Path, name: str):
    suffix = next(suffix for suffix, container in CONTAINERS.items() if name in container.codecs)
    codec, path = CODECS[name], tmp_path / f"out{suffix}"
    encoding = Encoding(name, codec.crf, codec.preset, codec.pixel_format)
    assert codec_for(path, CONTAINERS[suffix], encoding) is codec


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        (
            Encoding(preset="warp"),
            r"no preset 'warp'; choose one of ultrafast, .*, placebo \(--preset; the default is medium",
        ),
        (Encoding("hevc", preset="warp"), r"libx265 has no preset 'warp'"),
        (Encoding("av1", preset="99"), r"libsvtav1 has no preset '99'; choose one of 0, 1, .*, 13 \(.* is 8\)"),
        (Encoding(pixel_format="rgb48le"), r"libx264 does not write rgb48le; it writes .*yuv420p"),
    ],
)
def test_settings_that_an_encoder_does_not_have_are_refused_before_the_work(
    tmp_path: Path, encoding: Encoding, message: str, capfd: pytest.CaptureFixture[str]
):
    with pytest.raises(ClipError, match=message):
        check_target(tmp_path / "out.mp4", encoding=encoding)
    assert capfd.readouterr() == ("", ""), "the C libraries print nothing"


@pytest.mark.parametrize("values", [{"crf": "x"}, {"preset": 5}, {"codec": 264}, {"pixel_format": 1}, {"encoder": 2}])
def test_settings_of_another_type_are_refused(values: dict[str, object]):
    [(name, value)] = values.items()
    with pytest.raises(ClipError, match=rf"^{name} is {value!r}; it has to be a n"):
        Encoding(**values)


@pytest.mark.parametrize("preset", [*X264_PRESETS, "0", "9", "Fast"])
def test_presets_of_x264_are_those_that_it_accepts(preset: str):
    stream = av.CodecContext.create("libx264", "w")
    stream.width, stream.height, stream.pix_fmt, stream.time_base = 64, 64, "yuv420p", Fraction(1, 24)
    stream.options = {"preset": preset}
    stream.open()
    assert codec_for(Path("out.mp4"), CONTAINERS[".mp4"], Encoding(preset=preset)) is CODECS["h264"]


def test_encoders_print_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Neither Python nor the C libraries."""
    monkeypatch.delenv("SVT_LOG", raising=False)  # an earlier test has set it
    info = ClipInfo(64, 64, Fraction(24), 2)
    write_video(tmp_path / "out.mp4", iter([torch.rand(2, 3, 64, 64)]), info, encoding=Encoding("av1"))
    assert capfd.readouterr() == ("", "")
