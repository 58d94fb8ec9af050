"""The shipped networks against the closed form and the Kalman filter, on shake that they were not trained on."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo
from steadyscale.core.path.smoothers.kalman import kalman, kalman_lagged
from steadyscale.core.path.smooth import gaussian, smooth, whittaker
from steadyscale.core.path.trajectory import Trajectory, correction, inverse
from steadyscale.core.path.zoom import limit_zoom, zoom_to_fill
from steadyscale.core.training.smoother.synthetic_paths import ASPECT, PathKind, camera_path
from steadyscale.models import PathSmoother, WeightsError, load_path_smoother
from steadyscale.models.smoother.path_net import corner_displacements, crop_margin, margin_usage, tangent_scale
from steadyscale.models.smoother.path_smoother import WEIGHTS_PATH, simulate_live

WIDTH, HEIGHT, FPS = 1280, 720, 30
KINDS = tuple(kind for kind in PathKind if kind is not PathKind.TRIPOD)
ZOOM = 1.08


@pytest.fixture(scope="module")
def shipped():
    return load_path_smoother()


def untrained():
    network = PathSmoother().requires_grad_(False)
    for parameter in network.parameters():
        parameter.zero_()
    return network


def held_out(kind, frames=160, seed=9001):
    """A path in pixels that no training has seen, as a trajectory."""
    path = camera_path(np.random.default_rng([seed, list(PathKind).index(kind)]), kind, frames, FPS)
    path = path / tangent_scale(WIDTH, HEIGHT, 1.0).numpy() * tangent_scale(2, 2 / ASPECT, 1.0).numpy()
    info = ClipInfo(WIDTH, HEIGHT, Fraction(FPS), frames)
    return Trajectory(geometry.matrices_from_tangents(path), [slice(0, frames)], info)


def table(kind, frames=160):
    return geometry.to_tangents(held_out(kind, frames).poses)


def unevenness(path):
    """Root mean square over the frame's corners of how the picture accelerates, in half frames per frame squared."""
    across = torch.from_numpy(np.diff(path, 2, axis=0)) * tangent_scale(WIDTH, HEIGHT, 1.0)
    return float(corner_displacements(across, WIDTH / HEIGHT).square().mean().sqrt())


def need(path, after):
    """The share of room that the frame takes up which is moved most, 1 being all that ZOOM hides."""
    moved = torch.from_numpy(after - path) * tangent_scale(WIDTH, HEIGHT, crop_margin(ZOOM))
    return float(margin_usage(moved, WIDTH / HEIGHT).max())


def at_equal_crop(path, function, most):
    """What is left by a filter whose period is as long as that crop allows."""
    short, long = 2.0, 400.0
    for _ in range(8):
        period = (short * long) ** 0.5
        short, long = (period, long) if need(path, function(path, period)) <= most else (short, period)
    return unevenness(function(path, short))


def learned(network, measured, zoom=ZOOM, seconds=3.0):
    return smooth(measured, network.smoother(WIDTH, HEIGHT, zoom), seconds)


def beats(network, rival):
    """How much more than the network a filter leaves that crops as much: the mean ratio over kinds of shake."""
    ratios = []
    for kind in KINDS:
        path = table(kind)
        after = network.smoother(WIDTH, HEIGHT, ZOOM)(path, 90.0)
        ratios.append(unevenness(after) / at_equal_crop(path, rival, need(path, after)))
    return float(np.exp(np.mean(np.log(ratios))))


@pytest.mark.parametrize("rival", [gaussian, kalman, whittaker], ids=lambda f: f.__name__)
def test_it_leaves_less_of_unseen_shake_than_filters_do_at_equal_crop(shipped, rival):
    assert beats(shipped, rival) < 0.85


def test_what_has_learnt_nothing_does_not():
    assert beats(untrained(), whittaker) > 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_it_gives_way_where_the_closed_form_knows_no_budget(shipped, kind):
    path = table(kind)
    ours, plain = need(path, shipped.smoother(WIDTH, HEIGHT, ZOOM)(path, 90.0)), need(path, whittaker(path, 90.0))
    assert ours < plain
    assert ours - 1 < max(0.9 * (plain - 1), 0.05)


def test_within_the_budget_it_is_steadier_than_a_filter_that_was_shortened(shipped):
    """Through the whole of `smooth` and `limit_zoom`, after which both need no more than the budget."""
    measured = held_out(PathKind.JOLT)
    fix = limit_zoom(correction(measured, learned(shipped, measured)), ZOOM)
    assert zoom_to_fill(fix) <= ZOOM + 1e-6
    frame = geometry.corners(WIDTH, HEIGHT)

    def left(poses):
        steps = geometry.transform_points(np.linalg.inv(poses[1:]) @ poses[:-1], frame[None]) - frame
        return np.sqrt((np.diff(steps, axis=0) ** 2).mean())

    assert left(measured.corrected(fix).poses) < left(measured.poses) / 4


def test_without_a_crop_it_is_nearly_the_closed_form(shipped):
    for kind in KINDS:
        path = table(kind)
        function = shipped.smoother(WIDTH, HEIGHT, None)
        cost = []
        for z in (function(path, 60.0), whittaker(path, 60.0)):
            stiff = (2 * np.sin(np.pi / 60)) ** -4
            cost.append(((z - path)[:, :2] ** 2).sum() + stiff * (np.diff(z[:, :2], 2, axis=0) ** 2).sum())
        assert cost[1] <= cost[0] <= 1.2 * cost[1]


