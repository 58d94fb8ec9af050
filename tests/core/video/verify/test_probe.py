"""Probing takes 8 bytes for each frame, not a list of objects."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
from steadyscale.core.video.decode.packets.demux import packet_duration
from steadyscale.core.video.decode.timestamps import read_timestamps
from steadyscale.core.video.verify.probe import probe


def make_long_video(path: Path, frames: int) -> Path:
    frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 90, np.uint8), format="rgb24")
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("libx264", rate=24, options={"preset": "ultrafast"})
        stream.width = stream.height = 16
        for number in range(frames):
            frame.pts, frame.time_base = number, Fraction(1, 24)
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    return path


def peak_bytes(path: Path, read) -> int:
    """Return the peak of the memory that Python allocated while it read the file."""
    tracemalloc.start()
    try:
        read(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


READERS = {"new": partial(probe, decode=True), "old": partial(probe, decode=False), "times": read_timestamps}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_reading_takes_few_bytes_per_frame(read, tmp_path: Path):
    short, long = (make_long_video(tmp_path / f"{count}.mp4", count) for count in (100, 6100))
    peak_bytes(short, read)  # fills caches and imports modules
    assert (peak_bytes(long, read) - peak_bytes(short, read)) / 6000 < 40


def test_times_are_in_presentation_order(tmp_path: Path):
    result = probe(make_long_video(tmp_path / "clip.mkv", 50), decode=True)
    assert [round(float(result.frame_time(number)) * 24) for number in range(50)] == list(range(50))
    assert round(float(result.frame_duration) * 24) == 1


@pytest.mark.parametrize(
    ("stored", "duration"), [(1024, 1024), (0, 0), (2**32 - 48, 0), (-48, 0), (48_000 * 5, 48_000 * 5)]
)
def test_a_packet_duration_that_wrapped_around_is_unknown(stored: int, duration: int):
    packet = av.Packet(8)
    packet.duration, packet.time_base = stored, Fraction(1, 44_100)
    assert packet_duration(packet) == duration
