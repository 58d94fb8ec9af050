"""Hardware encoders get the settings of the software encoder; where one does not work, nothing is lost."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from numbered_video import make_video, numbered_frames, read_numbers
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.jobs import run as jobs
from steadyscale.core.jobs.state.folder import open_job
from steadyscale.core.video.decode import semi_planar
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode import hardware_encoders, writer
from steadyscale.core.video.encode.codecs import CODECS, ENCODERS, Encoding
from steadyscale.core.video.encode.encoder_options import EncoderSetup, add_video_stream
from steadyscale.core.video.encode.hardware_encoders import HARDWARE_ENCODERS, choose_encoder
from steadyscale.core.video.encode.output_format import OutputFormat
from steadyscale.core.video.encode.writer import write_video
from steadyscale.core.video.format.chroma_location import CENTER
from steadyscale.core.video.open import check_target
from video_file_checks import CLIP_INFO, list_files, read_packet_times, split_batches

SEMI_PLANAR = ["nv12", "p010le"]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """Messages of the choice of an encoder."""
    with caplog.at_level(logging.INFO, "steadyscale"):
        yield lambda: [r.getMessage() for r in caplog.records if r.name.endswith("hardware_encoders")]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[EncoderSetup]:
    """A GPU that has every encoder; returns the setups of the streams, which are encoded in software."""
    used: list[EncoderSetup] = []

    def add_stream(sink: Any, output_format: Any, setup: EncoderSetup, *rest: Any) -> av.VideoStream:
        used.append(setup)
        if not setup.is_hardware:
            return add_video_stream(sink, output_format, setup, *rest)
        codec = setup.name.split("_")[0]
        name = CODECS[codec].encoder
        pixel_format = {"nv12": "yuv420p", "p010le": "yuv420p10le"}.get(setup.pixel_format, setup.pixel_format)
        options = {"crf": "10"} if codec == "h264" else dict(CODECS[codec].options)
        return add_video_stream(sink, output_format, EncoderSetup(name, pixel_format, options), *rest)

    monkeypatch.setattr(hardware_encoders, "_input_formats", lambda _: ["yuv420p", "yuv444p", *SEMI_PLANAR])
    monkeypatch.setattr(hardware_encoders, "_encode_blank_frame", lambda *_: None)
    monkeypatch.setattr(writer, "add_video_stream", add_stream)
    return used


# --- options


def setup_of(encoding: Encoding, family: str, monkeypatch: pytest.MonkeyPatch, pixel_format: str = "") -> EncoderSetup:
    monkeypatch.setattr(hardware_encoders, "_input_formats", lambda _: SEMI_PLANAR)
    monkeypatch.setattr(hardware_encoders, "_encode_blank_frame", lambda *_: None)
    name = encoding.codec or "h264"
    codec, encoding = CODECS[name], replace(encoding, encoder=family)
    return choose_encoder(Path("out.mkv"), name, codec, encoding, pixel_format or codec.pixel_format, (64, 48))


@pytest.mark.parametrize(
    ("family", "codec", "crf", "preset", "expected"),
    [
        ("nvenc", "h264", None, None, {"rc": "vbr", "b": "0", "cq": "16", "preset": "p4"}),
        ("nvenc", "h264", 0, "ultrafast", {"rc": "vbr", "b": "0", "cq": "1", "preset": "p1"}),
        ("nvenc", "hevc", None, "slow", {"rc": "vbr", "b": "0", "cq": "18", "preset": "p5"}),
        ("nvenc", "hevc", 51, "placebo", {"rc": "vbr", "b": "0", "cq": "51", "preset": "p7"}),
        ("nvenc", "av1", None, None, {"rc": "vbr", "b": "0", "cq": "24", "preset": "p4"}),
        ("nvenc", "av1", 63, "13", {"rc": "vbr", "b": "0", "cq": "63", "preset": "p1"}),
        ("qsv", "h264", None, None, {"global_quality": "16", "preset": "medium"}),
        ("qsv", "hevc", 0, "veryslow", {"global_quality": "1", "preset": "veryslow"}),
        ("qsv", "av1", 63, "0", {"global_quality": "51", "preset": "veryslow"}),
        ("amf", "h264", None, None, {"rc": "cqp", "qp_i": "16", "qp_p": "16", "qp_b": "16", "quality": "balanced"}),
        ("amf", "hevc", 0, "veryfast", {"rc": "cqp", "qp_i": "0", "qp_p": "0", "quality": "speed"}),
        ("amf", "av1", 63, "1", {"rc": "cqp", "qp_i": "255", "qp_p": "255", "qp_b": "255", "quality": "quality"}),
        ("videotoolbox", "h264", None, None, {"flags": "+qscale", "global_quality": str(69 * 118)}),
        ("videotoolbox", "hevc", 0, "slow", {"flags": "+qscale", "global_quality": str(100 * 118)}),
        ("videotoolbox", "hevc", 51, "fast", {"flags": "+qscale", "global_quality": "118"}),
        (
            "videotoolbox", "h264", 16, "ultrafast",
            {"flags": "+qscale", "global_quality": str(69 * 118), "prio_speed": "1"},
        ),
    ],
)  # fmt: skip
def test_settings_are_translated(
    family: str,
    codec: str,
    crf: int | None,
    preset: str | None,
    expected: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
):
    setup = setup_of(Encoding(codec, crf, preset), family, monkeypatch)
    assert setup == EncoderSetup(f"{codec}_{family}", setup.pixel_format, {"g": "250", **expected}, is_hardware=True)


@pytest.mark.parametrize(("codec", "family"), HARDWARE_ENCODERS)
def test_every_encoder_takes_8_and_10_bits_and_each_preset_of_the_software_encoder(
    codec: str, family: str, monkeypatch: pytest.MonkeyPatch
):
    presets = [*map(str, range(14))] if codec == "av1" else ["ultrafast", "medium", "placebo"]
    for pixel_format, expected in (("yuv420p", "nv12"), ("yuv420p10le", "p010le")):
        setups = [setup_of(Encoding(codec, preset=p), family, monkeypatch, pixel_format) for p in presets]
        assert {setup.pixel_format for setup in setups} == {expected}


@pytest.mark.parametrize("row", HARDWARE_ENCODERS.values(), ids=lambda row: row.encoder)
def test_a_better_crf_is_never_a_worse_quality(row: hardware_encoders.HardwareEncoder):
    levels = [[int(value) for value in row.quality(crf, 51).values()] for crf in range(52)]
    ordered = levels if row.worst > row.best else levels[::-1]
    assert ordered == sorted(ordered)
    assert len({tuple(level) for level in levels}) > 40


@pytest.mark.parametrize("row", HARDWARE_ENCODERS.values(), ids=lambda row: row.encoder)
def test_ffmpeg_knows_the_options(row: hardware_encoders.HardwareEncoder):
    """And their values are within its limits; otherwise it would ignore them."""
    if row.encoder not in av.codecs_available:
        pytest.skip(f"this build of FFmpeg has no {row.encoder}")
    supported = av.CodecContext.create(row.encoder, "w").supported_options
    known = {option.name: option for option in (*supported.private, *supported.generic)}
    best, worst = row.quality(0, 51), row.quality(51, 51)
    for options in ({"g": "250"}, dict(row.options), best, worst, *map(dict, row.presets)):
        for name, value in options.items():
            choices = [choice.name for choice in known[name].choices]
            if choices:
                assert value.strip("+") in choices, (name, value)
            else:
                assert known[name].min <= float(value) <= known[name].max, (name, value)


def test_a_preset_without_a_counterpart_is_refused(tmp_path: Path):
    """x264 also accepts numbers."""
    with pytest.raises(ClipError, match=r"h264_nvenc has no preset '5'; choose one of ultrafast, superfast"):
        write_numbers(tmp_path / "out.mp4", Encoding(preset="5", encoder="nvenc"))
    assert list_files(tmp_path) == []


@pytest.mark.parametrize("encoder", ["cuda", "libx264", "h264_auto", ""])
def test_an_unknown_encoder_is_an_error(tmp_path: Path, encoder: str):
    with pytest.raises(ClipError, match=f"the encoder '{encoder}' is unknown; choose one of software, auto, nvenc"):
        check_target(tmp_path / "out.mp4", encoding=Encoding(encoder=encoder))


# --- fallback


def write_numbers(path: Path, encoding: Encoding, count: int = 4) -> None:
    assert write_video(path, split_batches(numbered_frames(count, 256, 192)), CLIP_INFO, encoding=encoding) == count
    assert read_numbers(VideoClip(path)) == [*range(count)]
    assert list_files(path.parent) == [path.name]


@pytest.mark.parametrize("encoder", [name for name in ENCODERS if name not in ("software", "auto")])
@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_on_this_machine_every_choice_writes_the_video(tmp_path: Path, codec: str, encoder: str, lines):
    """With a GPU or without: it encodes, or one line states why not."""
    path = tmp_path / "out.mp4"
    write_numbers(path, Encoding(codec, encoder=encoder))
    (line,) = lines()
    assert line.startswith((f"{path}: is encoded with {codec}_{encoder}", f"{path}: is encoded with lib")), line


def test_the_software_encoder_logs_nothing(tmp_path: Path, lines):
    write_numbers(tmp_path / "out.mp4", Encoding())
    assert lines() == []


def test_a_missing_encoder_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines):
    monkeypatch.setattr(av, "codecs_available", {*av.codecs_available} - {"h264_nvenc"})
    write_numbers(tmp_path / "out.mp4", Encoding(encoder="nvenc"))
    reason = "h264_nvenc: this build of FFmpeg does not have it"
    assert lines() == [f"{tmp_path / 'out.mp4'}: is encoded with libx264 ({reason})"]


@pytest.mark.parametrize("failing", ["create", "encode"])
def test_an_encoder_that_fails_is_replaced(tmp_path: Path, failing: str, monkeypatch: pytest.MonkeyPatch, lines):
    """When it is opened, or because it returns nothing."""

    class Context:
        @staticmethod
        def create(name: str, _: str) -> Any:
            assert name == "h264_nvenc"
            if failing == "create":
                raise OSError(1, "no device")
            return Context()

        def encode(self, _: Any) -> list[Any]:
            return []

    monkeypatch.setattr(hardware_encoders, "_input_formats", lambda _: SEMI_PLANAR)
    monkeypatch.setattr(av, "CodecContext", Context)
    encoding = Encoding(encoder="nvenc")
    setup = choose_encoder(tmp_path / "out.mp4", "h264", CODECS["h264"], encoding, "yuv420p", (64, 48))
    assert (setup.name, setup.is_hardware) == ("libx264", False)
    reason = "it cannot be opened for 64x48: no device" if failing == "create" else "it returns no data"
    assert lines() == [f"{tmp_path / 'out.mp4'}: is encoded with libx264 (h264_nvenc: {reason})"]


def test_the_software_encoder_gets_the_same_options_as_without_a_request(tmp_path: Path, lines):
    encoding = Encoding("av1", crf=30, preset="10", pixel_format="yuv420p", encoder="videotoolbox")
    found, expected = (
        choose_encoder(tmp_path / "out.mp4", "av1", CODECS["av1"], each, "yuv420p", (3840, 2160))
        for each in (encoding, replace(encoding, encoder="software"))
    )
    assert found == expected
    reason = "videotoolbox: there is none for av1"
    assert lines() == [f"{tmp_path / 'out.mp4'}: is encoded with libsvtav1 ({reason})"]


@pytest.mark.parametrize(
    ("encoding", "reason"),
    [
        (Encoding("vp9", encoder="nvenc"), "is encoded with libvpx-vp9 (nvenc: there is none for vp9)"),
        (
            Encoding("hevc", pixel_format="yuv422p10le", encoder="nvenc"),
            "is encoded with libx265 (hevc_nvenc: it does not write yuv422p10le)",
        ),
    ],
)
def test_codecs_and_formats_without_hardware_encoders(tmp_path: Path, encoding: Encoding, reason: str, gpu: Any, lines):
    write_numbers(tmp_path / "out.mkv", encoding)
    assert lines() == [f"{tmp_path / 'out.mkv'}: {reason}"]
    assert [setup.is_hardware for setup in gpu] == [False]


def test_auto_tries_all_families_and_logs_no_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(av, "codecs_available", {name for name in av.codecs_available if name.startswith("lib")})
    with caplog.at_level(logging.INFO, "steadyscale"):
        write_numbers(tmp_path / "out.mp4", Encoding(encoder="auto"))
    (record,) = caplog.records
    missing = "; ".join(f"h264_{each}: this build of FFmpeg does not have it" for each in ("nvenc", "qsv", "amf"))
    assert record.getMessage() == f"{tmp_path / 'out.mp4'}: is encoded with libx264 ({missing})"
    assert record.levelno == logging.INFO


def test_the_name_of_one_encoder_has_no_replacement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(av, "codecs_available", {*av.codecs_available} - {"h264_nvenc"})
    for encoding, message in (
        (Encoding(encoder="h264_nvenc"), "h264_nvenc: this build of FFmpeg does not have it; run again where"),
        (Encoding("hevc", encoder="h264_nvenc"), "h264_nvenc: there is none for hevc"),
    ):
        with pytest.raises(ClipError, match=message):
            write_numbers(tmp_path / "out.mp4", encoding)
        assert list_files(tmp_path) == []


# --- writing


@pytest.mark.parametrize(
    ("encoding", "name", "pixel_format"),
    [
        (Encoding(encoder="nvenc"), "h264_nvenc", "nv12"),
        (Encoding("hevc", encoder="qsv"), "hevc_qsv", "nv12"),
        (Encoding("hevc", pixel_format="yuv420p10le", encoder="videotoolbox"), "hevc_videotoolbox", "p010le"),
        (Encoding("av1", encoder="amf"), "av1_amf", "p010le"),
        (Encoding("h264", pixel_format="yuv444p", encoder="h264_nvenc"), "h264_nvenc", "yuv444p"),
    ],
)
def test_frames_are_those_of_the_software_encoder(
    tmp_path: Path, encoding: Encoding, name: str, pixel_format: str, gpu: list[EncoderSetup], monkeypatch, lines
):
    """In the layout that the hardware encoder takes, with its timestamps and color tags, at odd sizes too."""
    encoded: list[tuple[Any, ...]] = []
    encode = writer._VideoWriter._encode
    formats: list[str] = []

    def record(self: Any, frame: av.VideoFrame | None) -> None:
        encode(self, frame)
        if frame is not None:
            tags = (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc)
            encoded.append((frame.format.name, frame.to_ndarray().tobytes(), tags))

    def record_move(frame: av.VideoFrame, *rest: Any) -> av.VideoFrame:
        moved = move(frame, *rest)
        formats.append(moved.format.name)
        return moved

    move = semi_planar.to_semi_planar
    monkeypatch.setattr(writer._VideoWriter, "_encode", record)
    monkeypatch.setattr(writer, "to_semi_planar", record_move)
    frames, info = numbered_frames(5, 131, 95), ClipInfo(131, 95, Fraction(24))
    for out, each in (("hardware.mp4", encoding), ("software.mp4", replace(encoding, encoder="software"))):
        assert write_video(tmp_path / out, split_batches(frames), info, encoding=each) == 5
    assert encoded[:5] == encoded[5:]
    assert formats == ([pixel_format] * 5 if pixel_format in SEMI_PLANAR else [])
    assert (gpu[0].name, gpu[0].pixel_format) == (name, pixel_format)
    assert lines() == [f"{tmp_path / 'hardware.mp4'}: is encoded with {name}"]
    hardware, software = (VideoClip(tmp_path / f"{kind}.mp4") for kind in ("hardware", "software"))
    # Drivers do not write where the chroma of AV1 is.
    location = software.stream_format.chroma_location if encoding.codec != "av1" else CENTER
    assert hardware.stream_format == replace(software.stream_format, chroma_location=location)
    assert read_numbers(hardware) == [*range(5)]


@pytest.mark.parametrize("name", ["libx265", "hevc_nvenc", "hevc_qsv", "hevc_amf", "hevc_videotoolbox"])
def test_apple_players_open_hevc_of_every_encoder(tmp_path: Path, name: str):
    if name not in av.codecs_available:
        pytest.skip(f"this build of FFmpeg has no {name}")
    frames, pixel_format = torch.zeros(1, 3, 48, 64), "yuv420p" if name == "libx265" else "nv12"
    output_format = OutputFormat.of(frames, CODECS["hevc"], Encoding("hevc"), None, tmp_path)
    with av.open(str(tmp_path / "out.mp4"), "w") as sink:
        setup = EncoderSetup(name, pixel_format, {})
        stream = add_video_stream(sink, output_format, setup, Fraction(24), Fraction(1, 24))
        assert stream.codec_context.codec_tag == "hvc1"


def test_uneven_timestamps_and_audio_of_the_source_are_kept(tmp_path: Path, gpu: list[EncoderSetup]):
    starts = [1000 * n + 200 * (n % 3) for n in range(20)]
    source = make_video(tmp_path / "in.mp4", 20, starts=starts, audio_start=0.1)
    clip, encoding = VideoClip(source), Encoding(encoder="nvenc")
    assert write_video(tmp_path / "out.mp4", clip.frames(), clip.info, encoding=encoding, source=source) == 20
    assert gpu[0].is_hardware
    for kind in ("video", "audio"):
        assert read_packet_times(tmp_path / "out.mp4", kind) == read_packet_times(source, kind)


def spoil_dts(packet: av.Packet, number: int, kind: str) -> None:
    assert packet.dts is not None
    if kind == "undefined":
        packet.dts = -(2**62)
    elif kind == "repeated" and number % 4 == 3:
        packet.dts -= 1  # that of the packet before
    elif kind == "absent":
        packet.dts = None


@pytest.mark.parametrize(("kind", "b_frames"), [("undefined", 0), ("repeated", 2), ("absent", 0), ("absent", 2)])
def test_invalid_decoding_timestamps_are_corrected(
    tmp_path: Path, kind: str, b_frames: int, gpu: list[EncoderSetup], monkeypatch: pytest.MonkeyPatch
):
    add_stream = vars(writer)["add_video_stream"]

    class Stream:
        """A stream whose encoder returns packets with such timestamps."""

        def __init__(self, stream: av.VideoStream) -> None:
            self._stream, self._count = stream, 0
            stream.codec_context.options = {**stream.codec_context.options, "bf": str(b_frames)}

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

        def encode(self, frame: av.VideoFrame | None) -> list[av.Packet]:
            packets = self._stream.encode(frame)
            for packet in packets:
                spoil_dts(packet, self._count, kind)
                self._count += 1
            return packets

    monkeypatch.setattr(writer, "add_video_stream", lambda *arguments: Stream(add_stream(*arguments)))
    write_numbers(tmp_path / "out.mp4", Encoding(encoder="nvenc"), 20)
    assert gpu[0].is_hardware
    with av.open(str(tmp_path / "out.mp4")) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        assert (sorted(p.pts for p in packets) != [p.pts for p in packets]) == (b_frames > 0), "frames are reordered"


# --- jobs


def run_segments(source: Path, target: Path, encoding: Encoding, fail_at: int | None = None) -> jobs.JobResult:
    def fail(frames: Iterator[torch.Tensor], _: int) -> Iterator[torch.Tensor]:
        for number, frame in enumerate(frames):
            if number == fail_at:
                raise KeyboardInterrupt
            yield frame

    with open_job(target.parent / "job", source) as job:
        clip = VideoClip(source)
        return jobs.run_job(job, clip, target, encoding=encoding, segment_seconds=0.5, progress=fail)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_video(tmp_path / "in.mp4", 48, size=(256, 192))


def test_a_job_uses_one_encoder_and_logs_the_reason_once(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, lines
):
    monkeypatch.setattr(av, "codecs_available", {*av.codecs_available} - {"h264_nvenc"})
    assert run_segments(source, tmp_path / "out.mp4", Encoding(encoder="nvenc")).segments == 4
    (line,) = lines()
    assert line.endswith("is encoded with libx264 (h264_nvenc: this build of FFmpeg does not have it)")
    assert read_numbers(VideoClip(tmp_path / "out.mp4")) == [*range(48)]


def test_a_job_goes_on_with_its_encoder_or_not_at_all(
    tmp_path: Path, source: Path, gpu: list[EncoderSetup], monkeypatch: pytest.MonkeyPatch
):
    """Segments of two encoders could not be joined; those that are finished stay."""
    out, encoding = tmp_path / "out.mp4", Encoding(encoder="auto")
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(KeyboardInterrupt):
        run_segments(source, out, encoding, fail_at=30)
    assert {setup.name for setup in gpu} == {"h264_nvenc"}
    with monkeypatch.context() as patch:
        patch.setattr(hardware_encoders, "_input_formats", lambda name: ["nv12"] if name != "h264_nvenc" else [])
        with pytest.raises(ClipError, match="h264_nvenc: it does not write yuv420p; run again where this"):
            run_segments(source, out, encoding)
    assert not out.exists()
    result = run_segments(source, out, encoding)
    assert (result.segments, result.reused) == (4, 2)
    assert {setup.name for setup in gpu} == {"h264_nvenc"}
    assert read_numbers(VideoClip(out)) == [*range(48)]
