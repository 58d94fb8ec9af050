"""Dissolves: composed thumbnails and clips of two scenes with known shares and cameras."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from camera_simulation import make_shake_path, make_texture, render_camera
from steadyscale.core import geometry
from steadyscale.core.clip import TensorClip
from steadyscale.core.motion.transitions.dissolves import find_dissolves
from steadyscale.core.motion.transitions.transitions import THUMBNAIL
from steadyscale.core.stabilize import StabilizeSettings, correct_motion, measure_motion

FPS, COUNT = 25.0, 80
CELLS = THUMBNAIL[0] * THUMBNAIL[1]


def scene(seed: int) -> np.ndarray:
    """(COUNT, 144): thumbnails around mid-gray of a camera that shakes a little."""
    random = np.random.default_rng(seed)
    return 128 + random.normal(0, 25, CELLS) + random.normal(0, 2, (COUNT, CELLS))


def mixture(first: np.ndarray, second: np.ndarray, start: int, count: int) -> np.ndarray:
    """A dissolve whose `count` mixed frames begin at `start`."""
    share = np.clip((np.arange(COUNT) - start + 1) / (count + 1), 0, 1)[:, None]
    return np.rint((1 - share) * first + share * second).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("count", [5, 12, 24])
def test_a_dissolve_is_found_with_its_extent(count):
    (found,) = find_dissolves(mixture(scene(1), scene(2), 30, count), FPS)
    assert abs(found.first - 30) <= 2
    assert abs(found.last - (29 + count)) <= 2
    assert abs(found.middle - (29.5 + count / 2)) <= 1


def test_two_dissolves_are_two():
    three = mixture(mixture(scene(1), scene(2), 20, 10), scene(3), 50, 10)
    first, second = find_dissolves(three, FPS)
    assert abs(first.middle - 25) <= 1
    assert abs(second.middle - 55) <= 1


BLACK = np.full((COUNT, CELLS), 8.0) + np.random.default_rng(5).normal(0, 0.4, (COUNT, CELLS))
PAN = np.stack([np.random.default_rng(6).normal(128, 25, (9, 200))[:, i : i + 16].ravel() for i in range(COUNT)])


@pytest.mark.parametrize(
    "frames",
    [
        mixture(scene(1), scene(2), 30, 0),
        mixture(scene(1), scene(1) * 0.3, 30, 12),
        mixture(mixture(scene(1), BLACK, 20, 12), scene(2), 45, 12),
        mixture(scene(1), scene(2), 5, 70),
        PAN.astype(np.uint8),
        scene(1).astype(np.uint8),
        np.random.default_rng(8).normal(20, 3, (COUNT, CELLS)).astype(np.uint8),
    ],
    ids=["cut", "exposure", "fades", "slow change", "pan", "shake", "noise"],
)
def test_other_changes_are_no_dissolves(frames):
    assert find_dissolves(frames, FPS) == []


def test_a_clip_shorter_than_a_dissolve_has_none():
    assert find_dissolves(np.zeros((3, CELLS), np.uint8), FPS) == []


WIDTH, HEIGHT, MIXED = 192, 108, slice(24, 36)


@pytest.fixture(scope="module")
def dissolved():
    """A clip of two scenes filmed by hand, 60 frames with 12 mixed ones, their true paths, and the shares."""
    paths = [make_shake_path(60, seed, pixels=2.5, zoom=0) for seed in (1, 2)]
    films = [
        render_camera(make_texture(200, 360, seed), geometry.matrices_from_parameters(path), WIDTH, HEIGHT)
        for seed, path in zip((3, 4), paths, strict=True)
    ]
    share = np.clip((np.arange(60) - MIXED.start + 1) / 13, 0, 1)
    weights = torch.from_numpy(share).float().view(-1, 1, 1, 1)
    return TensorClip(films[0] * (1 - weights) + films[1] * weights, Fraction(25)), paths, share


def test_both_scenes_of_a_dissolve_move_smoothly(dissolved):
    """The displayed motion of each scene, weighed by its visibility, has no jump and less shake than before."""
    clip, paths, share = dissolved
    motion = measure_motion(clip)
    (mixed,) = motion.dissolves
    assert abs(mixed.start - MIXED.start) <= 2
    assert abs(mixed.stop - MIXED.stop) <= 2
    assert len(motion.shots) == 2

    matrices = correct_motion(motion, StabilizeSettings(border="mirror")).matrices
    around = slice(MIXED.start - 3, MIXED.stop + 3)
    weights = 1 - share[1:-1], share[1:-1]
    before, after = (
        np.hypot(*(weight * displayed_acceleration(path, warp) for path, weight in zip(paths, weights, strict=True)))
        for warp in (np.tile(np.eye(3), (60, 1, 1)), matrices)
    )
    assert np.sqrt(np.square(after[around]).mean()) < 0.5 * np.sqrt(np.square(before[around]).mean())
    moved = geometry.transform_points(matrices, np.zeros((1, 1, 2)))[:, 0]
    steps = np.linalg.norm(np.diff(moved, axis=0), axis=1)
    assert steps[around].max() < 2 * steps[:20].max(), "the correction does not jump"


def displayed_acceleration(path, matrices):
    """(58,): acceleration of the scene's center in the results, in pixels."""
    poses = geometry.matrices_from_parameters(path)
    displayed = geometry.transform_points(matrices @ geometry.inverse(poses), np.zeros((1, 1, 2)))[:, 0]
    return np.linalg.norm(np.diff(displayed, n=2, axis=0), axis=1)
