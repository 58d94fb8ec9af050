"""Concatenation keeps every packet, with timestamps that any container accepts."""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numbered_video import make_video, read_numbers
from steadyscale.core.clip import ClipError
from steadyscale.core.jobs.concat import check_segment, compute_dts, concat_segments
from steadyscale.core.video.decode.timestamps import Timestamps, read_timestamps
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.codecs import CONTAINERS

MP4 = CONTAINERS[".mp4"]


def make_timestamps(gaps: list[int]) -> Timestamps:
    return Timestamps([0, *accumulate(gaps)][: len(gaps)], gaps, Fraction(1, 1000), Fraction(0))


@st.composite
def packet_orders(draw: st.DrawFn) -> tuple[list[int], Timestamps]:
    """Draw packet orders of encoders: each group starts with its last frame."""
    order: list[int] = []
    while len(order) < draw(st.integers(1, 60)):
        size = draw(st.integers(1, 5))
        first = len(order)
        rest = draw(st.permutations(range(first, first + size - 1)))
        order += [first + size - 1, *rest]
    gaps = draw(st.lists(st.integers(1, 500).map(lambda g: g * 10), min_size=len(order), max_size=len(order)))
    return order, make_timestamps(gaps)


@given(packet_orders())
def test_decoding_times_ascend_and_precede_presentation(case: tuple[list[int], Timestamps]):
    order, times = case
    decoding_times = compute_dts(order, times)
    assert all(a < b for a, b in pairwise(decoding_times))
    assert all(time <= times.starts[number] for time, number in zip(decoding_times, order, strict=True))


def test_decoding_times_of_evenly_spaced_frames_are_those_of_encoders():
    order = [0, 3, 2, 1, 6, 5, 4, 7]  # I P B b ...: two frames wait for others
    assert compute_dts(order, make_timestamps([40] * 8)) == [-80, -40, 0, 40, 80, 120, 160, 200]
    assert compute_dts([0, 1, 2], make_timestamps([40] * 3)) == [0, 40, 80]


def make_halves(tmp_path: Path, gaps: list[int]) -> tuple[Path, Path, Timestamps]:
    """Write the first and the second half of the frames to a file each, starting at 0."""
    times, middle = make_timestamps(gaps), len(gaps) // 2
    for name, part in {"a": times.starts[:middle], "b": times.starts[middle:]}.items():
        starts = [start - part[0] for start in part]
        make_video(tmp_path / f"{name}.mp4", len(part), starts=starts, time_base=times.time_base)
    return tmp_path / "a.mp4", tmp_path / "b.mp4", times


@pytest.mark.parametrize("gaps", [[40] * 24, [40, 900, 10] * 8, [10] * 12 + [9000] + [10] * 11], ids=str)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_every_frame_is_kept_with_its_timestamp(gaps: list[int], suffix: str, tmp_path: Path):
    a, b, times = make_halves(tmp_path, gaps)
    middle = len(gaps) // 2
    segments = [check_segment(a, range(middle)), check_segment(b, range(middle, len(gaps)))]
    target = tmp_path / f"joined{suffix}"
    concat_segments(segments, target, container=CONTAINERS[suffix], times=times, fps=Fraction(24))
    assert read_numbers(VideoClip(target)) == [*range(middle), *range(len(gaps) - middle)]
    found = read_timestamps(target)
    assert [start * found.time_base for start in found.starts] == [start * times.time_base for start in times.starts]


def test_the_end_is_that_of_the_last_frame_where_others_are_decoded_after_it(tmp_path: Path):
    gaps = [33] * 15 + [100, 17, 33, 100, 17, 66, 42]
    a, b, times = make_halves(tmp_path, gaps)
    segments = [check_segment(a, range(11)), check_segment(b, range(11, 22))]
    concat_segments(segments, tmp_path / "joined.mp4", container=MP4, times=times, fps=Fraction(24))
    with av.open(str(tmp_path / "joined.mp4")) as container:
        stream = container.streams.video[0]
        packets = [packet.pts for packet in container.demux(stream) if packet.size]
        assert packets[-1] < max(packets)
        assert stream.duration * stream.time_base == Fraction(sum(gaps), 1000)
        assert stream.average_rate == Fraction(22_000, sum(gaps))


def test_segments_with_missing_or_overlapping_frames_are_refused(tmp_path: Path):
    a, b, times = make_halves(tmp_path, [40] * 24)
    with pytest.raises(ClipError, match="13 frames were written, and 12 can be read"):
        check_segment(a, range(13))
    segments = [check_segment(a, range(12)), check_segment(b, range(10, 22))]
    with pytest.raises(ClipError, match="instead of each of 24 once"):
        concat_segments(segments, tmp_path / "joined.mp4", container=MP4, times=times, fps=Fraction(24))


def test_segments_with_different_encoder_settings_are_refused(tmp_path: Path):
    a = make_video(tmp_path / "a.mp4", 12)
    b = make_video(tmp_path / "b.mp4", 12, size=(96, 48))
    with pytest.raises(ClipError, match="different encoder settings"):
        concat_segments(
            [check_segment(a, range(12)), check_segment(b, range(12, 24))],
            tmp_path / "joined.mp4",
            container=MP4,
            times=make_timestamps([40] * 24),
            fps=Fraction(24),
        )


def test_pixel_aspect_and_rate_are_those_of_the_segments(tmp_path: Path):
    a = make_video(tmp_path / "a.mp4", 12, pixel_aspect=Fraction(4, 3))
    concat_segments(
        [check_segment(a, range(12))],
        tmp_path / "b.mkv",
        container=CONTAINERS[".mkv"],
        times=read_timestamps(a),
        fps=Fraction(24),
    )
    with av.open(str(tmp_path / "b.mkv")) as container:
        stream = container.streams.video[0]
        assert (stream.sample_aspect_ratio, stream.average_rate) == (Fraction(4, 3), Fraction(24))
