"""Estimate the lens of a camera from the motion of a clip.

A camera that turns moves the points of a frame by a field of second order. For a lens without distortion that is the
perspective of a homography; a fisheye also leaves a bow: toward the edges, the motion is slower across its direction
than along it. Both are proportional to the motion of the center, and their ratio to it gives the focal length and the
first coefficient of the lens, one for the whole clip. They are accepted only if they are significant.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from ... import geometry
from ...bars import Bars
from ...lens import MAX_FOV, Lens
from ...path.motion import Motion
from ...path.ray_camera import RayCamera
from ...path.trajectory import is_reliable
from ..optical_flow.correspondences import Correspondences
from .robust_slope import fit_slope

log = logging.getLogger(__name__)

Array = NDArray[np.float64]

MAX_POINTS = 500  # of a step; more change nothing
INLIER_PIXELS = 3.0, 0.7  # at which a point has half its weight: around the homography, and around its own fit
MIN_STEPS = 12  # fewer are not significant
MIN_MOTION = 0.002  # of the center, root mean square of the steps, relative to the distance from center to corner
MIN_SIGMAS = 10.0  # of the bow
MIN_EXPLAINED_FRACTION = 0.3  # of the power of bow and perspective
MAX_AXIS_DISAGREEMENT = 0.35  # relative difference allowed between horizontal and vertical motion
MAX_MISFIT = 0.25  # of the lens that fits best, relative to the bow
MIN_FOV = 80.0  # degrees: of a narrower lens, the bow is too small to matter
FOVS, COEFFICIENTS = np.arange(MIN_FOV - 10, 211.0, 5.0), np.array([-0.03, 0.0, 0.03, 0.06, 0.09, 0.12])  # tried first

NO_BOW = np.zeros(6)


def fit_bow(matches: Correspondences, step: geometry.Matrices, height: int, width: int) -> Array:
    """Fit a field of second order to the matches of a step.

    Returns (6,): motion of the center, perspective, and bow, each along x and y. Lengths are relative to the distance
    from center to corner. step: (3, 3), whose inliers count. height, width: of the frame.
    """
    stride = slice(None, None, 1 + len(matches.src_points) // MAX_POINTS)
    radius = np.hypot(width, height) / 2
    source, target = matches.src_points[stride], matches.dst_points[stride]
    errors = np.square(geometry.transform_points(step, source) - target).sum(axis=1)
    weights = matches.weights[stride] / (1 + errors / INLIER_PIXELS[0] ** 2) ** 2
    if len(source) < 20 or weights.sum() <= 0:
        return NO_BOW
    columns, moved = _columns((source + target) / 2 / radius), ((target - source) / radius).T.ravel()
    fit: Array = NO_BOW
    for _ in range(2):
        both = np.concatenate([weights, weights])
        weighted = columns * both[:, None]
        normal = weighted.T @ columns + 1e-9 * weights.sum() * np.eye(10)
        # Not `solve`: far matches of a degenerate flow make the matrix singular.
        fit = np.asarray(np.linalg.lstsq(normal, weighted.T @ moved, rcond=None)[0], np.float64)
        errors = np.square((moved - columns @ fit).reshape(2, -1) * radius).sum(axis=0)
        weights = matches.weights[stride] / (1 + errors / INLIER_PIXELS[1] ** 2) ** 2
    return fit[[0, 1, 6, 7, 8, 9]]


def _columns(points: Array) -> Array:
    """The fields of the fit at points (P, 2): (2 P, 10), x above y."""
    x, y = points.T
    one, zero, square = np.ones_like(x), np.zeros_like(x), x * x + y * y
    along_x = [one, zero, x, y, zero, zero, x * x, x * y, square, zero]
    along_y = [zero, one, zero, zero, x, y, x * y, y * y, zero, square]
    return np.concatenate([np.stack(along_x, axis=-1), np.stack(along_y, axis=-1)])


def estimate_lens(motion: Motion, bars: Bars | None = None) -> Lens | None:
    """Estimate the lens of a measured motion with bows.

    None for a motion whose frames are homographies of each other.
    bars: of the clip. The motion is that of the frames with them.
    """
    if motion.bows is None:
        return None
    valid = is_reliable(motion.confidence, motion.steps) & (motion.bows != 0).any(axis=1)
    bows = motion.bows[valid]
    if len(bows) < MIN_STEPS or np.square(bows[:, :2]).sum(axis=1).mean() < MIN_MOTION**2:
        return None
    perspective, bow = (fit_slope(bows[:, :2].ravel(), bows[:, k : k + 2].ravel()) for k in (2, 4))
    power = np.square(bows[:, :2]).mean()
    explained = (bow.value**2 + perspective.value**2) * power
    is_significant = bow.value < -MIN_SIGMAS * bow.std_error
    if not is_significant or explained < MIN_EXPLAINED_FRACTION * (
        explained + bow.residual_power + perspective.residual_power
    ):
        return None
    for axis in (0, 1):
        own = fit_slope(bows[:, axis], bows[:, 4 + axis])
        if abs(own.value - bow.value) > max(MAX_AXIS_DISAGREEMENT * abs(bow.value), 5 * own.std_error):
            return None
    info = motion.info if bars is None else bars.active_info(motion.info)
    lens, misfit = _find_lens(perspective.value, bow.value, motion.info.width, motion.info.height)
    if misfit > MAX_MISFIT * abs(bow.value):
        return None
    angle = float(lens.angle(np.array(info.width / 2 / lens.focal(motion.info.width))))
    fov = round(2 * float(np.degrees(angle)), 1)
    if not MIN_FOV <= fov <= MAX_FOV:
        return None
    log.info("the lens has a horizontal field of view of %.0f degrees", fov)
    return Lens(fov, lens.coefficients)


def _find_lens(perspective: float, bow: float, width: int, height: int) -> tuple[Lens, float]:
    """Find the lens whose turns have this perspective and bow.

    Returns also what they still differ.
    """
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, 13) * width, np.linspace(-0.5, 0.5, 9) * height)
    points, radius = np.stack([x.ravel(), y.ravel()], axis=-1), np.hypot(width, height) / 2
    fit = np.linalg.pinv(_columns(points / radius))[[0, 6, 8]]
    turn = geometry.matrices_from_parameters(np.array([radius / 200, 0, 0, 0]))

    def difference(lens: Lens) -> float:
        moved = RayCamera(lens, width).transform(turn, points) - points
        center, expected, expected_bow = fit @ moved.T.ravel()
        misfit = float(np.hypot(expected / center - perspective, expected_bow / center - bow))
        # An equidistant lens is preferred where it fits nearly as well.
        return misfit + 0.02 * abs(bow) * bool(lens.coefficients)

    def best(fovs: Array, coefficients: Array) -> tuple[float, float]:
        tried = [(fov, k) for fov in fovs.tolist() for k in coefficients.tolist()]
        return min(tried, key=lambda each: difference(_lens(*each)))

    fov, k = best(FOVS, COEFFICIENTS)
    fov, k = best(fov + np.array([-2.0, -1.0, 0.0, 1.0, 2.0]), np.array([k - 0.01, k, k + 0.01]))
    return _lens(fov, k), difference(_lens(fov, k))


def _lens(fov: float, coefficient: float) -> Lens:
    return Lens(fov, (round(coefficient, 3),) if abs(coefficient) > 1e-6 else ())
