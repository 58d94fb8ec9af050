"""Which motion most of the picture follows: the camera's, among subjects that move by themselves.

A shaking camera turns about its centre, so neighbouring frames differ by a homography: 8 numbers. Few frames show
enough to fix all of them, so the fit starts from a similarity with many followers and bends it only as far as the
picture asks: the evidence pulls against a prior that says "not at all". There is no choosing between models, and
therefore no flicker between them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import geometry

HYPOTHESES = 96  # random pairs tried: with half of the points on a moving subject, all fail once in 10^12 frames
INLIER = 0.7  # pixels between a point and the camera's motion up to which it is taken to follow the camera
EXACT = 0.14  # the same where flow is this good; it tells the camera from a subject of nearly its pace
VOTERS = 600  # points asked about each motion; thousands would say the same
ELECTED = 3  # motions that are looked at closely
ROUNDS = 10  # of reweighting; the first ones reach farther, for a similarity misses the corners of a tilted frame
PRIOR = 2e-4  # weight of "no shear and no perspective" against the whole picture's evidence, in pixels at the corner


def fit(points: NDArray, moved: NDArray, weights: NDArray) -> tuple[geometry.Matrices, float]:
    """The homography (3, 3) that carries most of the points (P, 2) to where they moved (P, 2), both in pixels.

    weights: (P,), how far each point is to be believed. Returns also the share of them, in [0, 1], that follow: 0 where
    there is nothing to go by, and then the matrix is the identity.
    """
    total = weights.sum()
    if len(points) < 2 or total <= 1e-9:
        return np.eye(3), 0.0
    chance = weights / total
    refined = [_refined(start, points, moved, chance) for start in _elected(points, moved, chance)]
    errors = [_errors(step, points, moved) for step in refined]
    best = int(np.argmax([chance[error < INLIER].sum() for error in errors]))
    return refined[best], float(chance[errors[best] < 2 * INLIER].sum())


def _elected(points: NDArray, moved: NDArray, chance: NDArray) -> list[geometry.Matrices]:
    """Similarities with the most followers, no two with the same: the camera is among them, and so may subjects be.

    A vote among random pairs of points (RANSAC; Fischler and Bolles, 1981). It draws from a fixed seed: the same clip
    gives the same motion. A subject can win this round, being small and flat, while a tilted background is none of the
    similarities that stand for election; so the runners-up are refined too.
    """
    draw = np.random.default_rng(0).choice(len(points), size=(HYPOTHESES, 2), p=chance)
    candidates = _through_pairs(points[draw], moved[draw])
    voters = slice(None, None, 1 + len(points) // VOTERS)
    points, moved, chance = points[voters], moved[voters], chance[voters] / chance[voters].sum()
    errors = np.hypot(*np.moveaxis(geometry.apply(candidates, points[None]) - moved, -1, 0))
    follows = np.maximum(0, 1 - (errors / (4 * INLIER)) ** 2) * chance
    elected = []
    for _ in range(ELECTED):
        votes = follows.sum(axis=1)
        best = int(votes.argmax())
        if elected and votes[best] < 0.1:
            break
        elected.append(candidates[best])
        follows = follows * (errors[best] > 4 * INLIER)  # its followers have voted
    return elected


def _refined(step: geometry.Matrices, points: NDArray, moved: NDArray, chance: NDArray) -> geometry.Matrices:
    """Least squares over the followers, reweighted round by round as they become clearer."""
    unit = np.hypot(*np.abs(points).max(axis=0)) or 1.0  # pixels from the centre to the corner
    for reach in np.geomspace(3 * INLIER, EXACT, ROUNDS):
        error = _errors(step, points, moved)
        near = error[error < 3 * INLIER]
        reach = max(reach, float(np.median(near)) if len(near) else 0)  # noisy flow has no closer followers
        followers = chance * np.maximum(0, 1 - (error / (3 * reach)) ** 2) ** 2  # Tukey's biweight
        if followers.sum() < 1e-6:
            break
        step = _improved(step, points, moved, followers / followers.sum(), unit)
    return step


def _through_pairs(points: NDArray, moved: NDArray) -> geometry.Matrices:
    """Similarities through pairs of points: (K, 2, 2) -> (K, 2, 2) gives (K, 3, 3)."""
    p, q = (a[..., 0] + 1j * a[..., 1] for a in (points, moved))  # a similarity of the plane is q = turn * p + shift
    span = p[:, 1] - p[:, 0]
    turn = np.where(span == 0, 1, (q[:, 1] - q[:, 0]) / np.where(span == 0, 1, span))
    turn = np.where(np.abs(turn) < 1e-6, 1, turn)  # both went to one spot: no similarity, and its vote will be poor
    shift = q[:, 0] - turn * p[:, 0]
    return geometry.to_matrices(np.stack([shift.real, shift.imag, np.angle(turn), np.log(np.abs(turn))], axis=-1))


def _errors(step: geometry.Matrices, points: NDArray, moved: NDArray) -> NDArray:
    return np.hypot(*(geometry.apply(step, points) - moved).T)


def _improved(
    step: geometry.Matrices, points: NDArray, moved: NDArray, weights: NDArray, unit: float
) -> geometry.Matrices:
    """One Gauss-Newton step of least squares: the small motion, done before `step`, that explains what it leaves."""
    x, y = (points / unit).T
    one, none = np.ones_like(x), np.zeros_like(x)
    # How much each tangent moves a point, (P, 8).
    across = np.stack([one, none, -y, x, x, y, -x * x, -x * y], axis=-1)
    down = np.stack([none, one, x, y, -y, x, -x * y, -y * y], axis=-1)
    left = geometry.apply(geometry.inverse(step), moved) - points
    normal = (across.T * weights) @ across + (down.T * weights) @ down
    pull = (across.T * weights) @ left[:, 0] + (down.T * weights) @ left[:, 1]
    at_corner = np.array([1, 1, unit, unit, unit, unit, unit**2, unit**2])  # tangents -> pixels there
    prior = np.diag([0, 0, 0, 0, PRIOR, PRIOR, PRIOR, PRIOR])
    small = np.linalg.lstsq(normal + prior, pull - prior @ (geometry.to_tangents(step) * at_corner), rcond=1e-10)[0]
    return geometry.normalized(step @ geometry.to_matrices_of(small / at_corner))
