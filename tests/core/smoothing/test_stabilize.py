import tracemalloc
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from camera_simulation import make_shake_path, measure_jitter
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo
from steadyscale.core.crop.border import Border
from steadyscale.core.crop.zoom import limit_zoom, zoom_to_fill
from steadyscale.core.path.motion import Motion
from steadyscale.core.path.trajectory import Trajectory, correction
from steadyscale.core.smoothing.smooth import Smoothing, smooth
from steadyscale.core.smoothing.stabilize import plan_correction
from steadyscale.core.smoothing.strength import Strength


@pytest.fixture
def measured():
    path = make_shake_path(60, pixels=20)
    return Trajectory(
        geometry.matrices_from_parameters(path), [slice(0, 30), slice(30, 60)], ClipInfo(320, 180, Fraction(25), 60)
    )


@pytest.mark.parametrize("border", Border)
def test_only_crops_are_limited_to_max_zoom(measured, border):
    planned = plan_correction(measured, Smoothing.KALMAN, 2.0, border=border, max_zoom=1.1)
    free = correction(measured, smooth(measured, Smoothing.KALMAN, 2.0))
    assert zoom_to_fill(free) > 1.2
    if border in (Border.CROP, Border.CROP_ADAPTIVE):
        assert zoom_to_fill(planned) <= 1.1 + 1e-6
        assert np.array_equal(planned.matrices, limit_zoom(free, 1.1, seconds=2.0).matrices)
    else:
        assert np.array_equal(planned.matrices, free.matrices)
    assert planned.poses is measured.poses
    assert planned.shots == measured.shots


def test_invisible_peaks_are_trimmed():
    """At the start and the end of a pan the smooth path lags; a small change there is invisible."""
    pan = np.cumsum(np.interp(np.arange(200), [0, 70, 80, 120, 130, 199], [0, 0, 3.0, 3.0, 0, 0]))
    path = make_shake_path(200, seed=6, pixels=4, zoom=0) + np.outer(pan, [1, 0, 0, 0])
    panned = Trajectory(geometry.matrices_from_parameters(path), [slice(0, 200)], ClipInfo(640, 360, Fraction(25), 200))
    free = correction(panned, smooth(panned, seconds=2.0))
    planned = plan_correction(panned, seconds=2.0)
    assert zoom_to_fill(planned) < zoom_to_fill(free) - 0.003
    before, after = (measure_jitter(panned.corrected(c).path, 640, 360) for c in (free, planned))
    assert after < 1.05 * before


@pytest.mark.parametrize("settings", [{"method": Smoothing.LOCKED}, {"method": Smoothing.L1}, {"horizon": 1.0}])
def test_locked_and_level_paths_are_not_trimmed(measured, settings):
    wide = replace(measured, info=ClipInfo(1280, 720, Fraction(25), 60))
    free = correction(wide, smooth(wide, seconds=2.0, **settings))
    assert np.array_equal(plan_correction(wide, seconds=2.0, **settings).matrices, free.matrices)


def test_reference_frame_is_kept(measured):
    planned = plan_correction(measured, Smoothing.LOCKED, border=Border.MIRROR, reference=7)
    assert np.allclose(planned.matrices[7], np.eye(3))
    held = measured.corrected(planned).poses
    assert np.allclose(held[:30], measured.poses[7])


def test_strength_and_horizon_are_passed_to_smooth(measured):
    kept = Strength(x=0)
    planned = plan_correction(measured, seconds=2.0, border=Border.MIRROR, strength=kept, horizon=1.0)
    wanted = smooth(measured, seconds=2.0, strength=kept, horizon=1.0)
    assert np.array_equal(planned.matrices, correction(measured, wanted).matrices)
    moved = geometry.to_parameters(planned.matrices)
    assert np.abs(moved[:, 0]).max() < np.abs(moved[:, 1]).max() / 5, "the horizontal shake stays"


@pytest.mark.parametrize("readout", [0.0, 0.4])
@pytest.mark.slow
def test_memory_per_frame_is_bounded(readout, monkeypatch):
    """Peak bytes of planning per additional frame."""
    monkeypatch.setattr(geometry, "CHUNK_FRAMES", 100)

    def peak(frames: int) -> int:
        path = make_shake_path(frames, pixels=25, zoom=0) / [1, 1, 2, 1]
        steps = np.linalg.inv(geometry.matrices_from_parameters(path)) @ geometry.matrices_from_parameters(
            np.roll(path, 1, axis=0)
        )
        confidence = np.ones(frames)
        steps[0], confidence[0] = np.eye(3), 0.0
        info = ClipInfo(320, 180, Fraction(25), frames)
        tracemalloc.start()
        try:
            measured = Trajectory.of(Motion(steps, confidence, info, readout))
            planned = plan_correction(measured, seconds=0.2, max_zoom=1.05)
            assert zoom_to_fill(planned) <= 1.05 + 1e-6
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(200)  # imports and caches
    table = 3 * 72 + bool(readout) * 5 * 72  # poses, corrections and temporaries; rows
    assert (peak(1200) - peak(400)) / 800 < 4 * table  # 3.5 and 3.0, by readout
