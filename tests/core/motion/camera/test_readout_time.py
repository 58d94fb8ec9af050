from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from camera_simulation import make_shake_path, make_texture, render_camera, render_rolling_shutter
from rolling_shutter_motion import rolling_shutter_steps
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, ClipInfo, TensorClip
from steadyscale.core.motion.camera.readout_time import (
    MIN_FRAMES,
    RollingShutter,
    estimate_readout,
    with_rolling_shutter,
)
from steadyscale.core.motion.estimate import estimate_motion
from steadyscale.core.motion.optical_flow.flow import flow_model
from steadyscale.core.path.motion import Motion

COUNT, SIDEWAYS, UPWARDS, ALL = 30, [1.0, 0, 0, 0], [0, 1.0, 0, 0], [1.0, 1.0, 0.003, 0.002]


def make_pose_function(scale, seed=0):
    """The poses of a shaking camera at any time."""
    random = np.random.default_rng(seed)
    swings = [(hertz, random.standard_normal(4), random.random(4)) for hertz in (1.3, 2.9, 4.7)]

    def pose_at(times):
        t = np.asarray(times)[:, None] / 25
        path = sum(a * 6 * np.sin(2 * np.pi * (hertz * t + phase)) for hertz, a, phase in swings)
        return geometry.matrices_from_parameters(path * np.array(scale))

    return pose_at


def motion_of(frames):
    return estimate_motion(TensorClip(frames, Fraction(25)), flow_model())


@pytest.mark.parametrize("readout", [0.6, -0.6])
@pytest.mark.parametrize("scale", [SIDEWAYS, UPWARDS, ALL])
def test_known_readout_is_estimated(scale, readout):
    frames = render_rolling_shutter(make_texture(270, 480), make_pose_function(scale), 240, 136, COUNT, readout)
    assert estimate_readout(motion_of(frames)) == pytest.approx(readout, rel=0.1)


@pytest.mark.parametrize("seed", [0, 1])
def test_global_shutter_has_no_readout(seed):
    frames = render_camera(make_texture(270, 480, seed), make_pose_function(ALL, seed)(np.arange(COUNT)), 240, 136)
    assert estimate_readout(motion_of(frames)) == 0.0


def test_noisy_tripod_has_no_readout():
    scene = make_texture(180, 320)
    noise = torch.randn(COUNT, 3, 180, 320, generator=torch.manual_seed(0))
    assert estimate_readout(motion_of((scene + 0.02 * noise).clamp(0, 1))) == 0.0


@pytest.mark.parametrize("frames", [40, 2000])
def test_noise_has_no_readout_for_any_length(frames):
    random = np.random.default_rng(frames)
    noise = random.standard_normal((frames, 8)) * [0.05, 0.05, 1e-4, 1e-4, 1e-4, 1e-4, 1e-7, 1e-7]
    confidence = np.ones(frames)
    confidence[0] = 0
    info = ClipInfo(1280, 720, Fraction(30), frames)
    assert estimate_readout(Motion(geometry.matrices_from_tangents(noise), confidence, info)) == 0.0


def test_shear_in_proportion_to_speed_is_not_a_readout():
    path = make_shake_path(60, angle=0, zoom=0)
    steps = np.zeros((60, 8))
    steps[1:, :2] = np.diff(path[:, :2], axis=0)
    steps[:, 5] = steps[:, 0] / 400  # the lower part of the frame is nearer, and moves more
    steps[:, 4] = -steps[:, 1] / 400
    confidence = np.ones(60)
    confidence[0] = 0
    assert (
        estimate_readout(
            Motion(geometry.matrices_from_tangents(steps), confidence, ClipInfo(640, 360, Fraction(25), 60))
        )
        == 0.0
    )


@pytest.mark.parametrize("frames", [1, 2, MIN_FRAMES])
def test_few_frames_have_no_readout(frames):
    confidence = np.ones(frames)
    confidence[0] = 0
    steps = geometry.matrices_from_parameters(make_shake_path(frames))
    assert estimate_readout(Motion(steps, confidence, ClipInfo(64, 48, Fraction(25), frames))) == 0.0


def test_given_readout_is_used_and_off_is_zero():
    frames = render_rolling_shutter(make_texture(270, 480), make_pose_function(ALL), 240, 136, 16, 0.6)
    motion = motion_of(frames)
    assert with_rolling_shutter(motion, 0.3).readout == 0.3
    assert with_rolling_shutter(motion, RollingShutter.OFF.readout).readout == 0
    assert with_rolling_shutter(motion, RollingShutter.AUTO.readout).readout == pytest.approx(0.6, rel=0.1)
    again = with_rolling_shutter(replace(motion, readout=0.9))
    assert again.readout == pytest.approx(0.6, rel=0.1), "estimated from the steps, independent of the previous value"
    for wrong in (1.5, -1.01, float("nan")):
        with pytest.raises(ClipError, match="from -1 to 1"):
            with_rolling_shutter(motion, wrong)


@pytest.mark.parametrize(("spacing", "is_estimated"), [(None, True), (12, False)])
def test_a_clip_with_duplicate_frames_has_no_readout(spacing, is_estimated):
    """Its frames are not evenly spaced in time, although the motion looks like that of a rolling shutter."""
    steps, _ = rolling_shutter_steps(0.6)
    confidence = (steps != np.eye(3)).any(axis=(1, 2)).astype(float)  # 0 at the start of each shot
    if spacing:
        places = [*range(5, len(steps), spacing)]
        steps = np.insert(steps, places, np.eye(3), axis=0)
        confidence = np.insert(confidence, places, 1.0)
    motion = Motion(steps, confidence, ClipInfo(640, 360, Fraction(25), len(steps)))
    assert estimate_readout(motion) == pytest.approx(0.6 if is_estimated else 0.0, rel=0.15, abs=0)


def test_a_camera_that_rests_before_it_moves_has_a_readout():
    """Steps without motion in a row are no duplicate frames."""
    steps, _ = rolling_shutter_steps(0.6)
    confidence = (steps != np.eye(3)).any(axis=(1, 2)).astype(float)
    steps = np.insert(steps, [24] * 120, np.eye(3), axis=0)
    confidence = np.insert(confidence, [24] * 120, 1.0)
    motion = Motion(steps, confidence, ClipInfo(640, 360, Fraction(25), len(steps)))
    assert estimate_readout(motion) == pytest.approx(0.6, rel=0.15)
