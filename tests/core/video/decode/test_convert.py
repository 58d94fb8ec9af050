"""Planar conversion gives the same values as packed conversion."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import VideoReformatter
from steadyscale.core.video.decode import convert
from steadyscale.core.video.format.stream_format import has_alpha

SOURCES = ["yuv420p", "yuv444p", "yuva420p", "gray", "gray10le", "gbrp", "rgba", "bgr0", "yuv420p10le", "yuva444p10le"]


@pytest.mark.parametrize(
    ("pixel_format", "alpha"),
    [(f, alpha) for f in SOURCES for alpha in (False, True) if has_alpha(f) or not alpha],
)
def test_planar_and_packed_conversion_agree(pixel_format: str, alpha: bool):
    noise = np.random.default_rng(1).integers(0, 256, (46, 70, 4), np.uint8)  # 70: rows are longer in memory
    frame = av.VideoFrame.from_ndarray(noise, format="rgba").reformat(format=pixel_format)
    packed = convert.to_rgb(frame, VideoReformatter(), alpha=alpha)
    planes = np.stack(convert.to_planes(frame, VideoReformatter(), alpha=alpha), axis=2)
    assert planes.dtype == packed.dtype
    assert planes.shape == (46, 70, 4 if alpha else 3)
    tolerance = 1 if planes.dtype == np.uint8 else 64  # of 65535: the two conversions round differently
    assert np.abs(planes.astype(int) - packed).max() <= tolerance


@pytest.mark.parametrize("high_bit_depth", [False, True])
@pytest.mark.parametrize("channels", [3, 4])
def test_a_planar_frame_holds_the_rounded_levels(channels: int, high_bit_depth: bool):
    frame = torch.rand(channels, 5, 7) * 1.2 - 0.1
    planar = convert.to_planar_frame(frame, high_bit_depth=high_bit_depth, width=8, height=6)
    planes = torch.from_numpy(
        np.stack(convert.to_planes(planar, VideoReformatter(), alpha=channels == 4)).astype(np.int32)
    )
    expected = (frame.clamp(0, 1) * (65535 if high_bit_depth else 255)).round().int()
    assert torch.equal(planes[:, :5, :7], expected)
    assert torch.equal(planes[:, :, 7], planes[:, :, 6]), "the last column is repeated"
    assert torch.equal(planes[:, 5], planes[:, 4]), "the last row is repeated"
