"""The bundled path smoother against Whittaker, Gaussian and Kalman smoothing, on paths outside of its training."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo
from steadyscale.core.crop.zoom import limit_zoom, zoom_to_fill
from steadyscale.core.path.trajectory import Trajectory, correction, inverse
from steadyscale.core.smoothing.smooth import gaussian, smooth, whittaker
from steadyscale.core.smoothing.smoothers.kalman import kalman, kalman_lagged
from steadyscale.core.training.smoother.synthetic_paths import ASPECT, PathKind, camera_path
from steadyscale.models import PathSmoother, WeightsError, load_path_smoother
from steadyscale.models.smoother.path_net import corner_displacements, crop_margin, margin_usage, tangent_scale
from steadyscale.models.smoother.path_smoother import WEIGHTS_PATH, simulate_live

WIDTH, HEIGHT, FPS = 1280, 720, 30
KINDS = tuple(kind for kind in PathKind if kind is not PathKind.TRIPOD)
ZOOM = 1.08


@pytest.fixture(scope="module")
def bundled():
    return load_path_smoother()


def untrained():
    """A smoother with zero weights."""
    network = PathSmoother().requires_grad_(False)
    for parameter in network.parameters():
        parameter.zero_()
    return network


def held_out(kind, frames=160, seed=9001):
    """A trajectory in pixels from a random seed that training does not use."""
    path = camera_path(np.random.default_rng([seed, list(PathKind).index(kind)]), kind, frames, FPS)
    path = path / tangent_scale(WIDTH, HEIGHT, 1.0).numpy() * tangent_scale(2, 2 / ASPECT, 1.0).numpy()
    info = ClipInfo(WIDTH, HEIGHT, Fraction(FPS), frames)
    return Trajectory(geometry.matrices_from_tangents(path), [slice(0, frames)], info)


def held_out_tangents(kind, frames=160):
    return geometry.to_tangents(held_out(kind, frames).poses)


def rms_acceleration(path):
    """Root mean square acceleration of the frame's corners, in half frames per frame squared."""
    second_differences = torch.from_numpy(np.diff(path, 2, axis=0)) * tangent_scale(WIDTH, HEIGHT, 1.0)
    return float(corner_displacements(second_differences, WIDTH / HEIGHT).square().mean().sqrt())


def max_margin_usage(path, smoothed):
    """The largest share of the margin that any frame uses; 1 is what ZOOM hides."""
    correction = torch.from_numpy(smoothed - path) * tangent_scale(WIDTH, HEIGHT, crop_margin(ZOOM))
    return float(margin_usage(correction, WIDTH / HEIGHT).max())


def acceleration_at_equal_crop(path, function, max_usage):
    """Remaining acceleration after a filter with the longest period that this margin usage allows."""
    short, long = 2.0, 400.0
    for _ in range(8):
        period = (short * long) ** 0.5
        fits = max_margin_usage(path, function(path, period)) <= max_usage
        short, long = (period, long) if fits else (short, period)
    return rms_acceleration(function(path, short))


def smooth_with(network, measured, zoom=ZOOM, seconds=3.0):
    return smooth(measured, network.make_smoother(WIDTH, HEIGHT, zoom), seconds)


def acceleration_ratio(network, baseline):
    """Remaining acceleration of the network relative to a filter with the same crop; geometric mean over kinds."""
    ratios = []
    for kind in KINDS:
        path = held_out_tangents(kind)
        smoothed = network.make_smoother(WIDTH, HEIGHT, ZOOM)(path, 90.0)
        usage = max_margin_usage(path, smoothed)
        ratios.append(rms_acceleration(smoothed) / acceleration_at_equal_crop(path, baseline, usage))
    return float(np.exp(np.mean(np.log(ratios))))


@pytest.mark.parametrize("baseline", [gaussian, kalman, whittaker], ids=lambda f: f.__name__)
def test_is_smoother_than_filters_at_equal_crop(bundled, baseline):
    assert acceleration_ratio(bundled, baseline) < 0.85


