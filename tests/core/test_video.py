from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import VideoReformatter
from counting import make_video, number_of, numbered, numbers_of
from steadyscale.core import media
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.flow import luma
from steadyscale.core.video import CODECS, CONTAINERS, Encoding, VideoClip, write_video

INFO = ClipInfo(64, 48, Fraction(24))


def batches(frames: torch.Tensor, size: int = 5):
    return iter(frames.split(size))


def packet_times(path: Path, kind: str) -> list[Fraction]:
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return sorted(p.pts * p.time_base for p in container.demux(stream) if p.pts is not None)


def packet_bytes(path: Path, kind: str) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(getattr(container.streams, kind)[0]) if p.size]


def remains(folder: Path) -> list[str]:
    return sorted(f.name for f in folder.iterdir())


# --- reading


@pytest.mark.parametrize("batch", [1, 5, 12, 100])
def test_all_frames_come_in_order_at_every_batch_size(clip_file: Path, batch: int):
    clip = VideoClip(clip_file)
    assert clip.info == ClipInfo(64, 48, Fraction(24), 12)
    sizes = [len(frames) for frames in clip.frames(batch)]
    assert max(sizes) <= batch
    assert numbers_of(clip, batch) == list(range(12))
    assert numbers_of(clip, batch) == list(range(12)), "a second pass starts anew"


def test_frames_are_float_in_range_and_contiguous(clip_file: Path):
    frames = next(VideoClip(clip_file).frames(4))
    assert frames.dtype == torch.float32
    assert frames.shape == (4, 3, 48, 64)
    assert frames.is_contiguous()
    assert 0 <= float(frames.min()) < 0.02 < 0.98 < float(frames.max()) <= 1


def test_a_batch_is_not_overwritten_by_the_next(clip_file: Path):
    assert [number_of(f) for chunk in list(VideoClip(clip_file).frames(5)) for f in chunk] == list(range(12))


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_video_comes_upright(tmp_path: Path, rotation: int):
    stored = make_video(tmp_path / "r.mp4", 3, rotation=rotation)
    plain = make_video(tmp_path / "p.mp4", 3)
    clip = VideoClip(stored)
    assert (clip.info.width, clip.info.height) == ((64, 48) if rotation == 180 else (48, 64))
    for turned, straight in zip(clip.frames(), VideoClip(plain).frames(), strict=True):
        assert torch.allclose(turned, torch.rot90(straight, rotation // 90, dims=(2, 3)), atol=2 / 255)


KR_KB = {"601": (0.299, 0.114), "709": (0.2126, 0.0722)}
PATCHES = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1), (0.75, 0.25, 0.5), (1, 1, 1), (0, 0, 0)]


def as_yuv(rgb, matrix: str, full: bool) -> list[int]:
    """ITU-R BT.601 / BT.709, in 8 bits."""
    kr, kb = KR_KB[matrix]
    r, g, b = rgb
    y = kr * r + (1 - kr - kb) * g + kb * b
    u, v = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    numbers = (255 * y, 255 * u + 128, 255 * v + 128) if full else (16 + 219 * y, 128 + 224 * u, 128 + 224 * v)
    return [min(255, max(0, round(n))) for n in numbers]


