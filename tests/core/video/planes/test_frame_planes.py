"""Planes are views of a frame's memory, and become frames again."""

from __future__ import annotations

import pytest
import torch
from av.video.frame import VideoFrame
from steadyscale.core.video.planes.frame_planes import empty_planes, frame_from_planes, frame_planes
from steadyscale.core.video.planes.layout import layout_for

FORMATS = ["yuv420p", "yuva422p", "yuv444p10le", "yuv420p16le", "nv12", "p010le", "gray", "gbrap16le", "rgb24", "bgra"]


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_frame_planes_share_the_memory_of_the_frame(pixel_format: str):
    frame = VideoFrame(37, 23, pixel_format)
    planes = frame_planes(frame)
    for index, plane in enumerate(planes):
        plane.fill_(index + 1)
    assert all(bytes(plane)[0] == index + 1 for index, plane in enumerate(frame.planes))
    for plane, stored in zip(planes, frame.planes, strict=True):
        assert plane.stride(0) * plane.element_size() == stored.line_size
    last = planes[-1]
    del frame
    assert (last == len(planes)).all(), "the memory lives as long as a view"


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_a_batch_survives_planes_and_frames(pixel_format: str):
    layout = layout_for(pixel_format)
    assert layout is not None
    copies = empty_planes(layout, 37, 23, batch=2)
    frames = []
    for index in range(2):
        frame = VideoFrame(37, 23, pixel_format)
        for plane in frame_planes(frame):
            plane.random_(0, 200)
        for copy, plane in zip(copies, frame_planes(frame), strict=True):
            copy[index].copy_(plane)
        frames.append(frame)
    for index, frame in enumerate(frames):
        result = frame_from_planes([plane[index] for plane in copies], layout, 37, 23)
        assert result.format.name == pixel_format
        assert (result.width, result.height) == (37, 23)
        for before, after in zip(frame_planes(frame), frame_planes(result), strict=True):
            assert torch.equal(before, after)


def test_an_upload_of_420_takes_one_and_a_half_bytes_per_pixel():
    layout = layout_for("yuv420p")
    assert layout is not None
    assert sum(plane.nbytes for plane in empty_planes(layout, 64, 48)) == 1.5 * 64 * 48


def test_wrong_planes_are_refused():
    layout = layout_for("gray")
    assert layout is not None
    with pytest.raises(ValueError, match=r"is torch.uint8 of shape \(4, 6\), not torch.uint8 of shape \(4, 5\)"):
        frame_from_planes([torch.zeros(4, 5, dtype=torch.uint8)], layout, 6, 4)
    with pytest.raises(ValueError, match="yuyv422 has no plane layout"):
        frame_planes(VideoFrame(4, 4, "yuyv422"))
