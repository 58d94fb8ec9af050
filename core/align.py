"""The last hundredths of a pixel: bend a step until two frames lie on each other as well as they can.

Flow looks at small windows, each on its own; where these show little but noise it falls back to standing still, and a
fit to such a flow comes out too short. Here all pixels speak at once (Lucas and Kanade, 1981; with the mean of both
gradients, Malis, 2004, which converges quadratically), from coarse to fine. A subject that moves by itself does not lie
on itself under the camera's motion, and is not listened to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from . import geometry
from .flow import optional_opencv

ROUNDS = 3  # at each size
ENOUGH = 0.004  # pixels at the corner: a correction smaller than this ends the search at a size
SOME = 7  # medians are taken of every so many pixels: they are as good, and all of them would take half of the time
MISFIT = 0.2  # pixels by which the camera's true motion misses a homography, here and there
PRIOR = 1e-4  # weight of "no shear and no perspective", per squared pixel at the corner, against all pixels' evidence

Plane = NDArray[np.floating]  # (h, w), float32


@dataclass(frozen=True)
class _Pair:
    """Two grey frames at one size, and what is asked of them again and again.

    In numpy, because these are many small operations: shared out to threads by torch, each would wait for the slowest.
    """

    first: Plane
    second: Plane
    slope: tuple[Plane, Plane]  # of the first: change per pixel across and down
    x: Plane  # (1, w), from the centre
    y: Plane  # (h, 1)


def align(first: Tensor, second: Tensor, step: geometry.Matrices) -> geometry.Matrices:
    """A better step (3, 3) between grey frames (1, 1, h, w) in [0, 1], near the given one, in their pixels.

    Half the size comes first and only as a similarity, for there a start that is some pixels off still finds its way.
    """
    if min(first.shape[-2:]) < 32:
        return step
    whole = [frame[0, 0].float().cpu().numpy() for frame in (first, second)]
    for frames, scale, free in (([_halved(f) for f in whole], 0.5, 4), (whole, 1.0, 8)):
        pair = _pair(*frames)
        small = geometry.rescaled(step, scale, scale)
        for spread in np.geomspace(6, 3, ROUNDS):
            small, moved = _improved(pair, small, float(spread), free)
            if moved < ENOUGH:
                break
        step = geometry.rescaled(small, 1 / scale, 1 / scale)
    return step


def _pair(first: Plane, second: Plane) -> _Pair:
    first, second = _blurred(first), _blurred(second)
    height, width = first.shape
    x = np.arange(width, dtype=np.float32)[None] + np.float32(0.5 - width / 2)
    y = np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5 - height / 2)
    return _Pair(first, second, _slope(first), x, y)


def _improved(pair: _Pair, step: geometry.Matrices, spread: float, free: int) -> tuple[geometry.Matrices, float]:
    """One Gauss-Newton step: the small motion, done before `step`, that brings the frames closer; its size in pixels.

    free: how many tangents may change (4 keeps it a similarity). Exposure, as a gain and an offset, is solved along.
    """
    height, width = pair.first.shape
    unit = float(np.hypot(width, height)) / 2
    at_corner = np.array([1, 1, *[unit] * 4, unit**2, unit**2])  # tangents -> pixels there
    warped, inside = _looked_up(pair, step)
    dx, dy = ((a + b) / 2 for a, b in zip(pair.slope, _slope(warped), strict=True))
    error = warped - pair.first
    off, trust = _judged(error, dx * dx + dy * dy)
    some = off[::SOME, ::3][inside[::SOME, ::3]]
    reach = spread * max(float(np.median(some)) if some.size else 0.0, 0.5)
    weight = np.maximum(1 - (off / reach) ** 2, 0) ** 2 * trust * inside

    x, y = pair.x / np.float32(unit), pair.y / np.float32(unit)
    grow = dx * x + dy * y
    changes = [dx, dy, dy * x - dx * y, grow, dx * x - dy * y, dx * y + dy * x, -grow * x, -grow * y][:free]
    columns = np.stack([*changes, pair.first, np.ones_like(dx)]).reshape(free + 2, -1)
    weighted = columns * weight.reshape(1, -1)
    normal = (weighted @ columns.T).astype(np.float64)
    pull = -(weighted @ error.reshape(-1)).astype(np.float64)
    if free == 8:
        strength = PRIOR * np.trace(normal[:2, :2])
        normal[range(4, 8), range(4, 8)] += strength
        pull[4:8] -= strength * (geometry.to_tangents(step) * at_corner)[4:]
    small = np.zeros(8)
    small[:free] = np.linalg.solve(normal + 1e-9 * (np.trace(normal) + 1) * np.eye(free + 2), pull)[:free]
    return geometry.normalized(step @ geometry.to_matrices_of(small / at_corner)), float(np.abs(small).max())


def _judged(error: Plane, steep: Plane) -> tuple[Plane, Plane]:
    """Each pixel's error in units of what noise and a slight misfit explain, and the inverse square of that unit.

    Noise is what remains where the picture is smooth, whatever step is tried. A misfit shows where it is steep; without
    it, a richly patterned subject would outweigh a plain background.
    """
    few, flat = error[::SOME, ::3], steep[::SOME, ::3]
    middle = np.median(few)
    noise = max(float(np.median(np.abs(few - middle)[flat <= np.median(flat)])) * 1.5, 1 / 1024)
    trust = 1 / (np.float32(noise**2) + np.float32(MISFIT**2) * steep)
    return np.abs(error - middle) * np.sqrt(trust), trust


def _looked_up(pair: _Pair, step: geometry.Matrices) -> tuple[Plane, NDArray[np.bool_]]:
    """The second frame where the step says that the first one's pixels went, and which of them it still shows.

    Linear, because the frames are blurred enough for it; a sharper kernel steepens slopes and so biases steps.
    """
    height, width = pair.second.shape
    m, x, y = step.astype(np.float32), pair.x, pair.y
    depth = m[2, 0] * x + m[2, 1] * y + 1
    u = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / depth + np.float32(width / 2 - 0.5)
    v = (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / depth + np.float32(height / 2 - 0.5)
    inside = (u > 1.5) & (u < width - 2.5) & (v > 1.5) & (v < height - 2.5)
    cv2 = optional_opencv()
    if cv2 is not None:
        return cv2.remap(pair.second, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), inside
    u, v = u.clip(0, width - 1.001), v.clip(0, height - 1.001)
    column, row = u.astype(np.int32), v.astype(np.int32)
    across, down = u - column, v - row
    flat, corner = pair.second.ravel(), row * width + column
    upper = flat[corner] * (1 - across) + flat[corner + 1] * across
    lower = flat[corner + width] * (1 - across) + flat[corner + width + 1] * across
    return upper * (1 - down) + lower * down, inside


def _halved(grey: Plane) -> Plane:
    """Means of 2 x 2 pixels; an odd last row or column is left out."""
    even = grey[: grey.shape[0] // 2 * 2, : grey.shape[1] // 2 * 2]
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4


def _blurred(grey: Plane) -> Plane:
    """A little smoother (1 4 6 4 1 both ways), so that the picture between two pixels is near the line between them."""
    p = np.pad(grey, 2, mode="edge")
    p = (p[:-4] + p[4:] + 4 * (p[1:-3] + p[3:-1]) + 6 * p[2:-2]) / 16
    return (p[:, :-4] + p[:, 4:] + 4 * (p[:, 1:-3] + p[:, 3:-1]) + 6 * p[:, 2:-2]) / 16


def _slope(grey: Plane) -> tuple[Plane, Plane]:
    """Change per pixel across and down."""
    p = np.pad(grey, 1, mode="edge")
    return (p[1:-1, 2:] - p[1:-1, :-2]) / 2, (p[2:, 1:-1] - p[:-2, 1:-1]) / 2