def patches_video(path: Path, matrix: str, full: bool, tagged: bool, height: int = 48) -> Path:
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, height, "yuv420p"
        if tagged:
            stream.codec_context.colorspace = 1 if matrix == "709" else 5
            stream.codec_context.color_range = 2 if full else 1
        for rgb in PATCHES:
            frame = av.VideoFrame(64, height, "yuv420p")
            for plane, value in zip(frame.planes, as_yuv(rgb, matrix, full), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", ["601", "709"])
def test_tagged_colours_are_read_by_the_standard(tmp_path: Path, matrix: str, full: bool):
    clip = VideoClip(patches_video(tmp_path / "p.mkv", matrix, full, tagged=True))
    for frames, rgb in zip(clip.frames(), PATCHES, strict=True):
        assert frames[0].sub(torch.tensor(rgb).view(3, 1, 1)).abs().max() * 255 <= 2.01


@pytest.mark.parametrize(("height", "matrix"), [(576, "601"), (578, "709")])
def test_untagged_colours_are_read_by_height(tmp_path: Path, height: int, matrix: str):
    clip = VideoClip(patches_video(tmp_path / "p.mkv", matrix, False, tagged=False, height=height))
    for frames, rgb in zip(clip.frames(), PATCHES, strict=True):
        assert frames[0].sub(torch.tensor(rgb).view(3, 1, 1)).abs().max() * 255 <= 2.01


def test_ten_bits_are_kept(tmp_path: Path):
    ramp = torch.linspace(0, 1, 1024).view(1, 1, 1, 1024).expand(1, 3, 16, 1024)
    out = tmp_path / "ramp.mkv"
    write_video(out, iter([ramp]), INFO, encoding=Encoding("ffv1", pixel_format="yuv444p10le"))
    back = next(VideoClip(out).frames())
    assert len(back[0, 0, 8].unique()) > 800
    assert (back - ramp).abs().max() < 2 / 255


# --- what is not a clip


def test_zero_bytes(tmp_path: Path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ClipError, match=r"empty\.mp4: the file has 0 bytes"):
        VideoClip(tmp_path / "empty.mp4")


def test_text(tmp_path: Path):
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    with pytest.raises(ClipError, match=r"text\.mp4: not a video"):
        VideoClip(tmp_path / "text.mp4")


def test_missing_file_and_folder(tmp_path: Path):
    with pytest.raises(ClipError, match="no such file"):
        VideoClip(tmp_path / "nothing.mp4")
    with pytest.raises(ClipError, match="not a file"):
        VideoClip(tmp_path)


@pytest.mark.parametrize("name", ["evil.mp4", "evil.ffconcat"])
def test_a_playlist_is_refused(tmp_path: Path, clip_file: Path, name: str):
    (tmp_path / name).write_text(f"ffconcat version 1.0\nfile {clip_file.name}\n")
    with pytest.raises(ClipError, match="not a video"):
        VideoClip(tmp_path / name)


def test_a_name_is_never_a_pattern_or_a_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a %d b.mp4", "-dash.mp4", "ümlaut:x.mp4"):
        make_video(tmp_path / "plain.mp4", 3).rename(name)
        assert numbers_of(VideoClip(name)) == [0, 1, 2]


def test_index_lost(tmp_path: Path):
    whole = make_video(tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ClipError, match=r"cut\.mp4: not a video that can be read"):
        VideoClip(tmp_path / "cut.mp4")


def test_cut_off_after_the_index(tmp_path: Path):
    good = tmp_path / "good.mp4"
    write_video(good, batches(torch.rand(40, 3, 48, 64)), INFO)
    data = good.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(ClipError, match=r"cut\.mp4: the file is cut off: \d+ of 40 frames"):
        VideoClip(tmp_path / "cut.mp4")


def test_sound_only(tmp_path: Path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as sink:
        sound = sink.add_stream("aac", rate=48000, layout="mono")
        piece = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        piece.sample_rate = 48000
        sink.mux(sound.encode(piece))
        sink.mux(sound.encode(None))
    with pytest.raises(ClipError, match="no video stream in this file, it holds audio"):
        VideoClip(tmp_path / "sound.mp4")


def test_no_frames(tmp_path: Path):
    with av.open(str(tmp_path / "none.mkv"), "w") as sink:
        picture, sound = sink.add_stream("ffv1", rate=24), sink.add_stream("pcm_s16le", rate=48000, layout="mono")
        picture.width, picture.height = 64, 48
        piece = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        piece.sample_rate = 48000
        sink.mux(sound.encode(piece))
    with pytest.raises(ClipError, match=r"none\.mkv: .*no frames"):
        VideoClip(tmp_path / "none.mkv")


def test_size_limit_is_checked_before_decoding(tmp_path: Path):
    big = make_video(tmp_path / "big.mkv", 1, size=(2048, 1024))
    with pytest.raises(ClipError, match="2048x1024 exceed the limit of 1,000,000 pixels"):
        VideoClip(big, max_pixels=1_000_000)


def test_size_change_in_the_middle(tmp_path: Path):
    streams = b""
    for name, size in (("a.h264", (64, 48)), ("b.h264", (96, 48))):
        streams += make_video(tmp_path / name, 3, size=size).read_bytes()
    (tmp_path / "both.h264").write_bytes(streams)
    with pytest.raises(ClipError, match="frame 3 is 96x48, those before are 64x48"):
        list(VideoClip(tmp_path / "both.h264").frames())


# --- writing


@pytest.mark.parametrize("count", [1, 2, 12])
@pytest.mark.parametrize("suffix", list(CONTAINERS))
def test_frames_out_are_frames_in(tmp_path: Path, suffix: str, count: int):
    out = tmp_path / f"out{suffix}"
    assert write_video(out, batches(numbered(count)), INFO) == count
    clip = VideoClip(out)
    assert numbers_of(clip) == list(range(count))
    assert [round(float(t), 3) for t in packet_times(out, "video")] == [round(i / 24, 3) for i in range(count)]
    assert remains(tmp_path) == [out.name]


@pytest.mark.parametrize(("codec", "suffix"), [(c, s) for s, box in CONTAINERS.items() for c in box.codecs])
def test_every_codec_in_every_container(tmp_path: Path, codec: str, suffix: str):
    out = tmp_path / f"out{suffix}"
    assert write_video(out, batches(numbered(3, 128, 96)), INFO, encoding=Encoding(codec)) == 3
    clip = VideoClip(out)
    assert numbers_of(clip) == [0, 1, 2]
    expected = {"av1": "libdav1d"}.get(codec, codec)
    assert clip.stored.codec in (expected, codec)


def nearly_lossless(codec: str) -> Encoding:
    return Encoding(codec, crf=2 if CODECS[codec].crf is not None else None)


@pytest.mark.parametrize("height", [48, 720])
@pytest.mark.parametrize("name", ["h264.mp4", "hevc.mp4", "prores.mov", "ffv1.mkv"])
def test_saturated_colours_come_back(tmp_path: Path, name: str, height: int):
    out, codec = tmp_path / name, name.split(".")[0]
    frames = torch.tensor(PATCHES, dtype=torch.float32).view(-1, 3, 1, 1).expand(-1, 3, height, 64)
    write_video(out, batches(frames), INFO, encoding=nearly_lossless(codec))
    back = torch.cat(list(VideoClip(out).frames()))
    assert (back - frames).abs().max() * 255 <= 3
    if codec != "ffv1":
        with av.open(str(out)) as container:
            assert container.streams.video[0].colorspace == (1 if height > 576 else 6), "the matrix is tagged"


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", ["601", "709"])
def test_the_colour_description_of_the_source_is_kept(tmp_path: Path, matrix: str, full: bool):
    source = patches_video(tmp_path / "source.mkv", matrix, full, tagged=True)
    frames = torch.cat(list(VideoClip(source).frames()))
    large = frames.repeat_interleave(20, 2)  # crosses the line above which 709 would be assumed
    out = tmp_path / "out.mp4"
    write_video(out, batches(large), INFO, encoding=nearly_lossless("h264"), source=source)
    stored = VideoClip(out).stored
    assert stored.matrix in ((5, 6) if matrix == "601" else (1,))
    assert stored.full_range is full
    for back, rgb in zip(VideoClip(out).frames(), PATCHES, strict=True):
        assert back[0].sub(torch.tensor(rgb).view(3, 1, 1)).abs().max() * 255 <= 3.01


def test_hdr_keeps_its_tags_and_is_not_cut_to_eight_bits(tmp_path: Path):
    source = tmp_path / "hdr.mkv"
    with av.open(str(source), "w") as sink:
        stream = sink.add_stream("libx265", rate=24, options={"x265-params": "log-level=error"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, 16, 1
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8), format="rgb24")
        for _ in range(4):  # of shorter streams libx265 leaves the decoding times to chance
            sink.mux(stream.encode(frame.reformat(format="yuv420p10le", dst_colorspace=9)))
        sink.mux(stream.encode(None))
    clip = VideoClip(source)
    with pytest.raises(ClipError, match=r"HDR.*yuv420p10le"):
        write_video(tmp_path / "out.mp4", clip.frames(), clip.info, source=source)
    ten = Encoding("hevc", pixel_format="yuv420p10le")
    write_video(tmp_path / "out.mp4", clip.frames(), clip.info, encoding=ten, source=source)
    stored = VideoClip(tmp_path / "out.mp4").stored
    assert (stored.matrix, stored.primaries, stored.transfer, stored.pixel_format) == (9, 9, 16, "yuv420p10le")


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (255, 143), (64, 47)])
def test_odd_sizes_are_filled_by_a_copy_of_the_edge(
    tmp_path: Path, size: tuple[int, int], caplog: pytest.LogCaptureFixture
):
    width, height = size
    ramp = torch.linspace(0.2, 0.8, width).view(1, 1, 1, width).expand(2, 3, height, width)
    out = tmp_path / "odd.mp4"
    assert write_video(out, iter([ramp]), INFO) == 2
    assert "repeating the last column or row" in caplog.text
    back = next(VideoClip(out).frames(2))
    assert back.shape[2:] == (height + height % 2, width + width % 2)
    assert (back[:, :, :height, :width] - ramp).abs().max() < 0.04
    assert (back[:, :, -1] - back[:, :, height - 1]).abs().max() < 0.04
    assert (back[..., -1] - back[..., width - 1]).abs().max() < 0.04


