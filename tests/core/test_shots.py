"""Cuts and duplicates, with known answers at the limits."""

from __future__ import annotations

import numpy as np
import pytest
from steadyscale.core.shots import are_unrelated, is_cut, is_duplicate, is_screen

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


def scrolled_page(*, header: bool = True, margin: bool = True, shake: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two frames (96, 128) of a page of squares that scrolls by 8 pixels, and what around it stays."""
    frames = []
    for scroll in (0, 8):
        frame = np.full((96, 128), 0.9)
        frame[:, 8:120] = np.roll(np.kron(noise(3)[::4, ::4], np.ones((8, 7)))[:96, :112], -scroll, axis=0)
        if not margin:
            frame[:, :8], frame[:, 120:] = frame[:, 8:16], frame[:, 112:120]
        if header:
            frame[:10] = np.kron(noise(4)[0, ::4], np.ones((1, 8)))[:, :128]
        frames.append(frame)
    return frames[0], np.roll(frames[1], shake, axis=1)


def test_rows_and_columns_that_stay_show_a_screen():
    assert is_screen(*scrolled_page())
    assert not is_screen(*scrolled_page(shake=1)), "the camera moves"
    assert not is_screen(*scrolled_page(margin=False)), "rows alone may be a ticker over a filmed scene"
    assert not is_screen(*scrolled_page(header=False)), "columns alone may be bars"


def test_bars_around_a_filmed_scene_are_no_screen():
    first, second = (np.zeros((96, 128)) for _ in range(2))
    first[16:80, 16:112] = np.kron(noise(5)[::4, ::4], np.ones((6, 6)))[:64, :96]
    second[16:80, 16:112] = np.roll(first, 3, axis=1)[16:80, 16:112]
    assert not is_screen(first, second)


def test_frames_that_are_alike_in_place_are_no_cut_whatever_the_flow():
    first = noise(1)
    wrong = np.full((2, 48, 64), 12.0)
    assert is_cut(first, noise(2), wrong)
    assert not is_cut(first, first + 0.1 * (noise(2) - 0.5), wrong)


def by_night(seed: int, noise_seed: int, grain: float = 2.0, contrast: float = 6.0) -> np.ndarray:
    """Luma (100, 150) of a dark scene: squares of 10 pixels within some 8-bit levels, and noise."""
    squares = np.random.default_rng(seed).uniform(0, contrast, (10, 15))
    random = np.random.default_rng(100 + noise_seed)
    return (6 + np.kron(squares, np.ones((10, 10))) + random.normal(0, grain, (100, 150))) / 255


@pytest.mark.parametrize("grain", [0.0, 1.0, 2.0])
def test_a_cut_between_dark_scenes_is_one(grain: float):
    still = np.zeros((2, 100, 150))
    assert is_cut(by_night(1, 1, grain), by_night(2, 2, grain), still)
    assert not is_cut(by_night(1, 1, grain), by_night(1, 2, grain), still)


def test_dark_noise_is_no_cut():
    still = np.zeros((2, 100, 150))
    for grain in (0.5, 2.0, 6.0):
        assert not is_cut(by_night(1, 1, grain, 0), by_night(2, 2, grain, 0), still)
    # A codec rounds the mean of blocks to one level or the next.
    first, second = (
        np.kron(np.random.default_rng(seed).integers(6, 8, (25, 38)), np.ones((4, 4)))[:100, :150] / 255
        for seed in (1, 2)
    )
    assert not is_cut(first, second, still)


def test_dark_scenes_that_are_alike_are_related_whatever_the_light():
    assert are_unrelated(by_night(1, 1), by_night(2, 2))
    assert not are_unrelated(by_night(1, 1), 2 * by_night(1, 2) + 0.1)
    assert not are_unrelated(np.zeros((30, 50)), np.full((30, 50), 0.5))
