from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from steadyscale.core import geometry
from steadyscale.core.bars import Bars
from steadyscale.core.clip import ClipInfo
from steadyscale.core.crop.border import Border
from steadyscale.core.hold import Hold
from steadyscale.core.path.mesh import MESH_SHAPE
from steadyscale.core.path.motion import Motion
from steadyscale.core.path.trajectory import Correction, Trajectory, correction
from steadyscale.core.stabilization_report import report_stabilization

COUNT = 40


@pytest.fixture
def motion() -> Motion:
    """Two shots of 20 frames that oscillate by 3 px along x, every fourth frame; 2 of 38 steps are not reliable."""
    path = np.zeros((COUNT, 4))
    path[:, 0] = 3 * np.sin(np.pi * np.arange(COUNT) / 2)
    poses = geometry.matrices_from_parameters(path)
    steps = np.concatenate([np.eye(3)[None], np.linalg.inv(poses[1:]) @ poses[:-1]])
    confidence = np.ones(COUNT)
    confidence[[0, 20]] = 0
    return Motion(steps, confidence, ClipInfo(200, 100, Fraction(8), COUNT))


@pytest.fixture
def held(motion: Motion) -> Correction:
    """The exact correction of the shake."""
    measured = Trajectory.of(motion)
    return correction(measured, replace(measured, poses=np.tile(np.eye(3), (COUNT, 1, 1))))


def test_the_report_has_what_is_known(motion: Motion, held: Correction):
    motion.confidence[[5, 30]] = 0.1
    report = report_stabilization(replace(motion, readout=0.25), held, Border.CROP)
    assert (report.cuts, report.readout, report.doubtful_steps) == ([20], 0.25, 2 / 38)
    assert report.zoom_max == pytest.approx(199 / (199 - 2 * 3), rel=0.02)
    assert report.zoom_mean == pytest.approx(report.zoom_max)
    assert report.zoom_frame is not None
    assert abs(held.matrices[report.zoom_frame, 0, 2]) == pytest.approx(3, rel=0.02)


def test_shake_is_measured_before_and_after(motion: Motion, held: Correction):
    """The jitter of 3 px along x is 3 / sqrt(2) px."""
    report = report_stabilization(motion, held, Border.CROP_ADAPTIVE)
    assert report.jitter_before == pytest.approx(3 / np.sqrt(2), rel=0.1)
    assert report.jitter_after is not None
    assert report.jitter_after < 0.05
    assert "shake 2." in str(report)
    assert "2 cuts" not in str(report)


def test_borders_that_fill_need_no_zoom(motion: Motion, held: Correction):
    assert report_stabilization(motion, held, Border.MIRROR).zoom_max == 1
    report = report_stabilization(motion, held, Border.MIRROR)
    assert "zoom 1.00, 1 cut" in str(report)
    assert report.zoom_frame is None


def test_a_still_clip_and_a_short_one(motion: Motion):
    still = Motion(np.tile(np.eye(3), (6, 1, 1)), np.array([0, 1, 1, 1, 1, 1.0]), motion.info)
    report = report_stabilization(still, Correction(still.steps, [slice(0, 6)], motion.info), Border.CROP)
    assert (report.zoom_frame, report.jitter_before, report.jitter_after) == (None, None, None)
    assert str(report) == "zoom 1.00, 0 cuts"


def test_bars_are_reported(motion: Motion, held: Correction):
    report = report_stabilization(motion, replace(held, bars=Bars(top=12, bottom=12)), Border.CROP)
    assert report.as_dict()["bars"] == {"left": 0, "top": 12, "right": 0, "bottom": 12}
    assert "bars of top 12, bottom 12 px" in str(report)
    assert report_stabilization(motion, held, Border.CROP).as_dict()["bars"] is None


def test_keyframes_are_counted(motion: Motion, held: Correction):
    report = report_stabilization(motion, held, Border.CROP, keyframes=2)
    assert report.as_dict()["keyframes"] == 2
    assert ", 2 keyframes, " in str(report)
    assert "keyframe" not in str(report_stabilization(motion, held, Border.CROP))


def test_the_share_of_bent_frames_is_reported(motion: Motion, held: Correction):
    mesh = np.zeros((COUNT, *MESH_SHAPE, 2), np.float32)
    mesh[5:15, 4, 4] = 0.5
    report = report_stabilization(motion, replace(held, mesh=mesh), Border.MIRROR)
    assert report.as_dict()["mesh"] == 0.25
    assert "a mesh bends 25% of the frames" in str(report)
    assert report_stabilization(motion, held, Border.MIRROR).as_dict()["mesh"] == 0.0


def test_what_is_held_is_reported(motion: Motion, held: Correction):
    shares = np.ones(COUNT)
    shares[[3, 4, 5, 39]] = 0
    shares[6] = 0.6
    report = report_stabilization(replace(motion, hold=Hold.REGION, held=shares), held, Border.CROP)
    assert report.as_dict()["hold"] == "region"
    assert (report.held, report.lost) == (35.6 / 40, [[3, 5], [39, 39]])
    assert "holds the region, not seen in 11.0% of the frames" in str(report)
    assert report_stabilization(motion, held, Border.CROP).as_dict()["held"] == 1
    assert "holds" not in str(report_stabilization(motion, held, Border.CROP))