def test_odd_sizes_stay_where_the_format_can(tmp_path: Path):
    write_video(tmp_path / "odd.mkv", iter([torch.rand(1, 3, 5, 7)]), INFO, encoding=Encoding("ffv1"))
    info = VideoClip(tmp_path / "odd.mkv").info
    assert (info.width, info.height) == (7, 5)


def see_through(count: int = 3) -> torch.Tensor:
    alpha = torch.linspace(0, 1, 64).view(1, 1, 1, 64).expand(count, 1, 48, 64)
    return torch.cat([numbered(count), alpha], dim=1)


@pytest.mark.parametrize(("codec", "suffix"), [("prores", ".mov"), ("ffv1", ".mkv"), ("vp9", ".webm"), ("vp9", ".mkv")])
def test_alpha_is_kept(tmp_path: Path, codec: str, suffix: str):
    out = tmp_path / f"alpha{suffix}"
    frames = see_through()
    assert write_video(out, batches(frames), INFO, encoding=Encoding(codec)) == 3
    back = torch.cat(list(VideoClip(out).frames()))
    assert back.shape == frames.shape
    assert (back[:, 3] - frames[:, 3]).abs().max() < 0.03
    assert (back[:, :3] - frames[:, :3]).abs().mean() < 0.03


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_alpha_is_never_lost_silently(tmp_path: Path, codec: str):
    with pytest.raises(ClipError, match=r"transparency.*vp9.*prores.*ffv1.*PNG"):
        write_video(tmp_path / "out.mp4", batches(see_through()), INFO, encoding=Encoding(codec))
    assert remains(tmp_path) == []


