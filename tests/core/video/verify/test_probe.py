"""What is known of a file takes 8 bytes for each frame, not a list of numbers: counted by Python itself."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
from steadyscale.core.video.decode.demux import packet_duration
from steadyscale.core.video.decode.timestamps import read_timestamps
from steadyscale.core.video.verify.probe import probe


def long_clip(path: Path, frames: int) -> Path:
    picture = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 90, np.uint8), format="rgb24")
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("libx264", rate=24, options={"preset": "ultrafast"})
        stream.width = stream.height = 16
        for number in range(frames):
            picture.pts, picture.time_base = number, Fraction(1, 24)
            sink.mux(stream.encode(picture))
        sink.mux(stream.encode(None))
    return path


def taken(path: Path, read) -> int:
    """Bytes that Python held at most while it read the file."""
    tracemalloc.start()
    try:
        read(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


READERS = {"new": partial(probe, decode=True), "old": partial(probe, decode=False), "times": read_timestamps}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_bytes_for_each_frame_of_a_long_clip(read, tmp_path: Path):
    short, long = (long_clip(tmp_path / f"{count}.mp4", count) for count in (100, 6100))
    taken(short, read)  # what is loaded or remembered at the first use
    assert (taken(long, read) - taken(short, read)) / 6000 < 40


def test_times_are_those_of_the_frames_in_the_order_of_display(tmp_path: Path):
    found = probe(long_clip(tmp_path / "clip.mkv", 50), decode=True)
    assert [round(float(found.frame_time(number)) * 24) for number in range(50)] == list(range(50))
    assert round(float(found.frame_duration) * 24) == 1


@pytest.mark.parametrize(
    ("told", "length"), [(1024, 1024), (0, 0), (2**32 - 48, 0), (-48, 0), (48_000 * 5, 48_000 * 5)]
)
def test_a_length_that_wrapped_around_is_none(told: int, length: int):
    packet = av.Packet(8)
    packet.duration, packet.time_base = told, Fraction(1, 44_100)
    assert packet_duration(packet) == length