def test_untrained_network_is_no_smoother_than_whittaker():
    assert acceleration_ratio(untrained(), whittaker) > 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_uses_less_margin_than_whittaker_with_the_same_period(bundled, kind):
    path = held_out_tangents(kind)
    ours = max_margin_usage(path, bundled.make_smoother(WIDTH, HEIGHT, ZOOM)(path, 90.0))
    baseline = max_margin_usage(path, whittaker(path, 90.0))
    assert ours < baseline
    assert ours - 1 < max(0.9 * (baseline - 1), 0.05)


def test_stabilizes_within_the_crop_after_limit_zoom(bundled):
    """Through `smooth` and `limit_zoom`, after which the crop is kept exactly."""
    measured = held_out(PathKind.JOLT)
    limited = limit_zoom(correction(measured, smooth_with(bundled, measured)), ZOOM)
    assert zoom_to_fill(limited) <= ZOOM + 1e-6
    frame = geometry.corners(WIDTH, HEIGHT)

    def acceleration(poses):
        steps = geometry.transform_points(np.linalg.inv(poses[1:]) @ poses[:-1], frame[None]) - frame
        return np.sqrt((np.diff(steps, axis=0) ** 2).mean())

    assert acceleration(measured.corrected(limited).poses) < acceleration(measured.poses) / 4


def test_without_a_crop_is_close_to_whittaker(bundled):
    penalty = (2 * np.sin(np.pi / 60)) ** -4
    for kind in KINDS:
        path = held_out_tangents(kind)
        function = bundled.make_smoother(WIDTH, HEIGHT, None)
        cost = []
        for z in (function(path, 60.0), whittaker(path, 60.0)):
            cost.append(((z - path)[:, :2] ** 2).sum() + penalty * (np.diff(z[:, :2], 2, axis=0) ** 2).sum())
        assert cost[1] <= cost[0] <= 1.2 * cost[1]


def test_removes_shake_and_keeps_slow_motion(bundled):
    t = np.arange(300) / FPS
    path = np.zeros((300, 4))
    path[:, 0] = 8 * np.sin(2 * np.pi * 3 * t) + 60 * np.sin(2 * np.pi * t / 15)
    poses = geometry.matrices_from_parameters(path)
    measured = Trajectory(poses, [slice(0, 300)], ClipInfo(WIDTH, HEIGHT, Fraction(FPS), 300))
    smoothed = smooth_with(bundled, measured, zoom=1.15, seconds=2.0).path[60:-60, 0]
    assert np.abs(smoothed - 60 * np.sin(2 * np.pi * t / 15)[60:-60]).max() < 1.5


def test_result_does_not_depend_on_the_frame_size(bundled):
    path = held_out_tangents(PathKind.WALK)
    smoothed = bundled.make_smoother(WIDTH, HEIGHT, ZOOM)(path, 60.0)
    scale = np.array([0.25, 0.25, 1, 1, 1, 1, 4, 4])
    small = bundled.make_smoother(WIDTH / 4, HEIGHT / 4, ZOOM)(path * scale, 60.0)
    assert np.allclose(small, smoothed * scale, atol=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 3, 30])
@pytest.mark.parametrize("zoom", [None, 1.0, 1.2])
def test_constant_velocity_is_preserved_at_any_length(bundled, frames, zoom):
    pan = np.outer(np.arange(frames), [2.0, -1, 0.001, 0, 0, 0, 0, 0]) + 5.0
    function = bundled.make_smoother(WIDTH, HEIGHT, zoom)
    assert np.allclose(function(pan, 90.0), pan, atol=1e-6)
    assert np.allclose(function(pan * 0 + 3, 2.0), 3.0, atol=1e-9)


def test_inverse_correction_restores_the_source(bundled):
    measured = held_out(PathKind.HAND)
    stabilizing = correction(measured, smooth_with(bundled, measured))
    restored = measured.corrected(stabilizing).corrected(inverse(stabilizing))
    assert np.allclose(restored.poses, measured.poses, atol=1e-7)
    assert np.abs(stabilizing.matrices - np.eye(3)).max() > 1


