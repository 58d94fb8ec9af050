"""Video files as clips: frames, colors, rotation, and files that are not a clip."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numbered_video import draw_number, make_video, read_number, read_numbers
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.motion.optical_flow.flow import luma
from steadyscale.core.video.decode.corruption_report import OnDamage
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.codecs import Encoding
from steadyscale.core.video.encode.writer import write_video
from video_file_checks import CLIP_INFO, PATCH_COLORS, make_patches_video, split_batches


@pytest.mark.parametrize("batch", [1, 5, 12, 100])
def test_all_frames_come_in_order_at_every_batch_size(clip_file: Path, batch: int):
    clip = VideoClip(clip_file)
    assert clip.info == ClipInfo(64, 48, Fraction(24), 12)
    sizes = [len(frames) for frames in clip.frames(batch)]
    assert max(sizes) <= batch
    assert read_numbers(clip, batch) == list(range(12))
    assert read_numbers(clip, batch) == list(range(12)), "a second pass starts anew"


def test_frames_are_float_in_range_and_contiguous(clip_file: Path):
    frames = next(VideoClip(clip_file).frames(4))
    assert frames.dtype == torch.float32
    assert frames.shape == (4, 3, 48, 64)
    assert frames.is_contiguous()
    assert 0 <= float(frames.min()) < 0.02 < 0.98 < float(frames.max()) <= 1


def test_a_batch_is_not_overwritten_by_the_next(clip_file: Path):
    assert [read_number(f) for chunk in list(VideoClip(clip_file).frames(5)) for f in chunk] == list(range(12))


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_video_comes_upright(tmp_path: Path, rotation: int):
    stored = make_video(tmp_path / "r.mp4", 3, rotation=rotation)
    plain = make_video(tmp_path / "p.mp4", 3)
    clip = VideoClip(stored)
    assert (clip.info.width, clip.info.height) == ((64, 48) if rotation == 180 else (48, 64))
    for turned, straight in zip(clip.frames(), VideoClip(plain).frames(), strict=True):
        assert torch.allclose(turned, torch.rot90(straight, rotation // 90, dims=(2, 3)), atol=2 / 255)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", ["601", "709"])
def test_tagged_colors_are_converted_by_the_standard(tmp_path: Path, matrix: str, full: bool):
    clip = VideoClip(make_patches_video(tmp_path / "p.mkv", matrix, full, tagged=True))
    for frames, rgb in zip(clip.frames(), PATCH_COLORS, strict=True):
        assert frames[0].sub(torch.tensor(rgb).view(3, 1, 1)).abs().max() * 255 <= 2.01


@pytest.mark.parametrize(("height", "matrix"), [(576, "601"), (578, "709")])
def test_untagged_colors_are_converted_by_height(tmp_path: Path, height: int, matrix: str):
    clip = VideoClip(make_patches_video(tmp_path / "p.mkv", matrix, False, tagged=False, height=height))
    for frames, rgb in zip(clip.frames(), PATCH_COLORS, strict=True):
        assert frames[0].sub(torch.tensor(rgb).view(3, 1, 1)).abs().max() * 255 <= 2.01


def test_ten_bits_are_kept(tmp_path: Path):
    ramp = torch.linspace(0, 1, 1024).view(1, 1, 1, 1024).expand(1, 3, 16, 1024)
    out = tmp_path / "ramp.mkv"
    write_video(out, iter([ramp]), CLIP_INFO, encoding=Encoding("ffv1", pixel_format="yuv444p10le"))
    back = next(VideoClip(out).frames())
    assert len(back[0, 0, 8].unique()) > 800
    assert (back - ramp).abs().max() < 2 / 255


# --- number of frames


@pytest.mark.parametrize("suffix", [".mkv", ".flv"])  # MKV stores the duration of each track, FLV does not
def test_a_longer_audio_track_is_no_loss_of_frames(tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture):
    clip = VideoClip(make_video(tmp_path / f"p{suffix}", audio_start=1))
    assert read_numbers(clip) == list(range(12))
    assert caplog.text == ""
    assert suffix == ".flv" or clip.info.length == 12


@pytest.mark.parametrize("suffix", [".mkv", ".flv"])
def test_missing_frames_are_reported(tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture):
    content = make_video(tmp_path / f"whole{suffix}", 100, audio_start=1).read_bytes()
    (tmp_path / f"cut{suffix}").write_bytes(content[: len(content) // 2])
    clip = VideoClip(tmp_path / f"cut{suffix}", on_damage=OnDamage.KEEP)
    count = len(read_numbers(clip))
    assert count < 90
    assert f"frames, {count} could be read" in caplog.text


def test_an_edit_list_is_no_loss_of_frames(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    whole, cut = make_video(tmp_path / "whole.mp4", 12), tmp_path / "cut.mp4"
    with av.open(str(whole)) as old, av.open(str(cut), "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.pts is not None and packet.dts is not None and packet.time_base is not None:
                early = round(Fraction(6, 24) / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - early, packet.dts - early, copy
                new.mux(packet)
    clip = VideoClip(cut)
    assert clip.info.length == 6
    assert read_numbers(clip) == list(range(6, 12))
    assert caplog.text == ""


# --- files that are not a clip


def test_an_empty_file_is_refused(tmp_path: Path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ClipError, match=r"empty\.mp4: the file has 0 bytes"):
        VideoClip(tmp_path / "empty.mp4")


def test_a_text_file_is_refused(tmp_path: Path):
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    with pytest.raises(ClipError, match=r"text\.mp4: cannot be read as video"):
        VideoClip(tmp_path / "text.mp4")


def test_missing_file_and_folder(tmp_path: Path):
    with pytest.raises(ClipError, match="no such file"):
        VideoClip(tmp_path / "nothing.mp4")
    with pytest.raises(ClipError, match="not a file"):
        VideoClip(tmp_path)


@pytest.mark.parametrize("name", ["evil.mp4", "evil.ffconcat"])
def test_a_playlist_is_refused(tmp_path: Path, clip_file: Path, name: str):
    (tmp_path / name).write_text(f"ffconcat version 1.0\nfile {clip_file.name}\n")
    with pytest.raises(ClipError, match="cannot be read as video"):
        VideoClip(tmp_path / name)


def test_a_file_name_is_never_a_pattern_or_a_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a %d b.mp4", "-dash.mp4", "ümlaut:x.mp4"):
        make_video(tmp_path / "plain.mp4", 3).rename(name)
        assert read_numbers(VideoClip(name)) == [0, 1, 2]


def test_a_file_without_its_index_is_refused(tmp_path: Path):
    content = make_video(tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    with pytest.raises(ClipError, match=r"cut\.mp4: cannot be read as video"):
        VideoClip(tmp_path / "cut.mp4")


def test_a_file_truncated_after_its_index_is_refused(tmp_path: Path):
    good = tmp_path / "good.mp4"
    write_video(good, split_batches(torch.rand(40, 3, 48, 64)), CLIP_INFO)
    data = good.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(ClipError, match=r"cut\.mp4: the file is truncated: \d+ of 40 frames"):
        VideoClip(tmp_path / "cut.mp4")


def test_a_file_with_audio_only_is_refused(tmp_path: Path):
    with av.open(str(tmp_path / "audio.mp4"), "w") as sink:
        audio = sink.add_stream("aac", rate=48000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 48000
        sink.mux(audio.encode(samples))
        sink.mux(audio.encode(None))
    with pytest.raises(ClipError, match="the file has no video stream, only audio"):
        VideoClip(tmp_path / "audio.mp4")


def test_a_video_stream_without_frames_is_refused(tmp_path: Path):
    with av.open(str(tmp_path / "none.mkv"), "w") as sink:
        video, audio = sink.add_stream("ffv1", rate=24), sink.add_stream("pcm_s16le", rate=48000, layout="mono")
        video.width, video.height = 64, 48
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        samples.sample_rate = 48000
        sink.mux(audio.encode(samples))
    with pytest.raises(ClipError, match=r"none\.mkv: .*no frames"):
        VideoClip(tmp_path / "none.mkv")


def test_size_limit_is_checked_before_decoding(tmp_path: Path):
    big = make_video(tmp_path / "big.mkv", 1, size=(2048, 1024))
    with pytest.raises(ClipError, match="2048x1024 exceed the limit of 1,000,000 pixels"):
        VideoClip(big, max_pixels=1_000_000)


def test_a_change_of_size_is_an_error(tmp_path: Path):
    streams = b""
    for name, size in (("a.h264", (64, 48)), ("b.h264", (96, 48))):
        streams += make_video(tmp_path / name, 3, size=size).read_bytes()
    (tmp_path / "both.h264").write_bytes(streams)
    clip = VideoClip(tmp_path / "both.h264")
    for read in (clip.frames, clip.native_frames):
        with pytest.raises(ClipError, match="frame 3 is 96x48, those before are 64x48"):
            list(read())


@pytest.mark.parametrize("rotation", [0, 90])
def test_luma_frames_are_the_reduced_luma_of_the_frames(tmp_path: Path, rotation: int):
    clip = VideoClip(make_video(tmp_path / "r.mp4", 3, rotation=rotation))
    small = clip.info.fit_within(32)
    assert max(small.width, small.height) == 32
    luma_frames = list(clip.luma_frames(32))
    assert len(luma_frames) == 3
    for gray, frame in zip(luma_frames, clip.frames(), strict=True):
        truth = torch.nn.functional.interpolate(luma(frame), gray.shape[-2:], mode="area")
        assert gray.shape == (1, 1, small.height, small.width)
        assert np.abs(gray - truth.numpy()).mean() < 0.02


@pytest.mark.parametrize("interlaced", [False, True])
def test_interlaced_video_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture, interlaced: bool):
    with av.open(str(tmp_path / "in.mkv"), "w") as sink:
        stream = sink.add_stream("mpeg2video", rate=25, options={"flags": "+ildct+ilme"} if interlaced else {})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(draw_number(number), format="rgb24").reformat(format="yuv420p")
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    assert read_numbers(VideoClip(tmp_path / "in.mkv")) == [0, 1, 2]
    assert ("is interlaced" in caplog.text) is interlaced
