"""Boxes around what changed."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from steadyscale.core.upscaling.dirty_rects import TILE, merged


def covered(boxes, rows, cols):
    count = np.zeros((rows, cols), int)
    for box in boxes:
        assert box.rows.start % TILE == box.cols.start % TILE == 0
        count[box.rows.start // TILE : -(-box.rows.end // TILE), box.cols.start // TILE : -(-box.cols.end // TILE)] += 1
    return count


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 32), st.integers(0, TILE - 1), st.randoms())
def test_boxes_cover_what_is_dirty_once(rows, cols, halo, missing, random):
    dirty = np.array([[random.random() < 0.3 for _ in range(cols)] for _ in range(rows)])
    height, width = rows * TILE - missing, cols * TILE - missing
    boxes = merged(dirty, height, width, halo)
    count = covered(boxes, rows, cols)
    assert count.max(initial=0) <= 1
    assert (count[dirty] == 1).all()
    assert all(box.rows.end <= height and box.cols.end <= width for box in boxes)


def test_near_tiles_are_one_box_and_far_ones_are_not():
    dirty = np.zeros((8, 8), bool)
    dirty[2, 2] = dirty[2, 3] = dirty[3, 2] = dirty[7, 6] = True
    boxes = merged(dirty, 8 * TILE, 8 * TILE, 6)
    assert sorted((b.rows.start, b.rows.end, b.cols.start, b.cols.end) for b in boxes) == [
        (2 * TILE, 4 * TILE, 2 * TILE, 4 * TILE),
        (7 * TILE, 8 * TILE, 6 * TILE, 7 * TILE),
    ]
    assert len(merged(dirty, 8 * TILE, 8 * TILE, 0)) == 3
