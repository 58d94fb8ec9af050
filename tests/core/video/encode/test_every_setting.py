"""Every setting of `Encoding` reaches the encoder: of a file, and of the segments of a job."""

from __future__ import annotations

from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import av
import pytest
from numbered_video import numbered_frames
from recorded_calls import RecordedCalls
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.jobs.plan import _resolve_encoding
from steadyscale.core.video.encode.codecs import CODECS, CONTAINERS, Encoding, codec_for
from steadyscale.core.video.encode.hardware_encoders import choose_encoder
from steadyscale.core.video.encode.writer import write_video

INFO = ClipInfo(64, 48, Fraction(24), 3)
OTHERS = {"codec": "hevc", "crf": 40, "preset": "ultrafast", "pixel_format": "yuv444p", "encoder": "auto"}
SIZE = (64, 48)


class _Called(Exception):
    """The encoder is chosen."""


@pytest.mark.parametrize("name", [field.name for field in fields(Encoding)])
def test_a_setting_changes_the_encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str):
    calls = RecordedCalls(monkeypatch)
    calls.replace("steadyscale.core.video.encode.writer.choose_encoder", _Called())

    def write(encoding: Encoding) -> dict:
        calls.calls.clear()
        with pytest.raises(_Called):
            write_video(tmp_path / "out.mp4", iter([numbered_frames(3)]), INFO, encoding=encoding)
        return calls.one("choose_encoder")

    plain, other = write(Encoding()), write(Encoding(**{name: OTHERS[name]}))
    assert other["encoding"] == Encoding(**{name: OTHERS[name]})
    assert (other["codec_name"] == "hevc") == (name == "codec")
    assert (other["pixel_format"] == "yuv444p") == (name == "pixel_format")
    assert plain["size"] == other["size"] == SIZE


@pytest.mark.parametrize(
    ("encoding", "options"),
    [
        (Encoding(), {"crf": "16", "preset": "medium"}),
        (Encoding(crf=0), {"crf": "0", "preset": "medium"}),
        (Encoding(crf=40, preset="ultrafast"), {"crf": "40", "preset": "ultrafast"}),
    ],
)
def test_the_software_encoder_gets_crf_and_preset(encoding: Encoding, options: dict[str, str]):
    setup = choose_encoder(Path("a.mp4"), "h264", CODECS["h264"], encoding, "yuv420p", SIZE)
    assert (setup.name, setup.pixel_format, setup.options) == ("libx264", "yuv420p", options)
    assert not setup.is_hardware


@pytest.mark.parametrize(
    ("encoding", "codec", "pixel_format"),
    [
        (Encoding(), "h264", "yuv420p"),
        (Encoding("hevc"), "hevc", "yuv420p"),
        (Encoding(pixel_format="yuv444p"), "h264", "yuv444p"),
    ],
)
def test_the_file_has_codec_and_pixel_format(tmp_path: Path, encoding: Encoding, codec: str, pixel_format: str):
    assert write_video(tmp_path / "out.mp4", iter([numbered_frames(3)]), INFO, encoding=encoding) == 3
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == (codec, pixel_format)


def test_segments_of_a_job_keep_every_setting_and_fix_those_that_depend_on_the_frame():
    asked = Encoding("hevc", 40, "ultrafast", "yuv444p", "software")
    assert _resolve_encoding(asked, Path("a.mp4"), numbered_frames(1), None, None) == asked
    resolved = _resolve_encoding(Encoding(crf=30), Path("a.mp4"), numbered_frames(1), None, None)
    assert resolved == Encoding(None, 30, None, "yuv420p", "software")


@pytest.mark.parametrize("name", [name for name, codec in CODECS.items() if codec.crf is not None])
def test_a_crf_goes_from_0_to_the_worst_of_the_codec(name: str):
    file, worst = Path("a.mkv"), CODECS[name].max_crf
    for crf in (0, worst):
        assert codec_for(file, CONTAINERS[".mkv"], Encoding(name, crf)) is CODECS[name]
    for crf in (-1, worst + 1):
        with pytest.raises(ClipError, match=rf"crf {crf} is outside 0 \(best\) to {worst} \(worst\) of {name}"):
            codec_for(file, CONTAINERS[".mkv"], Encoding(name, crf))
