from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from steadyscale.core.clip import ClipError, ClipInfo, all_finite, first_non_finite, is_same_aspect, parse_fps


@pytest.mark.parametrize("factor", [0.31, 0.5, 1.0, 1.5, 2.0015, 4.0])
def test_scaled_clips_have_the_same_aspect(factor: float):
    info = ClipInfo(641, 359, Fraction(24))
    assert is_same_aspect(info.size, info.scaled(factor).size)


@pytest.mark.parametrize("other", [(320, 192), (1280, 714), (1274, 720), (360, 640), (640, 640)])
def test_stretched_sizes_have_another_aspect(other: tuple[int, int]):
    assert not is_same_aspect((640, 360), other)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_all_finite_detects_nan_and_infinity_but_not_large_values(wrong):
    values = torch.full((2, 3, 50, 60), 3e38)
    assert all_finite(values)
    assert all_finite(torch.full((2, 3, 50, 60), 60000.0).half())
    values[1, 2, 49, 59] = wrong
    assert not all_finite(values)
    values[0, 0, 0, 0] = -wrong
    assert not all_finite(values)


@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_first_non_finite_returns_the_frame_index(number: int, value: float):
    frames = torch.rand(4, 3, 5, 7)
    assert first_non_finite(frames) is None
    frames[number:, 1, 3, 2] = value
    assert first_non_finite(frames) == number


@pytest.mark.parametrize("fps", [float("nan"), float("inf"), 0.0, -1.0, 1e9])
def test_numbers_that_are_no_frame_rate(fps: float):
    with pytest.raises(ClipError, match="is no frame rate"):
        parse_fps(fps)
    with pytest.raises(ClipError, match="is no frame rate"):
        ClipInfo(4, 4, fps)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("text", ["nan", "inf", "0", "-25", "1e99999999999", "1/0", "fast", "9" * 40])
def test_texts_that_are_no_frame_rate(text: str):
    with pytest.raises(ClipError, match="is no frame rate"):
        parse_fps(text)


def test_frame_rates():
    assert parse_fps("24000/1001") == Fraction(24000, 1001)
    assert parse_fps("23.976") == Fraction("23.976")
    assert parse_fps(25.0) == 25
