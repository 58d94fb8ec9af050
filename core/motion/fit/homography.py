"""Robust homography estimation.

It finds the camera motion among independently moving subjects.

A camera that rotates about its center relates neighboring frames by a homography: 8 parameters. Few frames constrain
all of them, so the fit starts from a similarity with many inliers, and a prior pulls shear and perspective towards 0.
There is no model selection, and therefore no flicker between models.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ... import geometry
from ...path.motion import MAX_STEP_SCALE

Array = NDArray[np.float64]

HYPOTHESIS_COUNT = 96  # random pairs: with half of the points on a moving subject, all fail once in 10^12 frames
HALF_VOTE_PIXELS = 0.3  # residual at which the score of a point is halved; there is no threshold
INLIER_PIXELS = 0.7  # largest residual of an inlier
TIGHT_INLIER_PIXELS = 0.14  # INLIER_PIXELS for accurate flow: tells the camera from a subject of almost its speed
SCORING_POINTS = 300  # points used to score hypotheses; more do not change the result
MAX_REFINED = 4  # hypotheses that are refined
MAX_ITERATIONS = 10  # of iteratively reweighted least squares
CONVERGED_PIXELS = 0.01  # at the corner: a smaller update ends the iteration
PRIOR_WEIGHT = 2e-4  # of zero shear and perspective, in pixels at the corner, relative to all points


def fit_homography(src_points: Array, dst_points: Array, weights: Array) -> tuple[geometry.Matrices, float]:
    """Fit the homography (3, 3) that maps most of the points.

    src_points, dst_points: (P, 2), in pixels. weights: (P,), of the points. Returns also the weighted fraction of
    inliers, in [0, 1]: 0 if there are no points, and then the matrix is the identity.

    RANSAC on random pairs of points (Fischler and Bolles, 1981). A small flat subject can get the best score, while a
    tilted background matches none of the sampled similarities well; so the next best hypotheses are refined too.
    """
    total = weights.sum()
    if len(src_points) < 2 or total <= 1e-9:
        return np.eye(3), 0.0
    probabilities = weights / total
    corner_radius = float(np.hypot(*np.abs(src_points).max(axis=0))) or 1.0
    jacobian = _tangent_jacobian(src_points / corner_radius)
    candidates = _sample_similarities(src_points, dst_points, probabilities)
    sample = slice(None, None, 1 + len(src_points) // SCORING_POINTS)
    scores = _inlier_scores(candidates, src_points[sample], dst_points[sample]) * probabilities[sample]  # (K, V)
    unexplained = np.ones(len(src_points), bool)
    best, best_score, inliers, confidence = np.eye(3), -1.0, 0.0, 0.0
    for _ in range(MAX_REFINED):
        winner = int((scores @ unexplained[sample]).argmax())
        step = _refine(candidates[winner], src_points, dst_points, probabilities, jacobian, corner_radius)
        errors = _reprojection_errors(step, src_points, dst_points)
        score = float((probabilities / (1 + (errors / HALF_VOTE_PIXELS) ** 2)).sum())
        if score > best_score:
            best, best_score = step, score
            inliers, confidence = (
                float(probabilities[errors < limit].sum()) for limit in (INLIER_PIXELS, 2 * INLIER_PIXELS)
            )
        unexplained = unexplained & (errors > 2 * INLIER_PIXELS)
        if probabilities[unexplained].sum() <= inliers:  # the rest cannot have more inliers
            break
    return best, confidence


def _sample_similarities(src_points: Array, dst_points: Array, probabilities: Array) -> geometry.Matrices:
    """Fit similarities (K, 3, 3) to random pairs of points.

    A fixed seed makes the result reproducible.
    """
    # With points as complex numbers, a similarity is q = rotation * p + shift.
    p, q = (a[:, 0] + 1j * a[:, 1] for a in (src_points, dst_points))
    one, other = np.random.default_rng(0).choice(len(src_points), size=(2, HYPOTHESIS_COUNT), p=probabilities)
    span = p[other] - p[one]
    rotation = np.where(span == 0, 1, (q[other] - q[one]) / np.where(span == 0, 1, span))
    is_plausible = np.abs(np.log(np.maximum(np.abs(rotation), 1e-9))) < np.log(MAX_STEP_SCALE)
    rotation = np.where(is_plausible, rotation, 1)  # degenerate (both map to one point): gets a low score
    shift = q[one] - rotation * p[one]
    return geometry.matrices_from_parameters(
        np.stack([shift.real, shift.imag, np.angle(rotation), np.log(np.abs(rotation))], axis=-1)
    )


def _inlier_scores(candidates: geometry.Matrices, src_points: Array, dst_points: Array) -> Array:
    """Score of each point under each similarity (K, 3, 3), in [0, 1]: (K, V).

    There is no threshold: with one, a motion half way between the camera's and a subject's would get the best score.
    """
    m, p, q = candidates.astype(np.float32), src_points.astype(np.float32), dst_points.astype(np.float32)
    x = m[:, 0, :2] @ p.T + (m[:, 0, 2:] - q[:, 0])
    y = m[:, 1, :2] @ p.T + (m[:, 1, 2:] - q[:, 1])
    return 1 / (1 + (x * x + y * y) / np.float32(HALF_VOTE_PIXELS**2))


def _refine(
    step: geometry.Matrices,
    src_points: Array,
    dst_points: Array,
    probabilities: Array,
    jacobian: Array,
    corner_radius: float,
) -> geometry.Matrices:
    """Iteratively reweighted least squares over the inliers, with Tukey's biweight.

    The first inliers are those of the initial step. A larger radius would include a subject of almost the same speed;
    the corners of a tilted frame, which no similarity fits, become inliers as perspective is fitted.
    """
    for _ in range(MAX_ITERATIONS):
        errors = _reprojection_errors(step, src_points, dst_points)
        near = errors[errors < 3 * INLIER_PIXELS]
        # The noise of the flow is estimated from the smallest 30 % of the errors: the rest may belong to a subject.
        noise = 1.4 * float(np.partition(near, len(near) * 3 // 10)[len(near) * 3 // 10]) if len(near) else 0.0
        radius = min(max(noise, TIGHT_INLIER_PIXELS), INLIER_PIXELS)
        weights = probabilities * np.maximum(0, 1 - (errors / (3 * radius)) ** 2) ** 2
        if weights.sum() < 1e-6:
            break
        refined, update = _gauss_newton_step(
            step, src_points, dst_points, weights / weights.sum(), jacobian, corner_radius
        )
        if not geometry.is_regular(refined, MAX_STEP_SCALE):
            break
        step = refined
        if update < CONVERGED_PIXELS:
            break
    return step


def _reprojection_errors(step: geometry.Matrices, src_points: Array, dst_points: Array) -> Array:
    return np.hypot(*(geometry.transform_points(step, src_points) - dst_points).T)


def _tangent_jacobian(points: Array) -> Array:
    """Return derivatives of x and y with respect to the tangents: (2, P, 8).

    points: (P, 2).
    """
    x, y = points.T
    one, zero = np.ones_like(x), np.zeros_like(x)
    along_x = np.stack([one, zero, -y, x, x, y, -x * x, -x * y], axis=-1)
    along_y = np.stack([zero, one, x, y, -y, x, -x * y, -y * y], axis=-1)
    return np.stack([along_x, along_y])


def _gauss_newton_step(
    step: geometry.Matrices,
    src_points: Array,
    dst_points: Array,
    weights: Array,
    jacobian: Array,
    corner_radius: float,
) -> tuple[geometry.Matrices, float]:
    """Make one Gauss-Newton step of the reprojection error.

    Right-multiplies `step` by the small motion that reduces its residuals. Returns (new step, size of the update in
    pixels at the corner).
    """
    residuals = geometry.transform_points(geometry.inverse(step), dst_points) - src_points
    normal, rhs = np.diag([1e-12] * 4 + [PRIOR_WEIGHT] * 4), np.zeros(8)
    r = corner_radius
    at_corner = np.array([1, 1, r, r, r, r, r**2, r**2])  # tangents -> pixels at the corner
    rhs[4:] -= PRIOR_WEIGHT * (geometry.to_tangents(step) * at_corner)[4:]
    for derivatives, residual in zip(jacobian, residuals.T, strict=True):
        weighted = derivatives.T * weights  # (8, P)
        normal += weighted @ derivatives
        rhs += weighted @ residual
    update = np.linalg.solve(normal, rhs)
    return geometry.normalize(step @ geometry.matrices_from_tangents(update / at_corner)), float(np.abs(update).max())
