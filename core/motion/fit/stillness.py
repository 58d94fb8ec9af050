"""Recognize a camera at rest, in spite of noise and of moving subjects.

Even the most exact step is that of noise, and of subjects that fill much of the frame. But a camera on a tripod leaves
parts of the frame where they were, to a hundredth of a pixel, and a camera that moves leaves none. At night, no part
says as much: then all of them together have to agree with no motion.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ... import geometry
from ..optical_flow.gray_frame import GrayFrame
from .subpixel import MIN_SIDE

BLOCKS = (9, 16)  # rows and columns of blocks, each of which is compared on its own
MIN_BLOCK_PIXELS = 40  # selected pixels that determine the displacement of a block
MAX_BLOCK_STD = 0.05  # standard error of a block's displacement, in pixels, above which it says nothing
UNCHANGED_SIGMAS = 4.0  # the largest displacement by noise, in standard errors; noise of neighboring pixels correlates
UNCHANGED_PIXELS = 0.01  # displacement that compression causes
MIN_UNCHANGED_BLOCKS = 0.3  # of the blocks that say something; a roll leaves only those around the center
MIN_BLOCKS = 14  # a tenth of the frame: fewer are a logo
MAX_CHI_SQUARE = 18.5  # of four motions by noise: one in a thousand exceeds it
MAX_MOTION_STD = 0.03  # standard error of the motion of all blocks, in pixels, above which it says nothing
MIN_NOISE = 2e-4  # of luma in [0, 1]: rounding, of which flat frames have none either
MAX_STILL_STEP = 1.2  # pixels at the corner: noise does not cause longer steps
MIN_STILL_SECONDS = 1.0  # what rests for a shorter time is a reversal of the motion

Array = NDArray[np.float64]


def is_small(step: geometry.Matrices, height: int, width: int) -> bool:
    """Return whether a step (3, 3) is so small that noise may have caused it."""
    corners = geometry.corners(width, height)
    return bool(np.abs(geometry.transform_points(step, corners) - corners).max() < MAX_STILL_STEP)


def is_still(first: GrayFrame, second: GrayFrame) -> bool:
    """Return whether the camera did not move between two frames."""
    if min(first.plane.shape) < MIN_SIDE:
        return False
    moved, std = block_displacements(first, second)
    clear = std < MAX_BLOCK_STD
    if np.count_nonzero(clear) < MIN_BLOCKS:
        return _agree_with_rest(moved, std)
    distance, std = np.hypot(*moved[clear].T), std[clear]
    unchanged = np.count_nonzero(distance < UNCHANGED_PIXELS + UNCHANGED_SIGMAS * std)
    return bool(unchanged >= max(MIN_BLOCKS, MIN_UNCHANGED_BLOCKS * len(distance)))


def _agree_with_rest(moved: Array, std: Array) -> bool:
    """Return whether displacements of noisy blocks are those of a still camera.

    moved: (B, 2). A shift, a turn and a zoom are fitted; each has to be zero within its error. std: (B,).
    """
    rows, columns = BLOCKS
    x: Array = np.tile((np.arange(columns) + 0.5) * 2 / columns - 1, rows)
    y: Array = np.repeat((np.arange(rows) + 0.5 - rows / 2) * 2 / columns, columns)
    one, zero = np.ones_like(x), np.zeros_like(x)
    design = np.stack([[one, zero], [zero, one], [-y, x], [x, y]], axis=-1).swapaxes(0, 1)  # (B, 2, 4)
    known = np.isfinite(std)
    if np.count_nonzero(known) < MIN_BLOCKS:
        return False
    weight = 1 / np.maximum(std, np.median(std[known])) ** 2  # a logo does not outweigh the scene
    normal: Array = np.einsum("bci,b,bcj->ij", design, weight, design)
    if np.sqrt(np.linalg.inv(normal)[0, 0]) > MAX_MOTION_STD:
        return False
    rhs: Array = np.einsum("bci,b,bc->i", design, weight, moved)
    return float(rhs @ np.linalg.solve(normal, rhs)) < MAX_CHI_SQUARE


def block_displacements(first: GrayFrame, second: GrayFrame) -> tuple[Array, Array]:
    """Measure how far the content of each block moved.

    This is one Gauss-Newton step from no motion. Returns the displacements (B, 2) and their standard errors (B,), in
    pixels; the error is infinite where there are too few pixels. Changes of exposure have no effect: gain and offset of
    each block are solved jointly.
    """
    level, (height, width) = first.fine, first.plane.shape
    column = np.rint(level.x + (width / 2 - 0.5)).astype(np.intp)
    row = np.rint(level.y + (height / 2 - 0.5)).astype(np.intp)
    moved = second.fine.layers.reshape(-1, 3)[row * width + column].T
    # In float32, rounding would leave the equations of a flat block without a solution.
    luma, dx, dy = np.asarray(level.values, np.float64)
    columns = [(dx + moved[1]) / 2, (dy + moved[2]) / 2, luma - luma.mean(), np.ones_like(luma), moved[0] - luma]
    block = row * BLOCKS[0] // height * BLOCKS[1] + column * BLOCKS[1] // width
    count = BLOCKS[0] * BLOCKS[1]
    gram = np.empty((count, 5, 5))
    for i in range(5):
        for j in range(i + 1):
            gram[:, i, j] = gram[:, j, i] = np.bincount(block, columns[i] * columns[j], count)
    pixels = np.bincount(block, minlength=count)
    normal, rhs = gram[:, :4, :4], gram[:, :4, 4]
    inverse = np.linalg.inv(normal + 1e-9 * np.eye(4))
    solution = np.einsum("bij,bj->bi", inverse, rhs)
    squares = np.maximum(gram[:, 4, 4] - (solution * rhs).sum(axis=1), 0)
    variance = (squares / np.maximum(pixels - 4, 1) + MIN_NOISE**2) * (inverse[:, 0, 0] + inverse[:, 1, 1])
    std = np.where(pixels < MIN_BLOCK_PIXELS, np.inf, np.sqrt(variance))
    return solution[:, :2], std
