"""Rectangles that cover changed tiles."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from steadyscale.core.upscaling.regions.dirty_rects import TILE_SIZE, cover_rects


def covered(rects, rows, cols):
    count = np.zeros((rows, cols), int)
    for rect in rects:
        assert rect.rows.start % TILE_SIZE == rect.cols.start % TILE_SIZE == 0
        count[
            rect.rows.start // TILE_SIZE : -(-rect.rows.end // TILE_SIZE),
            rect.cols.start // TILE_SIZE : -(-rect.cols.end // TILE_SIZE),
        ] += 1
    return count


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 32), st.integers(0, TILE_SIZE - 1), st.randoms())
def test_rectangles_cover_dirty_tiles_once(rows, cols, halo, missing, random):
    dirty = np.array([[random.random() < 0.3 for _ in range(cols)] for _ in range(rows)])
    height, width = rows * TILE_SIZE - missing, cols * TILE_SIZE - missing
    rects = cover_rects(dirty, height, width, halo)
    count = covered(rects, rows, cols)
    assert count.max(initial=0) <= 1
    assert (count[dirty] == 1).all()
    assert all(rect.rows.end <= height and rect.cols.end <= width for rect in rects)


def test_near_tiles_share_a_rectangle_and_far_ones_do_not():
    dirty = np.zeros((8, 8), bool)
    dirty[2, 2] = dirty[2, 3] = dirty[3, 2] = dirty[7, 6] = True
    rects = cover_rects(dirty, 8 * TILE_SIZE, 8 * TILE_SIZE, 6)
    assert sorted((b.rows.start, b.rows.end, b.cols.start, b.cols.end) for b in rects) == [
        (2 * TILE_SIZE, 4 * TILE_SIZE, 2 * TILE_SIZE, 4 * TILE_SIZE),
        (7 * TILE_SIZE, 8 * TILE_SIZE, 6 * TILE_SIZE, 7 * TILE_SIZE),
    ]
    assert len(cover_rects(dirty, 8 * TILE_SIZE, 8 * TILE_SIZE, 0)) == 3
