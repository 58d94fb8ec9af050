"""Sub-pixel refinement of a homography by direct image alignment.

Flow uses small independent windows; where these contain little but noise it tends to zero, and a fit to such a flow is
too small. Here all pixels contribute to one solution (Lucas and Kanade, 1981; with the mean of both gradients, Malis,
2004, which converges quadratically), from coarse to fine. Robust weights reject independently moving subjects.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import geometry
from ...path.motion import MAX_STEP_SCALE
from ...runtime.optional_cv2 import optional_opencv
from ..optical_flow.gray_frame import GradientLevel, GrayFrame
from .background_prior import ALL_INLIERS, InlierMap, sample_inlier_map

TUKEY_CUTOFFS = (6.0, 4.2, 3.0)  # of the biweight, in units of the robust scale; one iteration each
CONVERGED_PIXELS = 0.05  # at the corner: after a smaller update the remaining error is far smaller (quadratic)
MEDIAN_STRIDE = 5  # medians use every fifth pixel, which is accurate enough
MODEL_ERROR_PIXELS = 0.2  # local deviation of the true motion from a homography
PRIOR_WEIGHT = 1e-4  # of zero shear and perspective, per squared pixel at the corner, relative to all pixels
MIN_SIDE = 32  # of a frame, in pixels: smaller ones are not refined
MIN_PIXELS = 64  # fewer do not determine a motion
EVIDENCE_STRIDE = 2  # evidence uses every second selected pixel
MIN_WINS = 0.55  # fraction of pixels that a true step improves, at least; noise alone would give a half
CLEAR_WINS = 0.65  # fraction that only a true step reaches, or one of many by chance
STILL_MARGIN = 0.003  # difference of correlations that noise and compression cause
BLAS_CHUNK_PIXELS = 1024  # pixels per matrix product: for more, BLAS would start threads that wait for each other

PixelValues = NDArray[np.float32]  # (P,), one per pixel


def align(
    first: GrayFrame, second: GrayFrame, step: geometry.Matrices, inlier_map: InlierMap = ALL_INLIERS
) -> geometry.Matrices:
    """Refine a step (3, 3) between two frames, in their pixels.

    The half size is first, initially as a similarity: it converges even if the start is some pixels off. Ignored pixels
    of the first frame are excluded; the inlier map weights the others.
    """
    if min(first.plane.shape) < MIN_SIDE:
        return step
    coarse, fine = (first.coarse, second.coarse), (first.fine, second.fine)
    for pair, scale, dof in ((coarse, 0.5, 4), (coarse, 0.5, 8), (fine, 1.0, 8)):
        if len(pair[0].x) < MIN_PIXELS:
            break
        scaled = geometry.rescale(step, scale, scale)
        inlier_weights = _inlier_weights(pair[0], inlier_map)
        for cutoff in TUKEY_CUTOFFS:
            refined, update = _gauss_newton_step(*pair, inlier_weights, scaled, cutoff, dof)
            if not geometry.is_regular(refined, 2 * MAX_STEP_SCALE):
                break
            scaled = refined
            if update < CONVERGED_PIXELS:
                break
        step = geometry.rescale(scaled, 1 / scale, 1 / scale)
    return step


class Evidence(NamedTuple):
    """How well two frames agree along a step, and without motion.

    step, still: correlations, from -1 to 1. step_wins: fraction of the pixels that differ less along the step, in
    [0, 1]. A bright overlay may decide a correlation, but not the fraction.
    """

    step: float
    still: float
    step_wins: float

    @property
    def favors_still(self) -> bool:
        """Whether the frames are more alike without motion, by both measures."""
        return self.still > self.step + STILL_MARGIN and self.step_wins < MIN_WINS

    @property
    def is_clear(self) -> bool:
        """Whether so many pixels differ less along the step that it is beyond doubt."""
        return self.step_wins > CLEAR_WINS

    @property
    def is_empty(self) -> bool:
        """Whether there were too few pixels to compare."""
        return self.step == self.still == 0.0


def step_evidence(first: GrayFrame, second: GrayFrame, step: geometry.Matrices) -> Evidence:
    """Compare a step (3, 3) with no motion.

    Only selected pixels of the half size count, where both frames show them.
    """
    if min(first.plane.shape) < MIN_SIDE or len(first.coarse.x) < MIN_PIXELS * EVIDENCE_STRIDE:
        return Evidence(0.0, 0.0, 0.5)
    level, other = first.coarse, second.coarse
    points = replace(level, x=level.x[::EVIDENCE_STRIDE], y=level.y[::EVIDENCE_STRIDE])
    luma = level.values[0, ::EVIDENCE_STRIDE]
    matrices = np.array([geometry.rescale(step, 0.5, 0.5), np.eye(3)], np.float32)
    (along, seen), (still, _) = (_sample_layers(points, other, m) for m in matrices)
    if seen.sum() < MIN_PIXELS:
        return Evidence(0.0, 0.0, 0.5)
    a, b, c = (_standardize(values[seen]) for values in (luma, along[0], still[0]))
    return Evidence(float((a * b).mean()), float((a * c).mean()), float((np.abs(a - b) < np.abs(a - c)).mean()))


def _standardize(values: PixelValues) -> PixelValues:
    centered = values - values.mean()
    return centered / max(float(np.sqrt(np.square(centered).mean())), 1e-6)


def _inlier_weights(first: GradientLevel, inlier_map: InlierMap) -> PixelValues:
    """Convert inlier fractions to weights (P,) in [0, 1].

    1 from an inlier fraction of 3/4 on, 0 below 1/4, linear between.
    """
    fraction = sample_inlier_map(inlier_map, first.x, first.y, *first.layers.shape[:2])
    return np.clip(2 * fraction - 0.5, 0, 1).astype(np.float32)


def _gauss_newton_step(
    first: GradientLevel,
    second: GradientLevel,
    inlier_weights: PixelValues,
    step: geometry.Matrices,
    cutoff: float,
    dof: int,
) -> tuple[geometry.Matrices, float]:
    """Make one Gauss-Newton step of the image difference.

    Right-multiplies `step` by the small motion that reduces the difference.

    inlier_weights: (P,). dof: number of tangents that may change (4 keeps a similarity). Gain and offset of the
    exposure are solved jointly. Returns (new step, size of the update in pixels at the corner).
    """
    height, width = first.layers.shape[:2]
    corner_radius = float(np.hypot(width, height)) / 2
    at_corner = np.array([1, 1, *[corner_radius] * 4, corner_radius**2, corner_radius**2])  # tangents -> pixels there
    m = step.astype(np.float32)
    (moved, moved_dx, moved_dy), inside = _sample_layers(first, second, m)
    luma, dx, dy = first.values
    # The second frame's gradient, transformed by the step's linear part.
    dx, dy = (dx + m[0, 0] * moved_dx + m[1, 0] * moved_dy) / 2, (dy + m[0, 1] * moved_dx + m[1, 1] * moved_dy) / 2
    error = moved - luma
    normalized, inverse_variance = _normalize_errors(error, dx * dx + dy * dy)
    sample = normalized[::MEDIAN_STRIDE][(inside & (inlier_weights > 0.5))[::MEDIAN_STRIDE]]
    # The scale is estimated from the smallest 30 % of the errors: the rest may belong to a subject.
    scale = 1.75 * float(np.quantile(sample, 0.3)) if sample.size else 0.0
    radius = cutoff * max(scale, 0.5)
    weight = np.maximum(1 - (normalized / radius) ** 2, 0) ** 2 * inverse_variance * inside * inlier_weights

    x, y = first.x / np.float32(corner_radius), first.y / np.float32(corner_radius)
    radial = dx * x + dy * y
    jacobian = [dx, dy, dy * x - dx * y, radial, dx * x - dy * y, dx * y + dy * x, -radial * x, -radial * y][:dof]
    columns = np.stack([*jacobian, luma, np.ones_like(luma), error])
    products = _weighted_gram(columns, weight)
    normal, rhs = products[:-1, :-1], -products[:-1, -1]
    if dof == 8:
        strength = PRIOR_WEIGHT * np.trace(normal[:2, :2])
        normal[range(4, 8), range(4, 8)] += strength
        rhs[4:8] -= strength * (geometry.to_tangents(step) * at_corner)[4:]
    update = np.zeros(8)
    update[:dof] = np.linalg.solve(normal + 1e-9 * (np.trace(normal) + 1) * np.eye(dof + 2), rhs)[:dof]
    return geometry.normalize(step @ geometry.matrices_from_tangents(update / at_corner)), float(np.abs(update).max())


def _weighted_gram(columns: PixelValues, weight: PixelValues) -> NDArray[np.float64]:
    """Return the weighted Gram matrix of the columns, summed over the pixels.

    (k, P), (P,) -> (k, k).
    """
    total = np.zeros((len(columns), len(columns)))
    weighted = columns * weight
    for start in range(0, columns.shape[1], BLAS_CHUNK_PIXELS):
        part = slice(start, start + BLAS_CHUNK_PIXELS)
        total += weighted[:, part] @ columns[:, part].T
    return total


def _normalize_errors(error: PixelValues, squared_gradient: PixelValues) -> tuple[PixelValues, PixelValues]:
    """Divide each error by its expected standard deviation.

    Returns (normalized errors, inverse variances).

    The variance is that of the noise, measured in flat areas, plus that of a small misfit, which is proportional to the
    squared gradient; without it, a richly textured subject would outweigh a plain background.
    """
    sample, power = error[::MEDIAN_STRIDE], squared_gradient[::MEDIAN_STRIDE]
    median = _median(sample)
    noise = max(float(_median(np.abs(sample - median)[power <= _median(power)])) * 1.5, 1 / 1024)
    inverse_variance = np.float32(1) / (np.float32(noise**2) + np.float32(MODEL_ERROR_PIXELS**2) * squared_gradient)
    return np.abs(error - median) * np.sqrt(inverse_variance), inverse_variance


def _median(values: PixelValues) -> np.float32:
    """Return the median of one or more finite values, as np.median does.

    That takes three times as long for few values.
    """
    low, high = (len(values) - 1) // 2, len(values) // 2
    ordered = np.partition(values, (low, high))
    return (ordered[low] + ordered[high]) / np.float32(2)


def _sample_layers(
    first: GradientLevel, second: GradientLevel, m: NDArray[np.float32]
) -> tuple[PixelValues, NDArray[np.bool_]]:
    """Sample the second frame's layers at the transformed pixels of the first.

    Returns (3, P), and which pixels are inside: (P,) bool.

    Linear interpolation, as the frames are blurred enough for it; a sharper kernel would bias the gradients.
    """
    height, width = second.layers.shape[:2]
    x, y = first.x, first.y
    depth = m[2, 0] * x + m[2, 1] * y + 1
    u = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / depth + np.float32(width / 2 - 0.5)
    v = (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / depth + np.float32(height / 2 - 0.5)
    inside = (u > 1.5) & (u < width - 2.5) & (v > 1.5) & (v < height - 2.5)
    cv2 = optional_opencv()
    if cv2 is not None:
        # cv2.remap limits sides to 32767: the coordinates are folded into rows.
        rows = np.zeros((2, -(-len(u) // 1024), 1024), np.float32)
        rows.reshape(2, -1)[:, : len(u)] = u, v
        sampled = cv2.remap(second.layers, rows[0], rows[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return sampled.reshape(-1, 3)[: len(u)].T.copy(), inside
    u, v = u.clip(0, width - 1.001), v.clip(0, height - 1.001)
    column, row = u.astype(np.int32), v.astype(np.int32)
    fraction_x, fraction_y = (u - column)[:, None], (v - row)[:, None]
    flat, corner = second.layers.reshape(-1, 3), row * width + column
    upper = flat[corner] * (1 - fraction_x) + flat[corner + 1] * fraction_x
    lower = flat[corner + width] * (1 - fraction_x) + flat[corner + width + 1] * fraction_x
    return (upper * (1 - fraction_y) + lower * fraction_y).T.copy(), inside
