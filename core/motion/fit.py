"""Which motion most of the picture follows: the camera's, among subjects that move by themselves.

A shaking camera turns about its centre, so neighbouring frames differ by a homography: 8 numbers. Few frames show
enough to fix all of them, so the fit starts from a similarity with many followers and bends it only as far as the
picture asks: the evidence pulls against a prior that says "not at all". There is no choosing between models, and
therefore no flicker between them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import geometry

HYPOTHESES = 96  # random pairs tried: with half of the points on a moving subject, all fail once in 10^12 frames
NEAR = 0.3  # pixels between a point and a motion at which its vote is halved: nearer is better without end
INLIER = 0.7  # pixels up to which a point is taken to follow the camera
EXACT = 0.14  # the same where flow is this good; it tells the camera from a subject of nearly its pace
VOTERS = 300  # points asked about each motion; thousands would say the same
ELECTED = 4  # motions that are looked at closely, at most
ROUNDS = 10  # of reweighting, at most
SETTLED = 0.01  # pixels at the corner: a round that changes less is the last
LARGEST = 100.0  # magnification from one frame to the next beyond which a motion is no camera's
PRIOR = 2e-4  # weight of "no shear and no perspective" against the whole picture's evidence, in pixels at the corner


def fit(points: NDArray, moved: NDArray, weights: NDArray) -> tuple[geometry.Matrices, float]:
    """The homography (3, 3) that carries most of the points (P, 2) to where they moved (P, 2), both in pixels.

    weights: (P,), how far each point is to be believed. Returns also the share of them, in [0, 1], that follow: 0 where
    there is nothing to go by, and then the matrix is the identity.

    A vote among random pairs of points (RANSAC; Fischler and Bolles, 1981). A subject can win it, being small and flat,
    while a tilted background is none of the similarities that stand for election; so the runners-up are refined too.
    """
    total = weights.sum()
    if len(points) < 2 or total <= 1e-9:
        return np.eye(3), 0.0
    chance = weights / total
    unit = float(np.hypot(*np.abs(points).max(axis=0))) or 1.0  # pixels from the centre to the corner
    changes = _changes(points / unit)
    candidates = _through_pairs(points, moved, chance)
    voters = slice(None, None, 1 + len(points) // VOTERS)
    votes = _votes(candidates, points[voters], moved[voters]) * chance[voters]  # (K, V)
    left = np.ones(len(points), bool)
    best, most, share, trust = np.eye(3), -1.0, 0.0, 0.0
    for _ in range(ELECTED):
        winner = int((votes @ left[voters]).argmax())
        step = _refined(candidates[winner], points, moved, chance, changes, unit)
        error = _errors(step, points, moved)
        score = float((chance / (1 + (error / NEAR) ** 2)).sum())
        if score > most:
            best, most = step, score
            share, trust = (float(chance[error < reach].sum()) for reach in (INLIER, 2 * INLIER))
        left = left & (error > 2 * INLIER)  # its followers have voted
        if chance[left].sum() <= share:  # what is left cannot outvote it
            break
    return best, trust


def _through_pairs(points: NDArray, moved: NDArray, chance: NDArray) -> geometry.Matrices:
    """Similarities (K, 3, 3) through random pairs of points. From a fixed seed: the same clip gives the same motion."""
    p, q = (a[:, 0] + 1j * a[:, 1] for a in (points, moved))  # a similarity of the plane is q = turn * p + shift
    one, other = np.random.default_rng(0).choice(len(points), size=(2, HYPOTHESES), p=chance)
    span = p[other] - p[one]
    turn = np.where(span == 0, 1, (q[other] - q[one]) / np.where(span == 0, 1, span))
    usual = np.abs(np.log(np.maximum(np.abs(turn), 1e-9))) < np.log(LARGEST)
    turn = np.where(usual, turn, 1)  # both went to one spot: no similarity, and its vote will be poor
    shift = q[one] - turn * p[one]
    return geometry.to_matrices(np.stack([shift.real, shift.imag, np.angle(turn), np.log(np.abs(turn))], axis=-1))


def _votes(candidates: geometry.Matrices, points: NDArray, moved: NDArray) -> NDArray:
    """How well each similarity (K, 3, 3) is each point's motion, in [0, 1]: (K, V).

    There is no tolerance. Within one, what lies half-way between the camera's motion and a subject's would win.
    """
    m, p, q = candidates.astype(np.float32), points.astype(np.float32), moved.astype(np.float32)
    x = m[:, 0, :2] @ p.T + (m[:, 0, 2:] - q[:, 0])
    y = m[:, 1, :2] @ p.T + (m[:, 1, 2:] - q[:, 1])
    return 1 / (1 + (x * x + y * y) / np.float32(NEAR**2))


def _refined(
    step: geometry.Matrices, points: NDArray, moved: NDArray, chance: NDArray, changes: NDArray, unit: float
) -> geometry.Matrices:
    """Least squares over the followers, reweighted round by round as they become more or clearer.

    They begin as few: those that the start is right about. Reaching out for more would reach a subject of nearly the
    same pace, while the corners of a tilted frame, which no similarity is right about, join in as the step is bent.
    """
    for _ in range(ROUNDS):
        error = _errors(step, points, moved)
        near = error[error < 3 * INLIER]
        # Noisy flow has no closer followers. The nearer third tells its noise, for the rest may be a subject's.
        usual = 1.4 * float(np.partition(near, len(near) * 3 // 10)[len(near) * 3 // 10]) if len(near) else 0.0
        reach = min(max(usual, EXACT), INLIER)
        followers = chance * np.maximum(0, 1 - (error / (3 * reach)) ** 2) ** 2  # Tukey's biweight
        if followers.sum() < 1e-6:
            break
        better, moves = _improved(step, points, moved, followers / followers.sum(), changes, unit)
        if not geometry.regular(better, LARGEST):
            break
        step = better
        if moves < SETTLED:
            break
    return step


def _errors(step: geometry.Matrices, points: NDArray, moved: NDArray) -> NDArray:
    return np.hypot(*(geometry.apply(step, points) - moved).T)


def _changes(points: NDArray) -> NDArray:
    """How much each tangent moves each point (P, 2), across and down: (2, P, 8)."""
    x, y = points.T
    one, none = np.ones_like(x), np.zeros_like(x)
    across = np.stack([one, none, -y, x, x, y, -x * x, -x * y], axis=-1)
    down = np.stack([none, one, x, y, -y, x, -x * y, -y * y], axis=-1)
    return np.stack([across, down])


def _improved(
    step: geometry.Matrices, points: NDArray, moved: NDArray, weights: NDArray, changes: NDArray, unit: float
) -> tuple[geometry.Matrices, float]:
    """One Gauss-Newton step of least squares: the small motion, done before `step`, that explains what it leaves.

    Also its size in pixels.
    """
    left = geometry.apply(geometry.inverse(step), moved) - points
    normal, pull = np.diag([1e-12] * 4 + [PRIOR] * 4), np.zeros(8)
    at_corner = np.array([1, 1, unit, unit, unit, unit, unit**2, unit**2])  # tangents -> pixels there
    pull[4:] -= PRIOR * (geometry.to_tangents(step) * at_corner)[4:]
    for change, way in zip(changes, left.T, strict=True):
        weighted = change.T * weights  # (8, P)
        normal += weighted @ change
        pull += weighted @ way
    small = np.linalg.solve(normal, pull)
    return geometry.normalized(step @ geometry.to_matrices_of(small / at_corner)), float(np.abs(small).max())
