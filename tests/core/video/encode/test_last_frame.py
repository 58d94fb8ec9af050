"""How long the last frame is displayed: kept from and in every container that can store it."""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import av
import pytest
from clock_videos import end_time, make_clip, raw_times
from numbered_video import make_video, read_numbers
from PIL import Image
from steadyscale.core.clip import ClipError
from steadyscale.core.jobs.run import run_job
from steadyscale.core.jobs.state.folder import open_job
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.video.decode.timestamps import TimeRange, read_timestamps
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.codecs import Encoding
from steadyscale.core.video.encode.writer import write_video
from steadyscale.core.video.verify.verify import verify_output

MS = Fraction(1, 1000)
STARTS = [0, 40, 80, 120, 160]


def make_animation(path: Path) -> Path:
    frames = [Image.new("RGB", (48, 32), (50 * i, 100, 30)) for i in range(5)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[100, 300, 50, 1000, 3000], loop=0)
    return path


def write(source: Path, target: Path, encoding: Encoding | None = None) -> None:
    clip = VideoClip(source)
    write_video(target, clip.frames(), clip.info, source=source, encoding=encoding)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm"])
@pytest.mark.parametrize("animation", ["gif", "apng"])
def test_an_animation_keeps_the_time_of_each_frame(animation: str, suffix: str, tmp_path: Path):
    source, target = tmp_path / f"hold.{animation}", tmp_path / f"out{suffix}"
    if animation == "apng":
        make_animation(tmp_path / "hold.png").rename(source)
    else:
        make_animation(source)
    write(source, target)
    assert raw_times(target) == pytest.approx([0, 0.1, 0.4, 0.45, 1.45], abs=0.002)
    assert end_time(target) == pytest.approx(4.45, abs=0.011)
    times = read_timestamps(target)
    assert float((times.starts[-1] + times.durations[-1]) * times.time_base) == pytest.approx(4.45, abs=0.011)


SOURCES = [(".mp4", "libx264"), (".mkv", "libx264"), (".webm", "libvpx-vp9")]


