from __future__ import annotations

from fractions import Fraction

import pytest
from steadyscale.core.clip import ClipInfo, same_shape


@pytest.mark.parametrize("factor", [0.31, 0.5, 1.0, 1.5, 2.0015, 4.0])
def test_a_clip_has_the_same_shape_at_every_size_that_it_is_rounded_to(factor: float):
    info = ClipInfo(641, 359, Fraction(24))
    assert same_shape(info.size, info.scaled(factor).size)


@pytest.mark.parametrize("other", [(320, 192), (1280, 714), (1274, 720), (360, 640), (640, 640)])
def test_frames_that_would_be_stretched_have_another_shape(other: tuple[int, int]):
    assert not same_shape((640, 360), other)