def test_shake_goes_and_the_slow_swing_stays(shipped):
    t = np.arange(300) / FPS
    path = np.zeros((300, 4))
    path[:, 0] = 8 * np.sin(2 * np.pi * 3 * t) + 60 * np.sin(2 * np.pi * t / 15)
    poses = geometry.matrices_from_parameters(path)
    measured = Trajectory(poses, [slice(0, 300)], ClipInfo(WIDTH, HEIGHT, Fraction(FPS), 300))
    after = learned(shipped, measured, zoom=1.15, seconds=2.0).path[60:-60, 0]
    assert np.abs(after - 60 * np.sin(2 * np.pi * t / 15)[60:-60]).max() < 1.5


def test_the_size_of_the_frame_and_its_rate_change_nothing(shipped):
    path = table(PathKind.WALK)
    small = shipped.smoother(WIDTH, HEIGHT, ZOOM)(path, 60.0)
    shrink = np.array([0.25, 0.25, 1, 1, 1, 1, 4, 4])
    assert np.allclose(shipped.smoother(WIDTH / 4, HEIGHT / 4, ZOOM)(path * shrink, 60.0), small * shrink, atol=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 3, 30])
@pytest.mark.parametrize("zoom", [None, 1.0, 1.2])
def test_a_still_or_even_path_of_any_length_stays(shipped, frames, zoom):
    pan = np.outer(np.arange(frames), [2.0, -1, 0.001, 0, 0, 0, 0, 0]) + 5.0
    smooth_one = shipped.smoother(WIDTH, HEIGHT, zoom)
    assert np.allclose(smooth_one(pan, 90.0), pan, atol=1e-6)
    assert np.allclose(smooth_one(pan * 0 + 3, 2.0), 3.0, atol=1e-9)


def test_applying_and_inverting_leads_back_to_the_source(shipped):
    measured = held_out(PathKind.HAND)
    fix = correction(measured, learned(shipped, measured))
    back = measured.corrected(fix).corrected(inverse(fix))
    assert np.allclose(back.poses, measured.poses, atol=1e-7)
    assert np.abs(fix.matrices - np.eye(3)).max() > 1


# ---- live ----


def driven(network, path, ahead, period=90.0):
    return simulate_live(network.live, torch.from_numpy(path)[None], period, ahead, WIDTH / HEIGHT)[0].numpy()


def lagging(path, ahead, period):
    """The Kalman smoother's word on each frame when it knows `ahead` more, and the last period before it."""
    reach, smooth, known = int(period), [], {}
    for at in range(len(path)):
        seen = path[max(0, at - reach) : at + ahead + 1]
        key = len(seen), min(at, reach)
        if key not in known:
            known[key] = kalman_lagged(np.eye(key[0]), period)[key[1]]
        smooth.append(known[key] @ seen)
    return np.stack(smooth)


def test_live_it_keeps_still_and_even_motion(shipped):
    pan = np.outer(np.arange(400.0), [0.05, -0.02, 0.01, 0, 0, 0, 0, 0])
    for ahead in (0, 5, 15):
        assert np.allclose(driven(shipped, pan * 0 + 2.0, ahead), 2.0, atol=1e-9)
        assert np.allclose(driven(shipped, pan, ahead)[-50:], pan[-50:], atol=0.05)


def test_live_it_leaves_less_than_a_fixed_lag_at_equal_crop(shipped):
    """Five frames ahead; the square of how the path accelerates."""
    ratios = []
    for kind in (PathKind.HAND, PathKind.ZOOM, PathKind.JOLT):
        path = table(kind, 120) * tangent_scale(WIDTH, HEIGHT, crop_margin(1.1)).numpy()
        after = driven(shipped, path, 5)
        used = margin_usage(torch.from_numpy(after - path), WIDTH / HEIGHT).max()
        for period in np.geomspace(90, 10, 8):
            rival = lagging(path, 5, period)
            if margin_usage(torch.from_numpy(rival - path), WIDTH / HEIGHT).max() <= used:
                break
        ratios.append(np.square(np.diff(after, 2, axis=0)).mean() / np.square(np.diff(rival, 2, axis=0)).mean())
    assert np.exp(np.mean(np.log(ratios))) < 0.7


def test_live_it_mirrors_and_moves_with_the_path(shipped):
    path = held_path()
    after = driven(shipped, path, 5)
    assert np.allclose(driven(shipped, -path, 5), -after, atol=1e-5)
    assert np.allclose(driven(shipped, path + 9, 5), after + 9, atol=1e-5)


def held_path(kind=PathKind.HAND, frames=160):
    room = tangent_scale(WIDTH, HEIGHT, crop_margin(1.1)).numpy()
    return table(kind, frames) * room


def test_live_it_knows_nothing_beyond_its_look_ahead(shipped):
    path = held_path()
    changed = path.copy()
    changed[100 + 6 :] += 3
    before, after = driven(shipped, path, 5), driven(shipped, changed, 5)
    assert np.array_equal(before[:101], after[:101])
    assert not np.allclose(before[101], after[101])


# ---- files ----


def test_weights_that_are_none_of_it_are_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors cannot be read"):
        load_path_smoother(tmp_path / "nowhere.safetensors")
    save_file({"offline.layers.0.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="holds no weights"):
        load_path_smoother(tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("text")
    with pytest.raises(WeightsError, match="holds no weights"):
        load_path_smoother(tmp_path / "text.safetensors")
    broken = {key: value * float("nan") for key, value in load_path_smoother().state_dict().items()}
    save_file(broken, tmp_path / "nan.safetensors")
    with pytest.raises(WeightsError, match="inf or NaN"):
        load_path_smoother(tmp_path / "nan.safetensors")


def test_the_shipped_file_is_small():
    assert WEIGHTS_PATH.stat().st_size < 1_000_000
