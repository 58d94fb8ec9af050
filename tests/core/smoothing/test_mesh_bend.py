"""Offsets are split into an affine part and a remainder of a limited length."""

import numpy as np
import pytest
from steadyscale.core.path.mesh import MESH_SHAPE, mesh_vertices
from steadyscale.core.smoothing.mesh_bend import limit_bend

LIMIT, HELD, WINDOW, COUNT = 0.4, 0.3, 31, 40
VERTICES = mesh_vertices(480.0, 270.0)


def affine(random, count=COUNT):
    """Affine offsets (count, *MESH_SHAPE, 2) of a few pixels."""
    matrix, shift = random.normal(0, 0.01, (count, 1, 2, 2)), random.normal(0, 3, (count, 1, 1, 2))
    return (VERTICES @ matrix + shift).astype(np.float32)


def test_affine_offsets_stay_as_they_are():
    offsets = affine(np.random.default_rng(0), 1).repeat(COUNT, axis=0)
    limited = limit_bend(offsets, LIMIT, HELD, WINDOW)
    assert limited.dtype == np.float32
    assert np.abs(limited - offsets).max() < LIMIT + 1e-3
    tight = limit_bend(offsets, 1e-6, 1e3, WINDOW)
    assert np.abs(tight - offsets).max() < 1e-3


@pytest.mark.parametrize("size", [0.1, 3.0, 100.0])
def test_any_offsets_are_within_the_limit_of_an_affine_map(size):
    random = np.random.default_rng(1)
    limited = limit_bend(random.normal(0, size, (COUNT, *MESH_SHAPE, 2)).astype(np.float32), LIMIT, HELD, WINDOW)
    line = np.polyfit(np.arange(MESH_SHAPE[1]), limited[:, 3, :, 1].T, 1)
    fitted = np.stack([np.polyval(each, np.arange(MESH_SHAPE[1])) for each in line.T])
    assert np.abs(limited[:, 3, :, 1] - fitted).max() < 2.5 * LIMIT
    second = np.diff(limited, n=2, axis=2)
    assert np.abs(second).max() <= 4 * LIMIT + 1e-3, "of an affine part, it is zero"


def test_small_offsets_stay_as_they_are():
    offsets = np.random.default_rng(2).uniform(-0.2, 0.2, (COUNT, *MESH_SHAPE, 2)).astype(np.float32)
    assert np.abs(limit_bend(offsets, LIMIT, HELD, WINDOW) - offsets).max() < 1e-6


def test_a_frame_is_not_moved_by_a_few_vertices_that_deviate_far():
    offsets = np.zeros((COUNT, *MESH_SHAPE, 2), np.float32)
    offsets[:, 6:, 12:, 0] = 8 * np.sin(np.arange(COUNT) / 2)[:, None, None]
    limited = limit_bend(offsets, LIMIT, HELD, WINDOW)
    assert np.abs(limited[:, :4, :8]).max() < 0.3
    assert np.abs(limited[:, 7:, 13:, 0]).max() > LIMIT
