"""The last hundredths of a pixel: bend a step until two frames lie on each other as well as they can.

Flow looks at small windows, each on its own; where these show little but noise it falls back to standing still, and a
fit to such a flow comes out too short. Here pixels from everywhere speak at once (Lucas and Kanade, 1981; with the mean
of both gradients, Malis, 2004, which converges quadratically), from coarse to fine. A subject that moves by itself does
not lie on itself under the camera's motion, and is not listened to.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..opencv import optional_opencv
from .fit import LARGEST
from .followers import EVERYWHERE, Followers, at
from .grey import Grey, Relief

SPREADS = (6.0, 4.2, 3.0)  # errors, in units of the usual one, up to which a pixel is listened to: one round each
ENOUGH = 0.05  # pixels at the corner: after a correction smaller than this, what is left is far smaller still
SOME = 5  # medians are taken of every so many pixels: they are as good
MISFIT = 0.2  # pixels by which the camera's true motion misses a homography, here and there
PRIOR = 1e-4  # weight of "no shear and no perspective", per squared pixel at the corner, against all pixels' evidence
FEWEST = 64  # pixels; fewer cannot tell a motion
PRODUCT = 1024  # pixels: BLAS multiplies this much at once; more it would share out to threads that wait for each other

Values = NDArray[np.float32]  # (P,), one per pixel


def align(first: Grey, second: Grey, step: geometry.Matrices, followers: Followers = EVERYWHERE) -> geometry.Matrices:
    """A better step (3, 3) between two frames, near the given one, in their pixels.

    Half the size comes first, and at first only as a similarity, for there a start that is some pixels off still finds
    its way. What the first frame hides is not looked at, nor much what does not follow the camera.
    """
    if min(first.plane.shape) < 32:
        return step
    half, whole = (first.coarse, second.coarse), (first.fine, second.fine)
    for pair, scale, free in ((half, 0.5, 4), (half, 0.5, 8), (whole, 1.0, 8)):
        if len(pair[0].x) < FEWEST:
            break
        small = geometry.rescaled(step, scale, scale)
        heard = _heard(pair[0], followers)
        for spread in SPREADS:
            better, moved = _improved(*pair, heard, small, spread, free)
            if not geometry.regular(better, 2 * LARGEST):
                break
            small = better
            if moved < ENOUGH:
                break
        step = geometry.rescaled(small, 1 / scale, 1 / scale)
    return step


def _heard(first: Relief, followers: Followers) -> Values:
    """(P,) in [0, 1]: what each pixel counts. All where three quarters around it follow the camera, none below one."""
    known = at(followers, first.x, first.y, *first.layers.shape[:2])
    return np.clip(2 * known - 0.5, 0, 1).astype(np.float32)


def _improved(
    first: Relief, second: Relief, heard: Values, step: geometry.Matrices, spread: float, free: int
) -> tuple[geometry.Matrices, float]:
    """One Gauss-Newton step: the small motion, done before `step`, that brings the frames closer; its size in pixels.

    heard: (P,), what each pixel counts. free: how many tangents may change (4 keeps it a similarity). Exposure, as a
    gain and an offset, is solved along.
    """
    height, width = first.layers.shape[:2]
    unit = float(np.hypot(width, height)) / 2
    at_corner = np.array([1, 1, *[unit] * 4, unit**2, unit**2])  # tangents -> pixels there
    m = step.astype(np.float32)
    (there, across, down), inside = _looked_up(first, second, m)
    here, dx, dy = first.values
    # The second frame's slopes are seen turned and magnified by the step.
    dx, dy = (dx + m[0, 0] * across + m[1, 0] * down) / 2, (dy + m[0, 1] * across + m[1, 1] * down) / 2
    error = there - here
    off, trust = _judged(error, dx * dx + dy * dy)
    some = off[::SOME][(inside & (heard > 0.5))[::SOME]]
    # The nearer third tells what is usual where the camera is followed, for the rest may be a subject.
    usual = 1.75 * float(np.quantile(some, 0.3)) if some.size else 0.0
    reach = spread * max(usual, 0.5)
    weight = np.maximum(1 - (off / reach) ** 2, 0) ** 2 * trust * inside * heard

    x, y = first.x / np.float32(unit), first.y / np.float32(unit)
    grow = dx * x + dy * y
    changes = [dx, dy, dy * x - dx * y, grow, dx * x - dy * y, dx * y + dy * x, -grow * x, -grow * y][:free]
    columns = np.stack([*changes, here, np.ones_like(here), error])
    products = _products(columns, weight)
    normal, pull = products[:-1, :-1], -products[:-1, -1]
    if free == 8:
        strength = PRIOR * np.trace(normal[:2, :2])
        normal[range(4, 8), range(4, 8)] += strength
        pull[4:8] -= strength * (geometry.to_tangents(step) * at_corner)[4:]
    small = np.zeros(8)
    small[:free] = np.linalg.solve(normal + 1e-9 * (np.trace(normal) + 1) * np.eye(free + 2), pull)[:free]
    return geometry.normalized(step @ geometry.to_matrices_of(small / at_corner)), float(np.abs(small).max())


def _products(columns: Values, weight: Values) -> NDArray[np.float64]:
    """(k, P), (P,) -> (k, k): the weighted products of all pairs of columns, summed over the pixels."""
    total = np.zeros((len(columns), len(columns)))
    weighted = columns * weight
    for start in range(0, columns.shape[1], PRODUCT):
        part = slice(start, start + PRODUCT)
        total += weighted[:, part] @ columns[:, part].T
    return total


def _judged(error: Values, steep: Values) -> tuple[Values, Values]:
    """Each pixel's error in units of what noise and a slight misfit explain, and the inverse square of that unit.

    Noise is what remains where the picture is smooth, whatever step is tried. A misfit shows where it is steep; without
    it, a richly patterned subject would outweigh a plain background.
    """
    few, flat = error[::SOME], steep[::SOME]
    middle = np.median(few)
    noise = max(float(np.median(np.abs(few - middle)[flat <= np.median(flat)])) * 1.5, 1 / 1024)
    trust = 1 / (np.float32(noise**2) + np.float32(MISFIT**2) * steep)
    return np.abs(error - middle) * np.sqrt(trust), trust


def _looked_up(first: Relief, second: Relief, m: NDArray[np.float32]) -> tuple[Values, NDArray[np.bool_]]:
    """The second frame's layers (3, P) where the step says that the first one's pixels went, and which are still seen.

    Linear, because the frames are blurred enough for it; a sharper kernel steepens slopes and so biases steps.
    """
    height, width = second.layers.shape[:2]
    x, y = first.x, first.y
    depth = m[2, 0] * x + m[2, 1] * y + 1
    u = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / depth + np.float32(width / 2 - 0.5)
    v = (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / depth + np.float32(height / 2 - 0.5)
    inside = (u > 1.5) & (u < width - 2.5) & (v > 1.5) & (v < height - 2.5)
    cv2 = optional_opencv()
    if cv2 is not None:
        # OpenCV's pictures have sides below 32768: the places are folded into rows.
        rows = np.zeros((2, -(-len(u) // 1024), 1024), np.float32)
        rows.reshape(2, -1)[:, : len(u)] = u, v
        found = cv2.remap(second.layers, rows[0], rows[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return found.reshape(-1, 3)[: len(u)].T.copy(), inside
    u, v = u.clip(0, width - 1.001), v.clip(0, height - 1.001)
    column, row = u.astype(np.int32), v.astype(np.int32)
    across, down = (u - column)[:, None], (v - row)[:, None]
    flat, corner = second.layers.reshape(-1, 3), row * width + column
    upper = flat[corner] * (1 - across) + flat[corner + 1] * across
    lower = flat[corner + width] * (1 - across) + flat[corner + width + 1] * across
    return (upper * (1 - down) + lower * down).T.copy(), inside
