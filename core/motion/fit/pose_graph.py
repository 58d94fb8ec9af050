"""Find wrong steps with measurements over more than one frame.

Frames are the nodes of a graph, measured steps and links its edges. Where edges disagree, a robust least-squares fit
decides which are wrong: those that do not close a loop with the others. So a flash does not end a shot: the step into
it is computed from a link across it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ... import geometry
from ...path.motion import Motion
from ...path.trajectory import MIN_CONFIDENCE
from .stillness import MIN_STILL_SECONDS

MIN_AGREEMENT = 0.9  # of a step, below which it is doubtful
CLOSED = 0.005  # error of an edge that agrees with the others, relative to the distance from center to corner
PRIOR_STD = 15.0  # standard deviation of a step's difference to its neighbors', in units of CLOSED
MAX_GROUP_STEPS = 256  # steps solved at once
LOST_WINDOW, LOST_FRACTION = 31, 0.4  # steps around one, and the fraction of unknown ones that makes it unknown too
ITERATIONS = 8  # of iteratively reweighted least squares
UNKNOWN = 1e-3  # confidence of a step that is interpolated; 0 would mark a cut

Array = NDArray[np.float64]


def solve_pose_graph(motion: Motion) -> Motion:
    """Return the motion with its doubtful steps resolved.

    Cuts that a link bridges are removed. Doubtful steps are fitted to the links; those that no link confirms get too
    little confidence to be used. Links without motion mark a camera that stands still; its steps are the identity. The
    result has neither links nor agreements.
    """
    links, agreement = motion.links, motion.agreement
    if links is None or agreement is None:
        return motion
    is_still = (links[:, 3:] == np.eye(3).ravel()).all(axis=1)
    still_links, links = links[is_still], links[~is_still]
    steps, confidence, quality = motion.steps.copy(), motion.confidence.copy(), agreement.copy()
    for first, last in links[:, :2].astype(int):
        inner = slice(first + 1, last + 1)
        confidence[inner] = np.where(confidence[inner] == 0, UNKNOWN, confidence[inner])
    quality[confidence == 0] = 1.0  # what remains of the cuts is not in doubt
    confirmed = np.zeros(len(steps), bool)
    radius = float(np.hypot(motion.info.width, motion.info.height)) / 2
    for start, stop, group in _groups(links):
        if (quality[start + 1 : stop + 1] < MIN_AGREEMENT).any():
            part = slice(start, stop + 1)
            steps[part], closes = _solve_group(steps[part], quality[part], confidence[part], group, start, radius)
            confirmed[part] |= closes
    doubtful = quality < MIN_AGREEMENT
    confidence[doubtful & ~confirmed] = UNKNOWN
    confidence[doubtful & confirmed] = np.maximum(confidence[doubtful & confirmed], MIN_CONFIDENCE)
    for shot in replace(motion, confidence=confidence).shots:
        inner = slice(shot.start + 1, shot.stop)
        confidence[inner][_are_lost(confidence[inner])] = UNKNOWN
        resting = shot.start + np.flatnonzero(_are_resting(still_links, shot, float(motion.info.fps)))
        steps[resting], confidence[resting] = np.eye(3), np.maximum(confidence[resting], MIN_CONFIDENCE)
    residuals = motion.residuals
    if residuals is not None:
        is_changed = doubtful | (steps != motion.steps).any(axis=(1, 2))
        residuals = np.where(is_changed[:, None, None, None], np.float32(0), residuals)
    return replace(motion, steps=steps, confidence=confidence, links=None, agreement=None, residuals=residuals)


def _are_lost(confidence: Array) -> NDArray[np.bool_]:
    """Return which steps (n,) of a shot have mostly unknown ones around them.

    Those are right by chance only.
    """
    unknown = (confidence < MIN_CONFIDENCE).astype(np.float64)
    if not unknown.any():
        return unknown > 0
    window = np.ones(min(LOST_WINDOW, len(unknown)))
    count, total = (np.convolve(values, window, mode="same") for values in (unknown, np.ones(len(unknown))))
    return count > LOST_FRACTION * total


def _are_resting(still_links: Array, shot: slice, fps: float) -> NDArray[np.bool_]:
    """Return which steps (n,) of a shot are those of a camera at rest.

    still_links: those that found no motion. They cover the step without a gap, for `MIN_STILL_SECONDS` or the shot.
    """
    resting = np.zeros(shot.stop - shot.start, bool)
    for first, last in still_links[:, :2].astype(int) - shot.start:
        if first >= 0 and last < len(resting):
            resting[first + 1 : last + 1] = True
    edges = np.flatnonzero(np.diff(resting, prepend=False, append=False)).reshape(-1, 2)
    least = min(MIN_STILL_SECONDS * fps, len(resting) - 1)
    for start, stop in edges[edges[:, 1] - edges[:, 0] < least]:
        resting[start:stop] = False
    return resting


def _groups(links: Array) -> list[tuple[int, int, Array]]:
    """Split links into groups that share no step: (first frame, last frame, links)."""
    groups: list[tuple[int, int, list[Array]]] = []
    for link in links[np.argsort(links[:, 0], kind="stable")]:
        first, last = int(link[0]), int(link[1])
        if groups and first < groups[-1][1] and last - groups[-1][0] <= MAX_GROUP_STEPS:
            start, stop, members = groups[-1]
            groups[-1] = start, max(stop, last), [*members, link]
        elif not groups or first >= groups[-1][1]:
            groups.append((first, last, [link]))
    return [(start, stop, np.array(members)) for start, stop, members in groups]


def _solve_group(
    steps: geometry.Matrices, quality: Array, confidence: Array, links: Array, start: int, radius: float
) -> tuple[geometry.Matrices, NDArray[np.bool_]]:
    """Fit the doubtful steps of a group to all of its edges.

    steps: (n, 3, 3), of the frames from `start` on; the first is not part of the group. Returns the steps, and which of
    them lie under a link that agrees with the result: (n,).
    """
    n, unit = len(steps), CLOSED * radius
    to_unit = np.array([1, 1, *[radius] * 4, radius**2, radius**2]) / unit
    measured = geometry.to_tangents(steps) * to_unit
    spans = np.zeros((len(links), n))
    for row, (first, last) in zip(spans, links[:, :2].astype(int) - start, strict=True):
        row[first + 1 : last + 1] = 1
    prior = (np.eye(n) - np.eye(n, k=-1))[2:] / PRIOR_STD
    doubtful = quality < MIN_AGREEMENT
    doubtful[0] = False
    base = np.where(doubtful, np.clip(2 * (quality - 0.5), 0.01, 1), 1e3)  # steps without doubt stay as they are
    base *= confidence > UNKNOWN
    base[0] = 1.0
    link_base = np.clip(2 * (links[:, 2] - 0.5), 0.05, 1)
    values = measured.copy()
    step_weights, link_weights = base, link_base
    errors = np.zeros(len(links))
    for _ in range(ITERATIONS):
        residuals = _link_residuals(values / to_unit, links, start) * to_unit
        rows = np.concatenate([np.diag(np.sqrt(step_weights)), np.sqrt(link_weights)[:, None] * spans, prior])
        targets = [
            np.sqrt(step_weights)[:, None] * (measured - values),
            np.sqrt(link_weights)[:, None] * residuals,
            -(prior @ values),
        ]
        values = values + np.linalg.lstsq(rows, np.concatenate(targets), rcond=None)[0]
        errors = np.linalg.norm(_link_residuals(values / to_unit, links, start) * to_unit, axis=1)
        link_weights = link_base / (1 + errors**2) ** 2
        step_weights = np.where(doubtful, base / (1 + np.square(values - measured).sum(axis=1)) ** 2, base)
    solved = np.where(doubtful[:, None, None], geometry.matrices_from_tangents(values / to_unit), steps)
    return solved, spans[errors < 1].max(axis=0, initial=0) > 0


def _link_residuals(tangents: geometry.Tangents, links: Array, start: int) -> geometry.Tangents:
    """Return what each link differs from its composed steps: (K, 8) tangents."""
    steps = geometry.matrices_from_tangents(tangents)
    residuals = np.zeros((len(links), 8))
    for row, link in zip(residuals, links, strict=True):
        composed = np.eye(3)
        for step in steps[int(link[0]) - start + 1 : int(link[1]) - start + 1]:
            composed = step @ composed
        row[:] = geometry.to_tangents(geometry.inverse(composed) @ link[3:].reshape(3, 3))
    return residuals
