"""Writing videos: every codec, lossless colors, and nothing incomplete."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import weakref
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numbered_video import numbered_frames, read_numbers
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode import writer
from steadyscale.core.video.encode.codecs import CODECS, CONTAINERS, Encoding
from steadyscale.core.video.encode.writer import write_video
from steadyscale.core.video.verify import verify
from video_file_checks import (
    CLIP_INFO,
    PATCH_COLORS,
    assert_released,
    list_files,
    make_patches_video,
    read_packet_times,
    split_batches,
)


@pytest.mark.parametrize("count", [1, 2, 12])
@pytest.mark.parametrize("suffix", list(CONTAINERS))
def test_frames_out_are_frames_in(tmp_path: Path, suffix: str, count: int):
    out = tmp_path / f"out{suffix}"
    assert write_video(out, split_batches(numbered_frames(count)), CLIP_INFO) == count
    clip = VideoClip(out)
    assert read_numbers(clip) == list(range(count))
    assert [round(float(t), 3) for t in read_packet_times(out, "video")] == [round(i / 24, 3) for i in range(count)]
    assert list_files(tmp_path) == [out.name]


@pytest.mark.parametrize(("codec", "suffix"), [(c, s) for s, container in CONTAINERS.items() for c in container.codecs])
def test_every_codec_in_every_container(tmp_path: Path, codec: str, suffix: str):
    out = tmp_path / f"out{suffix}"
    assert write_video(out, split_batches(numbered_frames(3, 128, 96)), CLIP_INFO, encoding=Encoding(codec)) == 3
    clip = VideoClip(out)
    assert read_numbers(clip) == [0, 1, 2]
    expected = {"av1": "libdav1d"}.get(codec, codec)
    assert clip.stream_format.codec in (expected, codec)


def nearly_lossless(codec: str) -> Encoding:
    return Encoding(codec, crf=2 if CODECS[codec].crf is not None else None)


@pytest.mark.parametrize("height", [48, 720])
@pytest.mark.parametrize("name", ["h264.mp4", "hevc.mp4", "prores.mov", "ffv1.mkv"])
def test_saturated_colors_are_kept(tmp_path: Path, name: str, height: int):
    out, codec = tmp_path / name, name.split(".")[0]
    frames = torch.tensor(PATCH_COLORS, dtype=torch.float32).view(-1, 3, 1, 1).expand(-1, 3, height, 64)
    write_video(out, split_batches(frames), CLIP_INFO, encoding=nearly_lossless(codec))
    back = torch.cat(list(VideoClip(out).frames()))
    assert (back - frames).abs().max() * 255 <= 3
    if codec != "ffv1":
        with av.open(str(out)) as container:
            assert container.streams.video[0].colorspace == (1 if height > 576 else 6), "the matrix is tagged"


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", ["601", "709"])
def test_the_color_tags_of_the_source_are_kept(tmp_path: Path, matrix: str, full: bool):
    source = make_patches_video(tmp_path / "source.mkv", matrix, full, tagged=True)
    frames = torch.cat(list(VideoClip(source).frames()))
    large = frames.repeat_interleave(20, 2)  # exceeds the height above which players assume 709
    out = tmp_path / "out.mp4"
    write_video(out, split_batches(large), CLIP_INFO, encoding=nearly_lossless("h264"), source=source)
    stored = VideoClip(out).stream_format
    assert stored.matrix in ((5, 6) if matrix == "601" else (1,))
    assert stored.full_range is full
    for back, rgb in zip(VideoClip(out).frames(), PATCH_COLORS, strict=True):
        assert back[0].sub(torch.tensor(rgb).view(3, 1, 1)).abs().max() * 255 <= 3.01


@pytest.mark.parametrize(("height", "new_height", "tag"), [(48, 96, 2), (720, 720, 2), (48, 960, 6)])
def test_an_untagged_source_stays_untagged_unless_its_new_size_changes_the_assumed_matrix(
    tmp_path: Path, height: int, new_height: int, tag: int
):
    source = make_patches_video(tmp_path / "source.mkv", "709" if height > 576 else "601", False, False, height)
    frames = torch.cat(list(VideoClip(source).frames()))
    out = tmp_path / "out.mp4"
    large = frames.repeat_interleave(new_height // height, 2)
    write_video(out, split_batches(large), CLIP_INFO, encoding=nearly_lossless("h264"), source=source)
    with av.open(str(out)) as container:
        assert container.streams.video[0].colorspace == tag
        pixels = next(container.decode(video=0)).to_ndarray(format="rgb24")  # converted by FFmpeg, which assumes 601
    with av.open(str(source)) as container:
        before = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(pixels[0, 0].astype(int) - before[0, 0]).max() <= 4
    for back, rgb in zip(VideoClip(out).frames(), PATCH_COLORS, strict=True):
        assert back[0].sub(torch.tensor(rgb).view(3, 1, 1)).abs().max() * 255 <= 4


def test_hdr_keeps_its_tags_and_needs_ten_bits(tmp_path: Path):
    source = tmp_path / "hdr.mkv"
    with av.open(str(source), "w") as sink:
        stream = sink.add_stream("libx265", rate=24, options={"x265-params": "log-level=error"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, 16, 1
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8), format="rgb24")
        for _ in range(4):  # the decoding timestamps of shorter libx265 streams are undefined
            sink.mux(stream.encode(frame.reformat(format="yuv420p10le", dst_colorspace=9)))
        sink.mux(stream.encode(None))
    clip = VideoClip(source)
    eight_bits = Encoding(pixel_format="yuv420p")
    with pytest.raises(ClipError, match=r"HDR.*yuv420p10le"):
        write_video(tmp_path / "out.mp4", clip.frames(), clip.info, encoding=eight_bits, source=source)
    for codec in ("h264", "hevc"):
        write_video(tmp_path / "out.mp4", clip.frames(), clip.info, encoding=Encoding(codec), source=source)
        stored = VideoClip(tmp_path / "out.mp4").stream_format
        assert (stored.matrix, stored.primaries, stored.transfer, stored.pixel_format) == (9, 9, 16, "yuv420p10le")


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (255, 143), (64, 47)])
def test_odd_sizes_are_padded_by_repeating_the_edge(
    tmp_path: Path, size: tuple[int, int], caplog: pytest.LogCaptureFixture
):
    width, height = size
    ramp = torch.linspace(0.2, 0.8, width).view(1, 1, 1, width).expand(2, 3, height, width)
    out = tmp_path / "odd.mp4"
    assert write_video(out, iter([ramp]), CLIP_INFO) == 2
    assert "repeating the last column or row" in caplog.text
    back = next(VideoClip(out).frames(2))
    assert back.shape[2:] == (height + height % 2, width + width % 2)
    assert (back[:, :, :height, :width] - ramp).abs().max() < 0.04
    assert (back[:, :, -1] - back[:, :, height - 1]).abs().max() < 0.04
    assert (back[..., -1] - back[..., width - 1]).abs().max() < 0.04


def test_odd_sizes_are_kept_where_the_pixel_format_allows_it(tmp_path: Path):
    write_video(tmp_path / "odd.mkv", iter([torch.rand(1, 3, 5, 7)]), CLIP_INFO, encoding=Encoding("ffv1"))
    info = VideoClip(tmp_path / "odd.mkv").info
    assert (info.width, info.height) == (7, 5)


def make_transparent_frames(count: int = 3) -> torch.Tensor:
    alpha = torch.linspace(0, 1, 64).view(1, 1, 1, 64).expand(count, 1, 48, 64)
    return torch.cat([numbered_frames(count), alpha], dim=1)


@pytest.mark.parametrize(("codec", "suffix"), [("prores", ".mov"), ("ffv1", ".mkv"), ("vp9", ".webm"), ("vp9", ".mkv")])
def test_alpha_is_kept(tmp_path: Path, codec: str, suffix: str):
    out = tmp_path / f"alpha{suffix}"
    frames = make_transparent_frames()
    assert write_video(out, split_batches(frames), CLIP_INFO, encoding=Encoding(codec)) == 3
    back = torch.cat(list(VideoClip(out).frames()))
    assert back.shape == frames.shape
    assert (back[:, 3] - frames[:, 3]).abs().max() < 0.03
    assert (back[:, :3] - frames[:, :3]).abs().mean() < 0.03


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_transparency_that_cannot_be_kept_is_an_error(tmp_path: Path, codec: str):
    with pytest.raises(ClipError, match=r"transparency.*vp9.*prores.*ffv1.*PNG"):
        write_video(tmp_path / "out.mp4", split_batches(make_transparent_frames()), CLIP_INFO, encoding=Encoding(codec))
    assert list_files(tmp_path) == []


@pytest.mark.parametrize("rounding", [0.0, 1e-6])
def test_opaque_alpha_may_be_dropped(tmp_path: Path, rounding: float):
    """Also if rounding errors of a warp have reduced it a little."""
    frames = torch.cat([numbered_frames(3), torch.full((3, 1, 48, 64), 1 - rounding)], dim=1)
    write_video(tmp_path / "out.mp4", split_batches(frames), CLIP_INFO)
    assert read_numbers(VideoClip(tmp_path / "out.mp4")) == [0, 1, 2]


# --- nothing incomplete


def test_no_frames_is_an_error(tmp_path: Path):
    with pytest.raises(ClipError, match="no frames to write"):
        write_video(tmp_path / "out.mp4", iter(()), CLIP_INFO)
    assert list_files(tmp_path) == []


def failing_after(count: int, error: BaseException):
    yield numbered_frames(count)
    raise error


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt(), ClipError("source broke")])
def test_an_error_of_the_source_stream_is_raised_and_leaves_no_file(tmp_path: Path, error: BaseException):
    (tmp_path / "out.mp4").write_bytes(b"an earlier result")
    with pytest.raises(type(error)):
        write_video(tmp_path / "out.mp4", failing_after(5, error), CLIP_INFO)
    assert list_files(tmp_path) == ["out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"an earlier result"


def test_a_change_of_size_is_an_error(tmp_path: Path):
    frames = iter([numbered_frames(2), numbered_frames(1, 32, 32)])
    with pytest.raises(ClipError, match=r"frame 2 has .*\(3, 32, 32\), the frames before have \(3, 48, 64\)"):
        write_video(tmp_path / "out.mp4", frames, CLIP_INFO)
    assert list_files(tmp_path) == []


def test_non_finite_values_are_an_error(tmp_path: Path):
    frames = numbered_frames(4)
    frames[2, 1, 5, 5] = float("nan")
    with pytest.raises(ClipError, match="frame 2 has non-finite values"):
        write_video(tmp_path / "out.mp4", split_batches(frames), CLIP_INFO)


def test_the_source_is_never_replaced(tmp_path: Path, clip_file: Path):
    (tmp_path / "link.mp4").symlink_to(clip_file)
    before = clip_file.read_bytes()
    for name in (clip_file.name, "link.mp4"):
        with pytest.raises(ClipError, match="source itself"):
            write_video(tmp_path / name, split_batches(numbered_frames(12)), CLIP_INFO, source=clip_file)
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
        ("out.mp4", Encoding(preset="warp"), "libx264 has no preset 'warp'; choose one of"),
        ("nowhere/out.mp4", Encoding(), "does not exist; create it first"),
    ],
)
def test_errors_of_invalid_encodings_say_what_is_valid(tmp_path: Path, name: str, encoding: Encoding, message: str):
    with pytest.raises(ClipError, match=message):
        write_video(tmp_path / name, split_batches(numbered_frames(2)), CLIP_INFO, encoding=encoding)
    assert list_files(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_process_leaves_no_result(tmp_path: Path):
    script = (
        "import sys, torch; from fractions import Fraction\n"
        "from steadyscale.core.clip import ClipInfo\n"
        "from steadyscale.core.video.encode.writer import write_video\n"
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
    child.kill()
    child.wait()
    child.stdout.close()
    assert not (tmp_path / "out.mp4").exists()
    assert all(name.startswith(".") and name.endswith(".partial") for name in list_files(tmp_path))


@pytest.mark.parametrize("count", [1, 2])
def test_hevc_of_one_or_two_frames_is_written_reliably(tmp_path: Path, count: int):
    """libx265 leaves their decoding timestamps undefined: one file in five would fail."""
    for _ in range(15):
        info = ClipInfo(64, 64, Fraction(24))
        write_video(tmp_path / "out.mp4", split_batches(torch.rand(count, 3, 64, 64)), info, encoding=Encoding("hevc"))
        assert read_packet_times(tmp_path / "out.mp4", "video") == [Fraction(i, 24) for i in range(count)]


# --- encoding in a thread


def stage_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("steadyscale")]


def test_frames_are_computed_in_this_thread_and_encoded_in_another(tmp_path: Path):
    observed = []

    def frames():
        for number in range(6):
            observed.append((threading.current_thread().name, bool(stage_threads())))
            yield numbered_frames(6)[number : number + 1]

    assert write_video(tmp_path / "out.mp4", frames(), CLIP_INFO) == 6
    assert read_numbers(VideoClip(tmp_path / "out.mp4")) == list(range(6))
    assert {name for name, _ in observed} == {threading.current_thread().name}
    assert observed[-1][1], "no thread encodes"
    assert stage_threads() == []


@pytest.mark.parametrize("shape", [(0, 3, 48, 64), (1, 3, 32, 32), (1, 4, 48, 64)])
def test_the_stream_of_frames_is_closed_when_writing_fails(tmp_path: Path, shape: tuple[int, ...]):
    """On an empty batch, a change of size, and transparency."""
    closed = []

    def frames():
        try:
            if shape[1:] == (3, 32, 32):
                yield numbered_frames(1)
            while True:
                yield torch.zeros(shape)
        finally:
            closed.append(True)

    stream = frames()
    with pytest.raises(ClipError):
        write_video(tmp_path / "out.mp4", stream, CLIP_INFO)
    assert closed == [True]
    assert stage_threads() == []
    assert list_files(tmp_path) == []


def test_at_most_the_frame_that_is_written_is_alive_when_the_next_is_computed(tmp_path: Path):
    """No frame is queued between them: one of 4K takes 100 MB."""
    frames = assert_released(frame[None].clone() for frame in numbered_frames(6))
    assert write_video(tmp_path / "out.mp4", frames, CLIP_INFO) == 6
    assert read_numbers(VideoClip(tmp_path / "out.mp4")) == list(range(6))


def test_the_encoder_is_freed_before_the_result_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It holds dozens of frames, and verification decodes as many again."""
    writers: list[weakref.ref[writer._VideoWriter]] = []
    is_alive: list[bool] = []

    class Writer(writer._VideoWriter):
        def __init__(self, *args) -> None:
            super().__init__(*args)
            writers.append(weakref.ref(self))

    def check(*args, **named) -> None:
        is_alive.extend(ref() is not None for ref in writers)
        verify.verify_output(*args, **named)

    monkeypatch.setattr(writer, "_VideoWriter", Writer)
    monkeypatch.setattr(writer, "verify_output", check)
    assert write_video(tmp_path / "out.mp4", split_batches(numbered_frames(6)), CLIP_INFO) == 6
    assert is_alive == [False]