def test_opaque_alpha_is_no_loss(tmp_path: Path):
    frames = torch.cat([numbered(3), torch.ones(3, 1, 48, 64)], dim=1)
    write_video(tmp_path / "out.mp4", batches(frames), INFO)
    assert numbers_of(VideoClip(tmp_path / "out.mp4")) == [0, 1, 2]


# --- what is taken over from the source


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("late", [0.5, 0.0, 0.21])
def test_sound_is_copied_at_its_offset(tmp_path: Path, suffix: str, late: float):
    source = make_video(tmp_path / "source.mp4", audio_at=late, metadata={"title": "twelve bars"})
    out = tmp_path / f"out{suffix}"
    assert write_video(out, batches(numbered(12, 128, 96)), INFO, source=source) == 12
    assert packet_bytes(out, "audio") == packet_bytes(source, "audio"), "the packets are the source's own"
    before = packet_times(source, "audio")[0] - packet_times(source, "video")[0]
    after = packet_times(out, "audio")[0] - packet_times(out, "video")[0]
    assert abs(after - before) <= Fraction(1, 1000)
    with av.open(str(out)) as container:
        assert container.metadata["title"] == "twelve bars"


def test_all_sound_tracks_and_their_languages(tmp_path: Path):
    source = tmp_path / "two.mkv"
    make_video(tmp_path / "one.mkv", 6, audio_at=0)
    with av.open(str(tmp_path / "one.mkv")) as old, av.open(str(source), "w") as sink:
        video, first = old.streams
        outs = [sink.add_stream_from_template(s) for s in (video, first, first)]
        for out, language in zip(outs[1:], ("eng", "deu"), strict=True):
            out.metadata["language"] = language
        for packet in list(old.demux(video, first)):
            if packet.size and packet.stream_index == 0:
                packet.stream = outs[0]
                sink.mux(packet)
            elif packet.size:
                twin = av.Packet(bytes(packet))
                twin.pts, twin.dts, twin.time_base, twin.stream = packet.pts, packet.dts, packet.time_base, outs[2]
                packet.stream = outs[1]
                sink.mux([packet, twin])
    out = tmp_path / "out.mp4"
    write_video(out, batches(numbered(6)), INFO, source=source)
    with av.open(str(out)) as container:
        assert [s.language for s in container.streams.audio] == ["eng", "deu"]