# ---- live ----


def live_path(network, path, look_ahead, period=90.0):
    return live_paths(network, [path], look_ahead, period)[0]


def live_paths(network, paths, look_ahead, period=90.0):
    """Several paths of one length side by side, in the time of one."""
    return simulate_live(network.live, torch.from_numpy(np.stack(paths)), period, look_ahead, WIDTH / HEIGHT).numpy()


def fixed_lag_kalman(path, look_ahead, period):
    """The Kalman smoother's estimate for each frame from `look_ahead` later frames and one period of earlier ones."""
    history, smooth, kernels = int(period), [], {}
    for frame in range(len(path)):
        window = path[max(0, frame - history) : frame + look_ahead + 1]
        key = len(window), min(frame, history)
        if key not in kernels:
            kernels[key] = kalman_lagged(np.eye(key[0]), period)[key[1]]
        smooth.append(kernels[key] @ window)
    return np.stack(smooth)


def test_live_preserves_rest_and_constant_velocity(bundled):
    pan = np.outer(np.arange(400.0), [0.05, -0.02, 0.01, 0, 0, 0, 0, 0])
    for look_ahead in (0, 5, 15):
        at_rest, panning = live_paths(bundled, [pan * 0 + 2.0, pan], look_ahead)
        assert np.allclose(at_rest, 2.0, atol=1e-9)
        assert np.allclose(panning[-50:], pan[-50:], atol=0.05)


def test_live_is_smoother_than_fixed_lag_kalman_at_equal_crop(bundled):
    """Mean square acceleration, with five frames of look-ahead."""
    ratios = []
    for kind in (PathKind.HAND, PathKind.ZOOM, PathKind.JOLT):
        path = path_in_margins(kind, 120)
        ours = live_path(bundled, path, 5)
        usage = margin_usage(torch.from_numpy(ours - path), WIDTH / HEIGHT).max()
        for period in np.geomspace(90, 10, 8):
            baseline = fixed_lag_kalman(path, 5, period)
            if margin_usage(torch.from_numpy(baseline - path), WIDTH / HEIGHT).max() <= usage:
                break
        ratios.append(np.square(np.diff(ours, 2, axis=0)).mean() / np.square(np.diff(baseline, 2, axis=0)).mean())
    assert np.exp(np.mean(np.log(ratios))) < 0.7


def test_live_commutes_with_mirroring_and_translation(bundled):
    path = path_in_margins()
    smoothed, mirrored, translated = live_paths(bundled, [path, -path, path + 9], 5)
    assert np.allclose(mirrored, -smoothed, atol=1e-5)
    assert np.allclose(translated, smoothed + 9, atol=1e-5)


def path_in_margins(kind=PathKind.HAND, frames=160):
    """A held-out path in units of the margin at max_zoom 1.1."""
    return held_out_tangents(kind, frames) * tangent_scale(WIDTH, HEIGHT, crop_margin(1.1)).numpy()


def test_live_reads_nothing_beyond_its_look_ahead(bundled):
    path = path_in_margins()
    changed = path.copy()
    changed[100 + 6 :] += 3
    original, affected = live_paths(bundled, [path, changed], 5)
    assert np.array_equal(original[:101], affected[:101])
    assert not np.allclose(original[101], affected[101])


# ---- files ----


def test_unsuitable_weight_files_are_rejected(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors cannot be read"):
        load_path_smoother(tmp_path / "nowhere.safetensors")
    save_file({"offline.layers.0.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="holds no weights"):
        load_path_smoother(tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("text")
    with pytest.raises(WeightsError, match="holds no weights"):
        load_path_smoother(tmp_path / "text.safetensors")
    nan_state = {key: value * float("nan") for key, value in load_path_smoother().state_dict().items()}
    save_file(nan_state, tmp_path / "nan.safetensors")
    with pytest.raises(WeightsError, match="inf or NaN"):
        load_path_smoother(tmp_path / "nan.safetensors")


def test_bundled_file_is_small():
    assert WEIGHTS_PATH.stat().st_size < 1_000_000