@pytest.mark.parametrize("target", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize(("suffix", "codec"), SOURCES)
def test_a_long_last_sample_is_kept(suffix: str, codec: str, target: str, tmp_path: Path):
    options = {"bf": "0"} if codec == "libx264" else {"cpu-used": "8"}
    source = make_clip(tmp_path / f"in{suffix}", 5, codec=codec, options=options, fps=25, pts=STARTS, time_base=MS,
                       audio=None, last_duration=3000)  # fmt: skip
    out = tmp_path / f"out{target}"
    write(source, out)
    assert raw_times(out) == pytest.approx([s / 1000 for s in STARTS], abs=0.001)
    assert end_time(out) == pytest.approx(3.16, abs=0.01)
    assert read_numbers(VideoClip(out)) == list(range(5))
    with open_job(tmp_path / "job", source) as job:
        run_job(job, Pipeline(VideoClip(source)), tmp_path / f"job{target}", segment_seconds=0.1)
    assert end_time(tmp_path / f"job{target}") == pytest.approx(3.16, abs=0.01)


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_every_encoder_stores_it_in_mp4(codec: str, tmp_path: Path):
    write(make_animation(tmp_path / "in.gif"), tmp_path / "out.mp4", Encoding(codec))
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        last = max((p.pts, p.duration) for p in container.demux(stream) if p.size)
        assert float(sum(last) * stream.time_base) == pytest.approx(4.45, abs=0.01)


def test_a_window_ends_within_the_last_frame(tmp_path: Path):
    source = make_animation(tmp_path / "in.gif")
    clip = VideoClip(source, window=TimeRange(0.2, 2.0))
    write_video(tmp_path / "out.mkv", clip.frames(), clip.info, source=source, window=TimeRange(0.2, 2.0))
    assert raw_times(tmp_path / "out.mkv") == pytest.approx([0, 0.05, 1.05], abs=0.002)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("seconds", [0.2, 0.4])
def test_a_trimmed_mp4_ends_at_the_cut(codec: str, seconds: float, tmp_path: Path):
    """Its last frame is displayed for 0.6 or 0.8 of a frame, and must be decoded last to end there."""
    source, target, window = make_video(tmp_path / "in.mp4", 24), tmp_path / "out.mp4", TimeRange(0.25, seconds)
    clip = VideoClip(source, window=window)
    write_video(target, clip.frames(), clip.info, source=source, window=window, encoding=Encoding(codec))
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        last = max((p.pts, p.duration) for p in container.demux(stream) if p.size)
        ends = (sum(last), stream.duration)
        assert [float(end * stream.time_base) for end in ends] == pytest.approx([seconds, seconds], abs=0.0001)


def frame_rate(path: Path) -> Fraction:
    """Return the frame rate that the file states."""
    with av.open(str(path)) as container:
        return Fraction(container.streams.video[0].average_rate or 0)


@pytest.mark.parametrize("last", [25, 35, 60, 3000])
def test_the_frame_rate_is_frames_by_duration(last: int, tmp_path: Path):
    """Decoding times that span more than the display would lower it."""
    starts = [40 * n for n in range(12)]
    source = make_clip(tmp_path / "in.mp4", 12, options={"bf": "0"}, fps=25, pts=starts, time_base=MS, audio=None,
                       last_duration=last)  # fmt: skip
    write(source, tmp_path / "out.mp4")
    assert frame_rate(tmp_path / "out.mp4") == frame_rate(source) == Fraction(12_000, 440 + last)


@pytest.mark.parametrize(
    "gaps",
    [
        [33] * 11 + [300, 33],  # no timestamp of a frame that is decoded late is near the end
        [33] * 9 + [17, 300, 33],
        [33, 100, 17] * 4 + [17, 17, 66, 42],
        [100, 33, 17] * 4 + [42, 17, 33, 100],
    ],
    ids=str,
)
def test_end_and_frame_rate_of_uneven_frames_are_kept(gaps: list[int], tmp_path: Path):
    starts = list(accumulate(gaps, initial=0))[:-1]
    source = make_clip(tmp_path / "in.mp4", len(gaps), options={"bf": "0"}, fps=25, pts=starts, time_base=MS,
                       audio=None, last_duration=gaps[-1])  # fmt: skip
    write(source, tmp_path / "out.mp4")
    with open_job(tmp_path / "job", source) as job:
        run_job(job, Pipeline(VideoClip(source)), tmp_path / "job.mp4", segment_seconds=0.1)
    for result in (tmp_path / "out.mp4", tmp_path / "job.mp4"):
        with av.open(str(result)) as container:
            stream = container.streams.video[0]
            assert stream.duration * stream.time_base == sum(gaps) * MS
            assert stream.average_rate == Fraction(len(gaps) * 1000, sum(gaps))


def test_half_a_frame_that_an_mp4_lost_at_the_end_is_found(tmp_path: Path):
    good, short = (
        make_clip(tmp_path / f"{last}.mp4", 5, options={"bf": "0"}, fps=25, pts=STARTS, time_base=MS, audio=None,
                  last_duration=last)
        for last in (40, 20)
    )  # fmt: skip
    with pytest.raises(ClipError, match=r"the last frame ends -0\.020 s late"):
        verify_output(short, good, frame_count=5, info=VideoClip(good).info)


def test_a_last_frame_that_ends_too_early_is_found(tmp_path: Path):
    source = make_animation(tmp_path / "in.gif")
    good = make_clip(tmp_path / "good.mkv", 5, options={"bf": "0"}, pts=[0, 100, 400, 450, 1450], time_base=MS,
                     audio=None, last_duration=3000)  # fmt: skip
    short = make_clip(tmp_path / "short.mkv", 5, options={"bf": "0"}, pts=[0, 100, 400, 450, 1450], time_base=MS,
                      audio=None)  # fmt: skip
    info = VideoClip(good).info
    with pytest.raises(ClipError, match=r"the last frame ends -2\.9\d\d s late"):
        verify_output(short, source, frame_count=5, info=info)
