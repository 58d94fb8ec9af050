"""Wrong steps are found and replaced, right ones are kept; the truth is known by construction."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo
from steadyscale.core.motion.fit.pose_graph import UNKNOWN, solve_pose_graph
from steadyscale.core.path.motion import Motion
from steadyscale.core.path.trajectory import MIN_CONFIDENCE

INFO = ClipInfo(640, 360, Fraction(25))
COUNT = 40


@pytest.fixture
def shaken() -> Motion:
    """A motion without any doubt: translation, roll and zoom of a hand-held camera."""
    moves = np.random.default_rng(0).normal(0, [4, 3, 0.004, 0.002], (COUNT, 4))
    steps = geometry.matrices_from_parameters(moves)
    steps[0] = np.eye(3)
    confidence = np.array([0.0, *[1.0] * (COUNT - 1)])
    return Motion(steps, confidence, INFO, agreement=np.array([0.0, *[0.99] * (COUNT - 1)]), links=np.empty((0, 12)))


def link(motion: Motion, first: int, last: int, agreement: float = 0.98, shift: float = 0.0) -> list[float]:
    """A row of `links` that the steps imply, off by `shift` pixels."""
    matrix = np.eye(3)
    for step in motion.steps[first + 1 : last + 1]:
        matrix = step @ matrix
    matrix = geometry.normalize(matrix)
    matrix[0, 2] += shift
    return [first, last, agreement, *matrix.ravel()]


def spoiled(motion: Motion, frames: list[int], agreement: float, *, cut: bool = False) -> Motion:
    """The motion with steps of these frames off by 60 pixels, or taken for cuts."""
    assert motion.agreement is not None
    steps, confidence, agreements = motion.steps.copy(), motion.confidence.copy(), motion.agreement.copy()
    steps[frames, 0, 2] += 60
    agreements[frames] = agreement
    if cut:
        steps[frames], confidence[frames], agreements[frames] = np.eye(3), 0.0, 0.0
    return replace(motion, steps=steps, confidence=confidence, agreement=agreements)


def error(motion: Motion, truth: Motion, first: int, last: int) -> float:
    """Largest error, in pixels, of the motion between two frames at the corners."""
    corners = geometry.corners(INFO.width, INFO.height)[None]
    composed = [geometry.normalize(np.linalg.multi_dot([np.eye(3), *m.steps[last:first:-1]])) for m in (motion, truth)]
    return float(np.abs(np.subtract(*(geometry.transform_points(c[None], corners) for c in composed))).max())


def test_without_links_a_motion_stays_as_it_is(shaken: Motion):
    solved = solve_pose_graph(shaken)
    assert np.array_equal(solved.steps, shaken.steps)
    assert np.array_equal(solved.confidence, shaken.confidence)
    assert solved.links is None
    assert solved.agreement is None


@pytest.mark.parametrize("cut", [False, True])
def test_a_flash_is_bridged(shaken: Motion, cut: bool):
    """The steps into and out of frame 20 are wrong; the link from 19 to 21 is right."""
    flash = replace(spoiled(shaken, [20, 21], 0.4, cut=cut), links=np.array([link(shaken, 19, 21)]))
    solved = solve_pose_graph(flash)
    assert solved.shots == [slice(0, COUNT)]
    assert error(solved, shaken, 19, 21) < 0.3
    assert (solved.confidence[1:] >= MIN_CONFIDENCE).all()
    others = np.delete(np.arange(COUNT), [20, 21])
    assert np.array_equal(solved.steps[others], shaken.steps[others])


def test_the_step_that_does_not_close_is_the_wrong_one(shaken: Motion):
    """Of two doubtful steps one is right: two links tell which."""
    doubtful = spoiled(shaken, [20], 0.8)
    assert doubtful.agreement is not None
    doubtful.agreement[21] = 0.8
    links = np.array([link(shaken, 18, 20), link(shaken, 19, 21), link(shaken, 20, 22)])
    solved = solve_pose_graph(replace(doubtful, links=links))
    assert error(solved, shaken, 19, 20) < 0.3
    assert error(solved, shaken, 20, 21) < 0.3


def test_a_link_that_does_not_close_is_rejected(shaken: Motion):
    doubtful = spoiled(shaken, [20, 21], 0.4)
    good, bad = [link(shaken, 19, 21), link(shaken, 18, 22)], link(shaken, 19, 22, shift=45)
    assert error(solve_pose_graph(replace(doubtful, links=np.array([*good, bad]))), shaken, 19, 21) < 0.5


def test_a_cut_without_a_link_stays(shaken: Motion):
    assert [s.start for s in solve_pose_graph(spoiled(shaken, [20], 0.0, cut=True)).shots] == [0, 20]


def test_a_doubtful_step_that_no_link_confirms_is_unknown(shaken: Motion):
    confidence = solve_pose_graph(spoiled(shaken, [20], 0.6)).confidence
    assert np.flatnonzero(confidence == UNKNOWN).tolist() == [20]


def test_steps_among_mostly_unknown_ones_are_unknown_too(shaken: Motion):
    wrong = [i for i in range(1, COUNT) if i % 4]
    confidence = solve_pose_graph(spoiled(shaken, wrong, 0.6)).confidence
    assert (confidence[1:] < MIN_CONFIDENCE).all()