def test_sound_that_does_not_fit_is_reencoded_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    source = make_video(tmp_path / "source.mp4", audio_at=0.5)
    out = tmp_path / "out.webm"
    write_video(out, batches(numbered(12)), INFO, source=source)
    assert "re-encoded to libopus" in caplog.text
    with av.open(str(out)) as container:
        sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert abs(len(sound) - 20 * 1024) < 3000
    assert 0.2 < np.abs(sound[4000:16000]).max() < 0.8
    assert abs(float(packet_times(out, "audio")[0]) - 0.5) < 0.05


UNEVEN = list(itertools.accumulate([0, 1000, 1000, 3000, 500, 1500, 1000, 7000, 1000, 1000]))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".mov"])
@pytest.mark.parametrize("offset", [0, 6000])
def test_uneven_timestamps_are_kept(tmp_path: Path, suffix: str, offset: int):
    source = make_video(tmp_path / "source.mp4", starts=[s + offset for s in UNEVEN])
    out = tmp_path / f"out{suffix}"
    clip = VideoClip(source)
    assert write_video(out, clip.frames(3), clip.info, source=source) == len(UNEVEN)
    assert numbers_of(VideoClip(out)) == list(range(len(UNEVEN)))
    expected = packet_times(source, "video")
    assert expected == [Fraction(s + offset, 24000) for s in UNEVEN]
    for was, now in zip(expected, packet_times(out, "video"), strict=True):
        assert abs(was - now) <= Fraction(1, 1000)


def test_a_broadcast_starts_at_zero(tmp_path: Path):
    starts = [900_000 + 3750 * i for i in range(8)]
    source = make_video(tmp_path / "source.ts", base=Fraction(1, 90000), starts=starts, audio_at=10.1)
    out = tmp_path / "out.mp4"
    clip = VideoClip(source)
    write_video(out, clip.frames(), clip.info, source=source)
    assert float(packet_times(out, "video")[0]) < 0.2
    gap = packet_times(source, "audio")[0] - packet_times(source, "video")[0]
    assert abs(packet_times(out, "audio")[0] - packet_times(out, "video")[0] - gap) <= Fraction(1, 1000)


def test_rotation_is_applied_once(tmp_path: Path):
    source = make_video(tmp_path / "source.mp4", 3, rotation=90, pixel_aspect=Fraction(4, 3))
    clip = VideoClip(source)
    out = tmp_path / "out.mp4"
    write_video(out, clip.frames(), clip.info, source=source)
    again = VideoClip(out)
    assert (again.info.width, again.info.height) == (48, 64)
    assert again.stored.orientation.transpose is False
    assert again.stored.pixel_aspect == Fraction(3, 4), "the pixel's shape turns with the picture"
    for a, b in zip(clip.frames(), again.frames(), strict=True):
        assert (a - b).abs().mean() < 0.02


@pytest.mark.parametrize("count", [11, 13])
def test_another_number_of_frames_than_the_source_is_an_error(tmp_path: Path, clip_file: Path, count: int):
    with pytest.raises(ClipError, match=r"12.*source|source.*12"):
        write_video(tmp_path / "out.mp4", batches(numbered(count)), INFO, source=clip_file)
    assert remains(tmp_path) == [clip_file.name]


# --- nothing half-written


def test_no_frames_is_an_error(tmp_path: Path):
    with pytest.raises(ClipError, match="no frames to write"):
        write_video(tmp_path / "out.mp4", iter(()), INFO)
    assert remains(tmp_path) == []


