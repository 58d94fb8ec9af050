"""A camera that stands still, with noise and a subject; the motion is known by construction."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from camera_simulation import make_texture, render_camera
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo, TensorClip
from steadyscale.core.crop.border import Border, with_border_zoom
from steadyscale.core.motion.fit.pose_graph import UNKNOWN, solve_pose_graph
from steadyscale.core.motion.fit.stillness import (
    BLOCKS,
    MAX_BLOCK_STD,
    MIN_BLOCKS,
    block_displacements,
    is_small,
    is_still,
)
from steadyscale.core.motion.optical_flow.gray_frame import GrayFrame
from steadyscale.core.path.motion import Motion
from steadyscale.core.path.trajectory import MIN_CONFIDENCE
from steadyscale.core.stabilize import correct_motion, measure_motion
from steadyscale.core.warping.warp import warp

WIDTH, HEIGHT = 320, 180
SUBJECT = np.s_[..., 20:150, 50:270]  # more than half of the frame


def film(shifts: list[float], *, noise: float = 0.01, subject: bool = False, gain: float = 1.0) -> torch.Tensor:
    """(N, 3, H, W): frames of a camera at these positions along x; the subject drifts by its own."""
    path = np.outer(shifts, [1.0, 0, 0, 0])
    frames = render_camera(make_texture(300, 500), geometry.matrices_from_parameters(path), WIDTH, HEIGHT)
    if subject:
        drift = np.outer(0.3 * np.sin(np.arange(len(shifts))), [1.0, 0.5, 0, 0])
        walk = render_camera(make_texture(300, 500, 5), geometry.matrices_from_parameters(drift), WIDTH, HEIGHT)
        frames[SUBJECT] = walk[SUBJECT]
    frames = frames * torch.linspace(1, gain, len(shifts)).view(-1, 1, 1, 1)
    return (frames + noise * torch.randn(frames.shape, generator=torch.Generator().manual_seed(3))).clamp(0, 1)


def grays(frames: torch.Tensor) -> list[GrayFrame]:
    return [GrayFrame.of(frame.mean(dim=0)[None, None]) for frame in frames]


@pytest.mark.parametrize(
    ("shift", "still"), [(0.0, True), (0.005, True), (0.15, False), (0.4, False)], ids=["0", "tiny", "small", "large"]
)
@pytest.mark.parametrize("subject", [False, True])
def test_a_still_camera_differs_from_one_that_moves(shift, still, subject):
    assert is_still(*grays(film([0.0, shift], subject=subject))) is still


def test_light_and_noise_are_no_motion_and_noise_alone_is_no_evidence():
    assert is_still(*grays(film([0.0, 0.0], gain=0.8)))
    assert not is_still(*grays(film([0.0, 0.0], noise=0.3)))
    assert not is_still(*grays(torch.full((2, 3, HEIGHT, WIDTH), 0.5)))


def by_night(poses: list[list[float]]) -> list[GrayFrame]:
    """Frames so noisy that no block says for itself whether it moved."""
    frames = render_camera(make_texture(300, 500), geometry.matrices_from_parameters(np.array(poses)), WIDTH, HEIGHT)
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(3))
    return grays((0.03 + 0.07 * frames + 0.01 * noise).clamp(0, 1))


@pytest.mark.parametrize(
    ("pose", "still"),
    [([0, 0, 0, 0], True), ([0.3, 0, 0, 0], False), ([0, 0, 0.004, 0], False), ([0, 0, 0, 0.004], False)],
    ids=["rest", "shift", "turn", "zoom"],
)
def test_at_night_all_blocks_together_tell_whether_a_camera_rests(pose, still):
    frames = by_night([[0, 0, 0, 0], pose])
    _, std = block_displacements(*frames)
    assert np.count_nonzero(std < MAX_BLOCK_STD) < MIN_BLOCKS
    assert is_still(*frames) is still


def test_a_logo_over_a_noisy_scene_is_no_rest():
    planes = [frame.plane.copy() for frame in by_night([[0, 0, 0, 0], [0.2, 0, 0, 0]])]
    for plane in planes:
        plane[..., 20:70, 20:80] = make_texture(50, 60, 7)[0, 0].numpy()
    assert not is_still(*(GrayFrame.of(plane.reshape(1, 1, HEIGHT, WIDTH)) for plane in planes))


def test_blocks_measure_their_displacement():
    moved, std = block_displacements(*grays(film([0.0, 0.2], noise=0.002)))
    distance = np.hypot(*moved.T)
    assert np.median(distance[std < 0.05]) == pytest.approx(0.2, rel=0.4), (
        "differences of pixels underestimate fine gradients"
    )


@pytest.mark.filterwarnings("error")
def test_flat_blocks_have_no_displacement():
    frames = film([0.0, 0.2], noise=0.002)
    flat = np.s_[..., :160]
    frames[flat] = 0.7 + 1e-4 * torch.rand(frames[flat].shape, generator=torch.Generator().manual_seed(5))
    _, std = block_displacements(*grays(frames))
    std = std.reshape(BLOCKS)[:, : BLOCKS[1] // 2 - 1]
    assert std.min() > 10 * MAX_BLOCK_STD  # not a number would fail as well


def test_steps_are_small_if_all_corners_are():
    roll = geometry.matrices_from_parameters(np.array([0, 0, 0.004, 0]))
    assert is_small(geometry.matrices_from_parameters(np.array([0.3, 0, 0, 0])), HEIGHT, WIDTH)
    assert is_small(roll, HEIGHT // 2, WIDTH // 2)
    assert not is_small(roll, HEIGHT, 2 * WIDTH)


def test_a_tripod_before_a_moving_subject_is_left_alone_to_the_bit():
    frames = film([0.0] * 11, subject=True)
    motion = measure_motion(TensorClip(frames, Fraction(25)))
    assert np.array_equal(motion.steps, np.tile(np.eye(3), (11, 1, 1)))
    correction = correct_motion(motion)
    assert np.array_equal(correction.matrices, motion.steps)
    assert np.array_equal(with_border_zoom(correction, Border.CROP).matrices, motion.steps)
    warped = torch.cat([w.frames for w in warp(iter(frames.split(4)), correction)])
    assert torch.equal(warped, frames)


def test_only_long_rests_hold_the_steps():
    """Links without motion over frames 10 to 40 and 50 to 60 of a clip of 25 frames per second."""
    steps = geometry.matrices_from_parameters(np.random.default_rng(0).normal(0, 0.1, (70, 4)) * [1, 1, 0.01, 0.01])
    confidence = np.array([0.0, *[1.0] * 69])
    confidence[20] = UNKNOWN
    ends = [*range(15, 41), *range(55, 61)]
    links = np.array([[end - 5, end, 1.0, *np.eye(3).ravel()] for end in ends])
    info = ClipInfo(WIDTH, HEIGHT, Fraction(25))
    solved = solve_pose_graph(Motion(steps, confidence, info, agreement=np.ones(70), links=links))
    held = (solved.steps == np.eye(3)).all(axis=(1, 2))
    assert np.flatnonzero(held).tolist() == list(range(11, 41))
    assert np.array_equal(solved.steps[~held], steps[~held])
    assert solved.confidence[20] == MIN_CONFIDENCE
