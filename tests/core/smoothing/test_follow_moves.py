from fractions import Fraction

import numpy as np
import pytest
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo
from steadyscale.core.crop.border import Border
from steadyscale.core.crop.zoom import zoom_to_fill, zooms_to_fill
from steadyscale.core.path.trajectory import Trajectory, correction
from steadyscale.core.smoothing.follow_moves import follow_moves
from steadyscale.core.smoothing.smooth import Smoothing, smooth
from steadyscale.core.smoothing.stabilize import plan_correction

WIDTH, HEIGHT, FPS = 1280, 720, 15


def trajectory(path, times=None):
    info = ClipInfo(WIDTH, HEIGHT, Fraction(FPS), len(path))
    return Trajectory(geometry.matrices_from_parameters(path), [slice(0, len(path))], info, times=times)


def move(axis, speed, start=2.0, stop=4.0, seconds=6.0, ramp=0.1):
    """At rest, an even move from `start` to `stop` with ramps of `ramp` seconds, at rest."""
    fine = np.arange(int(seconds * FPS * 20)) / (FPS * 20)
    taps = int(ramp * FPS * 20)
    speeds = np.convolve(speed * ((fine >= start) & (fine < stop)), np.full(taps, 1 / taps), mode="same")
    path = np.zeros((int(seconds * FPS), 4))
    path[:, axis] = (np.cumsum(speeds) / (FPS * 20))[::20]
    return path


def hand_shake(frames, seed=1):
    """7 px and half a degree of hand shake."""
    random, t = np.random.default_rng(seed), np.arange(frames) / FPS
    path = np.zeros((frames, 4))
    for hertz in (0.7, 1.3, 2.2, 3.1, 4.7, 6.3):
        path += random.standard_normal(4) * np.sin(2 * np.pi * (hertz * t[:, None] + random.random(4))) / hertz**0.7
    return path / path.std(axis=0) * [7, 7, 0.008, 0]


def high_pass(x, hertz=0.8):
    """What of the positions (n,) is faster than this."""
    n = len(x)
    mirrored = np.concatenate([2 * x[0] - x[:0:-1], x, 2 * x[-1] - x[-2::-1]])
    line = np.linspace(mirrored[0], mirrored[-1], len(mirrored))
    gain = 1 / (1 + (np.fft.rfftfreq(len(mirrored), 1 / FPS) / hertz) ** 8)
    return (mirrored - line - np.fft.irfft(np.fft.rfft(mirrored - line) * gain, len(mirrored)))[n - 1 : 2 * n - 1]


def rms(x):
    return float(np.sqrt(np.mean(x**2)))


def smooth_as_vidstab(x):
    """vid.stab's default: a Gaussian of a standard deviation of 0.35 s."""
    offsets = np.arange(-FPS, FPS + 1)
    kernel = np.exp(-((offsets / (FPS / 2)) ** 2))
    return np.convolve(np.pad(x, FPS, mode="edge"), kernel / kernel.sum(), mode="valid")


def test_a_steady_pan_needs_little_zoom_and_holds_stay_still():
    """0.4 widths per second between two holds; the smoother alone needs a zoom of 1.24."""
    pan = move(0, 0.4 * WIDTH)
    measured = trajectory(pan)
    plan = plan_correction(measured)
    assert zoom_to_fill(plan) <= 1.051
    x = measured.corrected(plan).path[:, 0]
    hold, start = slice(0, int(1.45 * FPS)), slice(FPS, 3 * FPS)
    assert np.abs(np.diff(x[hold])).max() * FPS / 30 <= 0.5, "pixels per frame at 30 frames per second"
    assert rms(high_pass(x)[start]) < rms(high_pass(smooth_as_vidstab(pan[:, 0]))[start])


@pytest.mark.parametrize(("axis", "speed"), [(2, np.pi / 4), (3, 0.35), (3, -0.35)])
def test_rolls_and_zooms_are_followed(axis, speed):
    measured = trajectory(move(axis, speed))
    assert zoom_to_fill(correction(measured, smooth(measured))) > 1.08
    assert zoom_to_fill(plan_correction(measured)) <= 1.051


def test_a_pan_at_uneven_intervals_is_followed():
    times = np.arange(90) / FPS + np.tile([0.0, 0.02], 45)
    pan = np.zeros((90, 4))
    pan[:, 0] = 0.4 * WIDTH * np.clip(times - 2, 0, 2)
    assert zoom_to_fill(plan_correction(trajectory(pan, times))) <= 1.051


def test_a_whip_costs_no_crop_of_the_other_frames():
    shake = hand_shake(12 * FPS)
    whip, t = shake.copy(), np.arange(12 * FPS) / FPS
    whip[:, 0] += 200 * np.clip((t - 6) / 0.2, 0, 1) * np.clip((6.8 - t) / 0.2, 0, 1)
    calm, measured = plan_correction(trajectory(shake)), trajectory(whip)
    assert zoom_to_fill(correction(measured, smooth(measured))) > 1.29
    plan = plan_correction(measured)
    assert zoom_to_fill(plan) < zoom_to_fill(calm) + 0.02
    before = slice(0, 2 * FPS)
    x = measured.corrected(plan).path[:, 0]
    assert rms(high_pass(x)[before]) < 0.02 * rms(high_pass(whip[:, 0])[before])


def test_shake_is_not_followed():
    for amount in (1, 3):
        measured = trajectory(amount * hand_shake(150))
        planned = correction(measured, smooth(measured))
        assert np.array_equal(follow_moves(planned).matrices, planned.matrices)


def test_slow_sway_is_not_followed():
    sway = np.zeros((150, 4))
    sway[:, 1] = 60 * np.sin(2 * np.pi * 0.5 * np.arange(150) / FPS)
    measured = trajectory(sway)
    planned = correction(measured, smooth(measured))
    assert zooms_to_fill(planned).max() > 1.1
    assert np.array_equal(follow_moves(planned).matrices, planned.matrices)


def test_shots_are_independent():
    pan, shake = move(0, 0.4 * WIDTH), hand_shake(90)
    both = trajectory(np.concatenate([shake, pan]))
    cut = Trajectory(both.poses, [slice(0, 90), slice(90, 180)], both.info)
    planned = correction(cut, smooth(cut))
    followed = follow_moves(planned)
    assert np.array_equal(followed.matrices[:90], planned.matrices[:90])
    assert zooms_to_fill(followed)[90:].max() <= 1.051


@pytest.mark.parametrize(
    "settings", [{"method": Smoothing.LOCKED}, {"horizon": 1.0}, {"method": Smoothing.KALMAN_CAUSAL}]
)
def test_exact_paths_are_not_changed(settings):
    measured = trajectory(move(0, 0.4 * WIDTH))
    plan = plan_correction(measured, border=Border.MIRROR, **settings)
    assert np.array_equal(plan.matrices, correction(measured, smooth(measured, **settings)).matrices)
