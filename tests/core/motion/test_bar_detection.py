"""Bars are found in spite of noise and subtitles; dark scenes have none. All positions are known by construction."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from steadyscale.core.bars import Bars
from steadyscale.core.clip import TensorClip
from steadyscale.core.motion.bar_detection import find_bars

WIDTH, HEIGHT, COUNT = 96, 64, 12
NO_BARS = Bars()


def film(bars: Bars = NO_BARS, *, noise: float = 0.01, light: float = 1.0) -> torch.Tensor:
    """(N, 3, H, W): a bright texture that moves, inside black bars with noise."""
    random = torch.Generator().manual_seed(1)
    scene = 0.15 + 0.8 * torch.rand(3, HEIGHT, WIDTH + COUNT, generator=random)
    frames = torch.stack([scene[..., i : i + WIDTH] for i in range(COUNT)]) * light
    barred = torch.full_like(frames, 0.02)
    area = (..., *bars.area(HEIGHT, WIDTH))
    barred[area] = frames[area]
    return (barred + noise * torch.randn(frames.shape, generator=random)).clamp(0, 1)


def found(frames: torch.Tensor) -> Bars | None:
    return find_bars(TensorClip(frames, Fraction(25)))


@pytest.mark.parametrize(
    "bars",
    [Bars(top=8, bottom=8), Bars(left=12, right=12), Bars(6, 8, 14, 10), Bars(bottom=4)],
    ids=["letterbox", "pillarbox", "window", "below"],
)
def test_bars_are_found_to_the_pixel(bars):
    assert found(film(bars)) == bars


def test_odd_bars_are_rounded_up():
    assert found(film(Bars(top=7, bottom=9))) == Bars(top=8, bottom=10)


def test_subtitles_in_a_bar_are_no_content():
    frames = film(Bars(top=10, bottom=12))
    frames[2:7, :, 55:60, 20:76] = 0.9
    frames[7:, :, 57:62, 16:60] = 0.9
    assert found(frames) == Bars(top=10, bottom=12)


def test_a_frame_without_bars_has_none_and_takes_one_look():
    class Counted(TensorClip):
        looks = 0

        def frames(self, batch: int = 1):
            for frame in super().frames(batch):
                Counted.looks += 1
                yield frame

    assert find_bars(Counted(film(), Fraction(25))) is None
    assert Counted.looks == 1


def test_dark_scenes_have_no_bars():
    night = film(light=0.08)
    floor = film()
    floor *= torch.linspace(1.2, 0.0, HEIGHT).clamp(max=1).view(-1, 1)  # light falls off towards the lower edge
    assert found(night) is None
    assert found(floor) is None
    shaken = film(Bars(bottom=10), noise=0)
    for i, frame in enumerate(shaken):  # a black floor below a straight edge, filmed by hand
        frame[:] = frame.roll((i % 5) - 2, dims=1)
        frame[:, :4] = 0.5
    assert found(shaken[:, :, 4:]) != Bars(bottom=10)


def test_a_dark_half_with_a_lit_strip_across_is_no_bar():
    frames = film(Bars(right=40), noise=0)
    frames[:, :, :12] = 0.5
    assert found(frames) is None
    assert found(film(Bars(right=40), noise=0)) == Bars(right=40)


def test_bars_of_some_frames_only_are_none_and_few_frames_say_nothing():
    frames = film(Bars(top=8, bottom=8))
    frames[9] = film()[9]
    assert found(frames) is None
    assert found(film(Bars(top=8, bottom=8))[:7]) is None
