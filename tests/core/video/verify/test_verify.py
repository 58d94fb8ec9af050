"""Verification accepts what write_video writes and finds every difference."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.packet import Packet
from numbered_video import make_video
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.codecs import Encoding
from steadyscale.core.video.encode.writer import write_video
from steadyscale.core.video.verify.verify import VerificationError, verify_output

COUNT = 24
VFR = [0, 40, 100, 130, 400, 410, 500, 560, 600, 640, 700, 720]


def copy_packets(
    source: Path,
    target: Path,
    *,
    change: Callable[[Packet, int], Packet | None] = lambda packet, number: packet,
    tracks: tuple[str, ...] = ("video", "audio"),
) -> Path:
    """Copy a file packet by packet.

    change: maps a packet and its number in the stream to the packet to write, or None.
    """
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        kinds = {s.index: s for s in old.streams if s.type in tracks}
        outputs = {index: new.add_stream_from_template(s, opaque=True) for index, s in kinds.items()}
        numbers = dict.fromkeys(kinds, 0)
        for packet in old.demux(*kinds.values()):
            index = packet.stream_index
            if packet.size and (changed := change(packet, numbers[index])) is not None:
                changed.stream = outputs[index]
                new.mux(changed)
            numbers[index] += 1
    return target


def shift(kind: str, seconds: float) -> Callable[[Packet, int], Packet]:
    def change(packet: Packet, number: int) -> Packet:
        if packet.stream.type == kind:
            ticks = round(seconds / packet.time_base)
            packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
        return packet

    return change


def drop_packets(kind: str, *numbers: int) -> Callable[[Packet, int], Packet | None]:
    return lambda packet, number: None if packet.stream.type == kind and number in numbers else packet


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 frames, each of them a key frame, so that any can be dropped; 0.43 s of audio from 0.5 s on."""
    return make_video(tmp_path_factory.mktemp("contract") / "in.mp4", COUNT, codec="mpeg4", audio_start=0.5)


AUDIO_FORMATS = [  # codec, rate, and two containers with different time bases
    ("aac", 48_000, ".mkv", ".mp4"),
    ("aac", 44_100, ".mp4", ".mkv"),
    ("aac", 44_100, ".flv", ".mov"),
    ("aac", 48_000, ".ts", ".mkv"),
    ("libmp3lame", 44_100, ".avi", ".mkv"),
    ("libmp3lame", 44_100, ".mkv", ".mp4"),
    ("pcm_s16le", 44_100, ".mov", ".mkv"),
    ("pcm_s16le", 44_100, ".mkv", ".mov"),
    ("alac", 44_100, ".mov", ".mkv"),
    ("ac3", 44_100, ".mkv", ".mp4"),
    ("libopus", 48_000, ".webm", ".mp4"),
    ("flac", 44_100, ".mkv", ".mp4"),
]


def make_long_audio(path: Path, codec: str, rate: int) -> Path:
    """Write 12 s at 24 fps and a tone, so long that rounding errors of packets add up."""
    with av.open(str(path), "w") as sink:
        video = sink.add_stream({".flv": "flv1", ".webm": "libvpx-vp9"}.get(path.suffix, "mpeg4"), rate=24)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = sink.add_stream(codec, rate=rate, layout="mono")
        sample_format = (audio.codec_context.codec.audio_formats or [av.AudioFormat("fltp")])[0].name
        resampler = av.AudioResampler(format=sample_format, layout="mono", rate=rate)
        for number in range(12 * 24):
            frame = av.VideoFrame(64, 48, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([number % 200]) * plane.buffer_size)
            frame.pts, frame.time_base = number, Fraction(1, 24)
            sink.mux(video.encode(frame))
            first, end = number * rate // 24, (number + 1) * rate // 24
            samples = np.sin(np.arange(first, end) * 0.05, dtype=np.float32)[None] * 0.5
            frame_of_audio = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame_of_audio.sample_rate, frame_of_audio.pts, frame_of_audio.time_base = rate, first, Fraction(1, rate)
            for resampled in resampler.resample(frame_of_audio):
                sink.mux(audio.encode(resampled))
        sink.mux([*audio.encode(None), *video.encode(None)])
    return path


def verification_error(result: Path, source: Path, frames: int = COUNT, info: ClipInfo | None = None) -> str:
    with pytest.raises(VerificationError) as error:
        verify_output(result, source, frame_count=frames, info=info or VideoClip(source).info)
    return str(error.value)


