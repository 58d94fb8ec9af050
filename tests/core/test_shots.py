"""Cuts and duplicates, with known answers at the limits."""

from __future__ import annotations

import numpy as np
import pytest
from steadyscale.core.shots import is_cut, is_duplicate

STILL = np.zeros((2, 48, 64))


def noise(seed: int, contrast: float = 0.3) -> np.ndarray:
    """Luma (48, 64) of squares of 4 x 4 pixels around mid-gray."""
    squares = np.random.default_rng(seed).uniform(-contrast, contrast, (12, 16))
    return 0.5 + np.kron(squares, np.ones((4, 4)))


@pytest.mark.parametrize(("levels", "expected"), [(0, True), (0.49, True), (0.51, False), (1, False), (-1, False)])
def test_one_pixel_that_differs_by_a_level_is_no_duplicate(levels: float, expected: bool):
    first = noise(1)
    second = first.copy()
    second[40, 60] += levels / 255
    assert is_duplicate(first, second) is expected
    assert is_duplicate(second, first) is expected


def test_unrelated_frames_are_a_cut_and_equal_ones_are_not():
    assert is_cut(noise(1), noise(2), STILL)
    assert not is_cut(noise(1), noise(1), STILL)


def test_a_flash_keeps_the_structure_and_is_no_cut():
    assert not is_cut(noise(1), noise(1) + 0.4, STILL)
    assert not is_cut(noise(1), 2 * noise(1), STILL)


@pytest.mark.parametrize(("contrast", "expected"), [(0.004, False), (0.1, True)])
def test_frames_that_hardly_differ_are_one_scene(contrast: float, expected: bool):
    assert is_cut(noise(1, contrast), noise(2, contrast), STILL) is expected


def test_the_flow_leads_from_the_first_frame_to_the_second():
    """Pixel p of the first is found at p + flow(p) in the second."""
    first = noise(1)
    second = np.roll(first, (8, -4), axis=(0, 1))
    flow = np.stack([np.full((48, 64), -4.0), np.full((48, 64), 8.0)])
    assert not is_cut(first, second, flow)
    assert is_cut(first, second, -flow)
    assert is_cut(first, second, flow[::-1])
