"""Attenuate corrections that would add more shake than they remove."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from . import geometry
from .crop.zoom import attenuate_correction, slice_correction
from .metrics import jitter
from .path.trajectory import Correction

GUARD_SECONDS = 0.5  # of `metrics.jitter`: oscillations above about 0.75 Hz count
GUARD_FRAMES = 250  # at most so many frames of a shot are evaluated, evenly spaced
TOLERANCE = 2e-4  # frame widths by which shake may grow: less is the bend of a path that was straight
STRENGTHS = (0.75, 0.5, 0.25)


def without_added_shake(correction: Correction) -> Correction:
    """Reduce corrections that would add shake, down to none.

    correction: of measured poses; both paths are judged by them. Shots in which the correction reduces the shake are
    not changed.
    """
    if correction.poses is None:
        return correction
    matrices, rows = correction.matrices, correction.rows
    for shot in correction.shots:
        original, poses = slice_correction(correction, shot), correction.poses[shot]
        if (original.matrices == np.eye(3)).all():
            continue
        limit = _shake(poses, original) + TOLERANCE * original.info.width
        if _shake(_corrected(poses, original), original) <= limit:
            continue
        candidates = (attenuate_correction(original, np.full(len(poses), strength)) for strength in STRENGTHS)
        still = attenuate_correction(original, np.zeros(len(poses)))
        weaker = next((c for c in candidates if _shake(_corrected(poses, c), original) <= limit), still)
        if matrices is correction.matrices:
            matrices, rows = matrices.copy(), None if rows is None else rows.copy()
        matrices[shot] = weaker.matrices
        if rows is not None and weaker.rows is not None:
            rows[shot] = weaker.rows
    return replace(correction, matrices=matrices, rows=rows)


def _corrected(poses: geometry.Matrices, correction: Correction) -> geometry.Matrices:
    return geometry.normalize(poses @ geometry.inverse(correction.matrices))


def _shake(poses: geometry.Matrices, correction: Correction) -> float:
    return jitter(poses, correction.info, GUARD_SECONDS, stride=max(1, len(poses) // GUARD_FRAMES))