def test_a_stream_copy_is_accepted(source: Path, tmp_path: Path):
    verify_output(copy_packets(source, tmp_path / "copy.mp4"), source, frame_count=COUNT, info=VideoClip(source).info)
    verify_output(copy_packets(source, tmp_path / "copy.mkv"), source, frame_count=COUNT, info=VideoClip(source).info)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize(
    "kind",
    [
        {"audio_start": 0.5},
        {"audio_start": -0.1},
        {"fps": 60, "audio_start": 0.0},
        {"starts": VFR, "time_base": Fraction(1, 1000), "audio_start": 0.2},
        {"starts": [s + 777 for s in VFR], "time_base": Fraction(1, 1000), "audio_start": 0.0},
        {"starts": [i * 1001 for i in range(12)], "time_base": Fraction(1, 30_000), "audio_start": 0.1},
    ],
    ids=["late", "early", "60", "uneven", "starts late", "ntsc"],
)
def test_files_of_write_video_are_accepted(kind: dict, suffix: str, tmp_path: Path):
    clip = VideoClip(make_video(tmp_path / "in.mp4", 12, **kind))
    write_video(tmp_path / f"out{suffix}", clip.frames(), clip.info, source=clip.path)
    verify_output(tmp_path / f"out{suffix}", clip.path, frame_count=12, info=clip.info)


@pytest.mark.parametrize("container", ["ts", "avi"])
def test_sources_with_another_time_base_or_no_timestamps_are_accepted(container: str, tmp_path: Path):
    base = Fraction(1, 90_000) if container == "ts" else Fraction(1, 24)
    source = make_video(
        tmp_path / f"in.{container}", 12, time_base=base, audio_start=0.5 if container == "ts" else None
    )
    clip = VideoClip(source)
    write_video(tmp_path / "out.mp4", clip.frames(), clip.info, source=source)
    verify_output(tmp_path / "out.mp4", source, frame_count=12, info=clip.info)


def test_a_missing_frame_is_found(source: Path, tmp_path: Path):
    result = copy_packets(source, tmp_path / "out.mp4", change=drop_packets("video", 12))
    message = verification_error(result, source)
    assert "23 frames instead of 24" in message
    assert "the source has 24 frames, the result 23" in message


def test_different_timestamps_are_found(source: Path, tmp_path: Path):
    def late(packet: Packet, number: int) -> Packet:
        if packet.stream.type == "video" and number == 7:
            packet.pts += round(0.01 / packet.time_base)
        return packet

    assert "the timestamps of 1 frames differ, that of frame 7 by 0.010 s" in verification_error(
        copy_packets(source, tmp_path / "late.mp4", change=late), source
    )
    even = VideoClip(make_video(tmp_path / "vfr.mp4", 12, starts=VFR, time_base=Fraction(1, 1000)))
    write_video(tmp_path / "even.mp4", even.frames(), even.info)
    assert "the timestamps of 11 frames differ" in verification_error(tmp_path / "even.mp4", even.path, 12)


@pytest.mark.parametrize("seconds", [0.1, -0.1])
def test_audio_out_of_sync_is_found(seconds: float, source: Path, tmp_path: Path):
    message = verification_error(copy_packets(source, tmp_path / "audio.mp4", change=shift("audio", seconds)), source)
    assert f"audio track 1 starts {seconds:+.3f} s late" in message
    assert f"audio track 1 ends {seconds:+.3f} s late" in message
    shifted_video = copy_packets(source, tmp_path / "video.mkv", change=shift("video", abs(seconds)))
    assert "the timestamps of 24 frames differ" in verification_error(shifted_video, source)


def test_missing_audio_is_found(source: Path, tmp_path: Path):
    silent = copy_packets(source, tmp_path / "silent.mp4", tracks=("video",))
    assert "the source has 1 audio tracks, the result 0" in verification_error(silent, source)
    ends = copy_packets(source, tmp_path / "ends.mp4", change=drop_packets("audio", *range(15, 30)))
    assert "audio track 1 ends -0." in verification_error(ends, source)
    hole = copy_packets(source, tmp_path / "hole.mkv", change=drop_packets("audio", *range(5, 10)))
    assert "audio track 1 is -0.1" in verification_error(hole, source)


@pytest.mark.parametrize(("codec", "rate", "was", "becomes"), AUDIO_FORMATS)
def test_rounding_of_packet_durations_is_no_difference(codec: str, rate: int, was: str, becomes: str, tmp_path: Path):
    source = make_long_audio(tmp_path / f"in{was}", codec, rate)
    clip = VideoClip(source)
    write_video(tmp_path / f"out{becomes}", clip.frames(8), clip.info, source=source)
    verify_output(tmp_path / f"out{becomes}", source, frame_count=12 * 24, info=clip.info)
    lost = copy_packets(
        tmp_path / f"out{becomes}", tmp_path / f"lost{becomes}", change=drop_packets("audio", *range(5, 12))
    )
    assert "audio track 1 is -0." in verification_error(lost, source, 12 * 24)


def test_a_gap_that_a_container_covers_with_a_longer_packet_is_found(source: Path, tmp_path: Path):
    gap = copy_packets(source, tmp_path / "hole.mp4", change=drop_packets("audio", *range(5, 10)))
    assert "audio track 1 is -0.1" in verification_error(gap, source)


def test_doubled_audio_is_found(source: Path, tmp_path: Path):
    with av.open(str(source)) as old, av.open(str(tmp_path / "twice.mkv"), "w") as new:
        outputs = [new.add_stream_from_template(s, opaque=True) for s in old.streams]
        for packet in old.demux():
            if packet.size:
                twin = Packet(bytes(packet))
                twin.pts, twin.dts, twin.time_base = packet.pts, packet.dts, packet.time_base
                twin.stream = packet.stream = outputs[packet.stream_index]
                new.mux([packet, twin] if twin.stream.type == "audio" else packet)
    assert "audio track 1 is +0.4" in verification_error(tmp_path / "twice.mkv", source)


