"""The last frame of a trimmed clip ends where the trim ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from numbered_video import make_video, read_numbers
from steadyscale.core.video.decode.timestamps import TimeRange, read_timestamps
from steadyscale.core.video.decode.video_clip import VideoClip


@pytest.mark.parametrize(
    ("window", "numbers", "seconds"),
    [
        (TimeRange(0.0, 0.4), range(10), 0.4),
        (TimeRange(0.25, 0.2), range(6, 11), 0.2),
        (TimeRange(0.25, 0.0), range(6, 12), 0.25),
        (TimeRange(0.25, 9.0), range(6, 12), 0.25),
    ],
)
def test_a_frame_is_displayed_until_the_cut(tmp_path: Path, window: TimeRange, numbers: range, seconds: float):
    source = make_video(tmp_path / "source.mp4", 12)
    times = read_timestamps(source, window)
    end = (times.starts[-1] + times.durations[-1]) * times.time_base
    assert float(end) == pytest.approx(seconds, abs=float(times.time_base))
    assert read_numbers(VideoClip(source, window=window)) == [*numbers]