def failing_after(count: int, error: BaseException):
    yield numbered(count)
    raise error


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt(), ClipError("source broke")])
def test_an_error_upstream_leaves_nothing_and_comes_through(tmp_path: Path, error: BaseException):
    (tmp_path / "out.mp4").write_bytes(b"an earlier result")
    with pytest.raises(type(error)):
        write_video(tmp_path / "out.mp4", failing_after(5, error), INFO)
    assert remains(tmp_path) == ["out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"an earlier result"


def test_a_change_of_size_is_an_error(tmp_path: Path):
    frames = iter([numbered(2), numbered(1, 32, 32)])
    with pytest.raises(ClipError, match=r"frame 2 has .*\(3, 32, 32\), those before have \(3, 48, 64\)"):
        write_video(tmp_path / "out.mp4", frames, INFO)
    assert remains(tmp_path) == []


def test_values_that_are_no_numbers_are_an_error(tmp_path: Path):
    frames = numbered(4)
    frames[2, 1, 5, 5] = float("nan")
    with pytest.raises(ClipError, match="frame 2 holds values that are no numbers"):
        write_video(tmp_path / "out.mp4", batches(frames), INFO)


def test_the_source_is_never_replaced(tmp_path: Path, clip_file: Path):
    (tmp_path / "link.mp4").symlink_to(clip_file)
    before = clip_file.read_bytes()
    for name in (clip_file.name, "link.mp4"):
        with pytest.raises(ClipError, match="source itself"):
            write_video(tmp_path / name, batches(numbered(12)), INFO, source=clip_file)
    assert clip_file.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "encoding", "message"),
    [
        ("out.gif", Encoding(), r"\.mp4.*not as '\.gif'"),
        ("out.mp4", Encoding("prores"), r"not prores; write \.mov or \.mkv"),
        ("out.mp4", Encoding("h265"), "the codecs are h264, hevc"),
        ("out.mp4", Encoding(crf=99), "crf 99 is outside 0"),
        ("out.mov", Encoding("prores", crf=5), "prores has no crf"),
        ("out.mp4", Encoding(pixel_format="rgb48le"), "does not write rgb48le"),
        ("out.mp4", Encoding(preset="warp"), "writing failed in libx264 at 64x48"),
        ("nowhere/out.mp4", Encoding(), "does not exist; create it first"),
    ],
)
def test_impossible_encodings_say_what_is_possible(tmp_path: Path, name: str, encoding: Encoding, message: str):
    with pytest.raises(ClipError, match=message):
        write_video(tmp_path / name, batches(numbered(2)), INFO, encoding=encoding)
    assert remains(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_in_the_middle(tmp_path: Path):
    script = (
        "import sys, torch; from fractions import Fraction\n"
        "from steadyscale.core.clip import ClipInfo\n"
        "from steadyscale.core.video import write_video\n"
        "def frames():\n"
        "    for i in range(10**6):\n"
        "        if i == 30: print('running', flush=True)\n"
        "        yield torch.rand(1, 3, 48, 64)\n"
        "write_video(sys.argv[1], frames(), ClipInfo(64, 48, Fraction(24)))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "out.mp4")], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "running\n"
    time.sleep(0.1)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert not (tmp_path / "out.mp4").exists()
    assert all(name.startswith(".") and name.endswith(".partial") for name in remains(tmp_path))


@pytest.mark.parametrize("count", [1, 2])
def test_the_shortest_hevc_is_written_every_time(tmp_path: Path, count: int):
    """libx265 leaves the decoding times of so few frames to chance: without care, one in five fails."""
    for _ in range(15):
        info = ClipInfo(64, 64, Fraction(24))
        write_video(tmp_path / "out.mp4", batches(torch.rand(count, 3, 64, 64)), info, encoding=Encoding("hevc"))
        assert packet_times(tmp_path / "out.mp4", "video") == [Fraction(i, 24) for i in range(count)]


@pytest.mark.parametrize("rotation", [0, 90])
def test_greys_are_the_reduced_brightness_of_the_frames(tmp_path: Path, rotation: int):
    film = VideoClip(make_video(tmp_path / "r.mp4", 3, rotation=rotation))
    small = film.info.within(32)
    assert max(small.width, small.height) == 32
    greys = list(film.greys(32))
    assert len(greys) == 3
    for grey, frame in zip(greys, film.frames(), strict=True):
        truth = torch.nn.functional.interpolate(luma(frame), grey.shape[-2:], mode="area")
        assert grey.shape == (1, 1, small.height, small.width)
        assert (grey - truth).abs().mean() < 0.02


# --- pixels by the plane


SOURCES = ["yuv420p", "yuv444p", "yuva420p", "gray", "gray10le", "gbrp", "rgba", "bgr0", "yuv420p10le", "yuva444p10le"]


@pytest.mark.parametrize(
    ("pixel_format", "alpha"),
    [(f, alpha) for f in SOURCES for alpha in (False, True) if media.has_alpha(f) or not alpha],
)
def test_planes_are_the_packed_picture(pixel_format: str, alpha: bool):
    noise = np.random.default_rng(1).integers(0, 256, (46, 70, 4), np.uint8)  # 70: rows are longer in memory
    frame = av.VideoFrame.from_ndarray(noise, format="rgba").reformat(format=pixel_format)
    packed = media.to_rgb(frame, VideoReformatter(), alpha=alpha)
    planes = np.stack(media.to_planes(frame, VideoReformatter(), alpha=alpha), axis=2)
    assert planes.dtype == packed.dtype
    assert planes.shape == (46, 70, 4 if alpha else 3)
    most = 1 if planes.dtype == np.uint8 else 64  # of 65535: the two ways round at other places
    assert np.abs(planes.astype(int) - packed).max() <= most


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("channels", [3, 4])
def test_a_planar_frame_holds_the_rounded_levels(channels: int, deep: bool):
    frame = torch.rand(channels, 5, 7) * 1.2 - 0.1
    made = media.to_planar_frame(frame, deep=deep, width=8, height=6)
    planes = torch.from_numpy(np.stack(media.to_planes(made, VideoReformatter(), alpha=channels == 4)).astype(np.int32))
    expected = (frame.clamp(0, 1) * (65535 if deep else 255)).round().int()
    assert torch.equal(planes[:, :5, :7], expected)
    assert torch.equal(planes[:, :, 7], planes[:, :, 6]), "the last column, once more"
    assert torch.equal(planes[:, 5], planes[:, 4]), "the last row, once more"


# --- encoding beside the making


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("steadyscale")]


def test_frames_are_made_here_and_encoded_beside(tmp_path: Path):
    seen = []

    def frames():
        for number in range(6):
            seen.append((threading.current_thread().name, bool(threads())))
            yield numbered(6)[number : number + 1]

    assert write_video(tmp_path / "out.mp4", frames(), INFO) == 6
    assert numbers_of(VideoClip(tmp_path / "out.mp4")) == list(range(6))
    assert {name for name, _ in seen} == {threading.current_thread().name}
    assert seen[-1][1], "no thread encodes"
    assert threads() == []


@pytest.mark.parametrize("shape", [(0, 3, 48, 64), (1, 3, 32, 32), (1, 4, 48, 64)])
def test_who_makes_the_frames_is_told_when_writing_fails(tmp_path: Path, shape: tuple[int, ...]):
    """Nothing, another size in the middle, transparency: the stream is closed, and with it files and devices."""
    closed = []

    def frames():
        try:
            if shape[1:] == (3, 32, 32):
                yield numbered(1)
            while True:
                yield torch.zeros(shape)
        finally:
            closed.append(True)

    stream = frames()
    with pytest.raises(ClipError):
        write_video(tmp_path / "out.mp4", stream, INFO)
    assert closed == [True]
    assert threads() == []
    assert remains(tmp_path) == []


# --- what the encoder holds


def lookahead_of(path: Path) -> int:
    """What x264 wrote into its stream about itself."""
    told = path.read_bytes()
    at = told.index(b"rc_lookahead=") + len("rc_lookahead=")
    return int(told[at : at + 3].split()[0])


@pytest.mark.parametrize(
    ("size", "lookahead"), [((64, 48), 40), ((1280, 720), 23), ((1920, 1080), 10), ((3840, 2160), 8)]
)
def test_large_frames_are_held_in_smaller_numbers(tmp_path: Path, size: tuple[int, int], lookahead: int):
    width, height = size
    write_video(tmp_path / "out.mp4", iter([torch.zeros(1, 3, height, width)]), INFO)
    assert lookahead_of(tmp_path / "out.mp4") == lookahead


@pytest.mark.parametrize("codec", ["hevc", "av1"])
def test_the_other_encoders_take_their_shorter_lookahead(tmp_path: Path, codec: str):
    frames = torch.zeros(1, 3, 1080, 1920) + torch.linspace(0, 1, 3).view(3, 1, 1, 1)
    assert write_video(tmp_path / "out.mp4", batches(frames, 1), INFO, encoding=Encoding(codec)) == 3
    means = [float(f.mean()) for f in VideoClip(tmp_path / "out.mp4").frames()]
    assert means == pytest.approx([0, 0.5, 1], abs=0.02)
