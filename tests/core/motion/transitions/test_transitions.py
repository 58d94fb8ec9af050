"""Transitions that resolve to cuts, by thumbnails whose content is known."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from steadyscale.core.clip import ClipInfo
from steadyscale.core.motion.transitions.fades import find_black_runs
from steadyscale.core.motion.transitions.transitions import THUMBNAIL, resolve_transitions, thumbnail
from steadyscale.core.path.motion import Motion

COUNT, CELLS = 60, THUMBNAIL[0] * THUMBNAIL[1]


def scene(seed: int, contrast: float = 25.0) -> np.ndarray:
    """(COUNT, 144): thumbnails above black of a camera that shakes a little."""
    random = np.random.default_rng(seed)
    return random.uniform(0, contrast * 3.5, CELLS) + random.normal(0, contrast / 12, (COUNT, CELLS))


def visible(values: np.ndarray, share: np.ndarray | float = 1.0) -> np.ndarray:
    noise = np.random.default_rng(9).normal(0, 0.3, values.shape)
    return np.rint(8 + values * np.reshape(share, (-1, 1)) + noise).clip(0, 255).astype(np.uint8)


def motion_with_cuts(thumbnails: np.ndarray, *cuts: int) -> Motion:
    confidence = np.ones(COUNT)
    confidence[[0, *cuts]] = 0
    steps = np.tile(np.eye(3), (COUNT, 1, 1))
    steps[1:, 0, 2] = 3.0
    return Motion(steps, confidence, ClipInfo(64, 36, Fraction(25)), thumbnails=thumbnails)


FADE = np.interp(np.arange(COUNT), [20, 28, 34, 42], [1, 0, 0, 1])  # black from 28 to 34


def test_a_fade_of_one_scene_is_no_cut_and_black_frames_have_no_motion():
    resolved = resolve_transitions(motion_with_cuts(visible(scene(1), FADE), 28, 35))
    assert resolved.shots == [slice(0, COUNT)]
    assert (resolved.steps[29:35, 0, 2] == 0).all()
    assert (resolved.steps[1:26, 0, 2] == 3).all()
    assert (resolved.steps[37:, 0, 2] == 3).all()
    assert resolved.thumbnails is None


def test_a_fade_to_another_scene_is_one_cut_in_the_black():
    both = np.where(np.arange(COUNT)[:, None] < 31, scene(1), scene(2))
    resolved = resolve_transitions(motion_with_cuts(visible(both, FADE), 28, 35, 50))
    first, second, third = resolved.shots
    assert 29 <= first.stop <= 33
    assert (second.stop, third.stop) == (50, COUNT)


def test_a_dark_scene_is_not_black():
    """By night, cuts are where they are found."""
    for contrast in (0.6, 1.0):
        thumbnails = visible(np.where(np.arange(COUNT)[:, None] < 30, scene(1, contrast), scene(2, contrast)))
        assert find_black_runs(thumbnails, 25.0) == []
    assert find_black_runs(visible(np.zeros((COUNT, CELLS))), 25.0) == []


def test_black_at_the_end_of_a_clip_is_a_run():
    thumbnails = visible(scene(1), np.interp(np.arange(COUNT), [40, 50], [1, 0]))
    (run,) = find_black_runs(thumbnails, 25.0)
    assert run.stop == COUNT
    assert run.is_one_scene
    assert len(resolve_transitions(motion_with_cuts(thumbnails, 50)).shots) == 1


def test_a_dissolve_has_one_cut_in_its_middle():
    share = np.interp(np.arange(COUNT), [29, 42], [0, 1])[:, None]
    motion = motion_with_cuts(visible(scene(1) * (1 - share) + scene(2) * share), 33, 50)
    resolved = resolve_transitions(motion)
    first, second, third = resolved.shots
    assert 35 <= first.stop <= 37
    assert (second.stop, third.stop) == (50, COUNT)
    assert 0 < resolved.confidence[33] < 0.2, "interpolated"
    (mixed,) = resolved.dissolves
    assert mixed.start == pytest.approx(30, abs=2)
    assert mixed.stop == pytest.approx(42, abs=2)


def test_motion_without_thumbnails_stays():
    motion = replace(motion_with_cuts(visible(scene(1)), 30), thumbnails=None)
    assert resolve_transitions(motion) is motion


def test_a_thumbnail_has_the_means_of_the_blocks():
    values = np.arange(CELLS, dtype=np.float32).reshape(THUMBNAIL) / 255
    plane = np.kron(values, np.ones((7, 5), np.float32))[None, None]
    assert np.array_equal(thumbnail(plane), np.arange(CELLS))
    assert thumbnail(np.full((1, 1, 4, 6), 0.2, np.float32)).shape == (CELLS,)