def test_another_frame_size_is_found(source: Path, tmp_path: Path):
    result = copy_packets(source, tmp_path / "out.mp4")
    info = VideoClip(source).info
    verify_output(result, source, frame_count=COUNT, info=info.resized(63, 47))  # an odd size is padded
    assert "64x48 instead of 62x48" in verification_error(result, source, info=info.resized(62, 48))
    assert "64x48 instead of 65x48" in verification_error(result, source, info=info.resized(65, 48))


def make_tagged_video(path: Path, matrix: int, full: bool, primaries: int, transfer: int) -> Path:
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_range = matrix, 2 if full else 1
        context.color_primaries, context.color_trc = primaries, transfer
        for number in range(3):
            frame = av.VideoFrame(64, 48, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.pts, frame.time_base = number, Fraction(1, 24)
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("tags", "wrong"),
    [
        ((9, False, 1, 1), "the color matrix was 1 and is 9"),
        ((5, False, 1, 1), "the color matrix was 1 and is 5"),
        ((1, True, 1, 1), "the color full range was False and is True"),
        ((1, False, 9, 1), "the color primaries was 1 and is 9"),
        ((1, False, 1, 16), "the color transfer was 1 and is 16"),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_wrong_color_tag_is_found(tags: tuple, wrong: str, suffix: str, tmp_path: Path):
    source = make_tagged_video(tmp_path / "in.mp4", 1, False, 1, 1)
    info = VideoClip(source).info
    verify_output(make_tagged_video(tmp_path / f"good{suffix}", 1, False, 1, 1), source, frame_count=3, info=info)
    message = verification_error(make_tagged_video(tmp_path / f"bad{suffix}", *tags), source, 3)
    assert message.endswith(f"failed verification: {wrong}")


def test_a_matrix_without_a_tag_is_the_one_that_players_use(tmp_path: Path):
    source = make_tagged_video(tmp_path / "in.mp4", 2, False, 2, 2)
    info = VideoClip(source).info
    verify_output(make_tagged_video(tmp_path / "6.mp4", 6, False, 6, 6), source, frame_count=3, info=info)
    verify_output(make_tagged_video(tmp_path / "5.mp4", 5, False, 2, 2), source, frame_count=3, info=info)
    assert "matrix was 5 and is 1" in verification_error(
        make_tagged_video(tmp_path / "1.mp4", 1, False, 1, 1), source, 3
    )


def test_without_a_source_frames_are_evenly_spaced(tmp_path: Path):
    clip = VideoClip(make_video(tmp_path / "in.mp4", 12))
    write_video(tmp_path / "out.mkv", clip.frames(), clip.info, encoding=Encoding("ffv1"))
    verify_output(tmp_path / "out.mkv", None, frame_count=12, info=clip.info)
    with pytest.raises(VerificationError, match="12 frames instead of 13"):
        verify_output(tmp_path / "out.mkv", None, frame_count=13, info=clip.info)
    uneven = make_video(tmp_path / "vfr.mp4", 12, starts=VFR, time_base=Fraction(1, 1000))
    with pytest.raises(VerificationError, match="the timestamps of 11 frames differ"):
        verify_output(uneven, None, frame_count=12, info=clip.info)


def test_corruption_is_found_by_decoding_every_frame(tmp_path: Path):
    source = make_video(tmp_path / "in.mp4", COUNT)

    def damage(packet: Packet, number: int) -> Packet:
        if number == 8:
            content = bytearray(bytes(packet))
            content[len(content) // 3 :] = bytes(len(content) - len(content) // 3)
            changed = Packet(bytes(content))
            changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
            changed.duration, changed.is_keyframe = packet.duration, packet.is_keyframe
            changed.stream = packet.stream
            return changed
        return packet

    with pytest.raises(ClipError, match=r"cannot be read|are corrupt|frames instead of"):
        verify_output(
            copy_packets(source, tmp_path / "out.mp4", change=damage),
            source,
            frame_count=COUNT,
            info=VideoClip(source).info,
        )


def test_a_file_that_is_no_video_is_another_error(source: Path, tmp_path: Path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ClipError, match="cannot be read as video"):
        verify_output(tmp_path / "text.mp4", source, frame_count=COUNT, info=VideoClip(source).info)


def test_verification_shares_no_code_about_times_with_decoding():
    """It would repeat the faults of that code, and not find them."""
    imported = {
        f"{node.module}.{alias.name}"
        for file in Path(inspect.getfile(verify_output)).parent.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("decode")
        for alias in node.names
    }
    about_times = {name for name in imported if not name.startswith(("decode.packets.demux", "decode.packets.ebml"))}
    assert about_times == {"decode.timestamps.TimeRange"}, "only the setting that both get"
