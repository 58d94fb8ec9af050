"""Y4M on a pipe: what FFmpeg reads of it, and when each frame is there."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import pytest
import torch
from numbered_video import numbered_frames, read_number
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.video.encode.y4m_pipe import write_y4m


def decode(data: bytes) -> list[torch.Tensor]:
    with av.open(io.BytesIO(data), format="yuv4mpegpipe") as container:
        assert container.streams.video[0].average_rate == Fraction(30000, 1001)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return [torch.from_numpy(frame).permute(2, 0, 1) / 255 for frame in frames]


@pytest.mark.parametrize("size", [(64, 48), (65, 49)])
def test_every_frame_comes_back_in_order(size):
    pipe = io.BytesIO()
    info = ClipInfo(*size, Fraction(30000, 1001))
    assert write_y4m(pipe, iter(numbered_frames(5, *size).split(2)), info) == 5
    frames = decode(pipe.getvalue())
    assert [read_number(frame) for frame in frames] == [0, 1, 2, 3, 4]
    assert frames[0].shape == (3, size[1], size[0])


@pytest.mark.parametrize("height", [48, 720])
def test_colors_are_those_that_a_reader_assumes(height):
    """A flat color survives: BT.601 for small frames, BT.709 for large ones, limited range."""
    pipe, color = io.BytesIO(), torch.tensor([0.8, 0.3, 0.1]).view(1, 3, 1, 1)
    write_y4m(pipe, iter([color.expand(1, 3, height, 64)]), ClipInfo(64, height, Fraction(30000, 1001)))
    [frame] = decode_with_matrix(pipe.getvalue(), "ITU709" if height > 576 else "ITU601")
    assert (frame - color[0]).abs().max() < 0.015


def decode_with_matrix(data: bytes, matrix: str) -> list[torch.Tensor]:
    with av.open(io.BytesIO(data), format="yuv4mpegpipe") as container:
        frames = [f.reformat(format="rgb24", src_colorspace=matrix) for f in container.decode(video=0)]
    return [torch.from_numpy(frame.to_ndarray()).permute(2, 0, 1) / 255 for frame in frames]


def test_a_frame_is_written_before_the_next_one_is_asked_for():
    pipe, sizes = io.BytesIO(), []

    def frames():
        for _ in range(3):
            sizes.append(len(pipe.getvalue()))
            yield torch.zeros(1, 3, 48, 64)

    write_y4m(pipe, frames(), ClipInfo(64, 48, Fraction(25)))
    one = len(b"FRAME\n") + 64 * 48 * 3 // 2
    assert [size - sizes[0] for size in sizes] == [0, one, 2 * one]


def test_a_change_of_size_is_refused():
    with pytest.raises(ClipError, match="all frames must have one shape"):
        write_y4m(io.BytesIO(), iter([torch.zeros(1, 3, 50, 64)]), ClipInfo(64, 48, Fraction(25)))


def test_a_reader_that_goes_away_is_reported():
    class ClosedPipe(io.BytesIO):
        def flush(self) -> None:
            raise BrokenPipeError

    with pytest.raises(ClipError, match="closed it after 0 frames"):
        write_y4m(ClosedPipe(), iter([torch.zeros(1, 3, 48, 64)]), ClipInfo(64, 48, Fraction(25)))
