from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from camera_simulation import make_shake_path
from steadyscale.core import Border, geometry
from steadyscale.core.clip import ClipInfo
from steadyscale.core.path.trajectory import Trajectory
from steadyscale.core.visualize.plots import flow_to_image, plot_trajectory


def test_zero_flow_is_white_and_opposite_directions_have_opposite_colors():
    flow = torch.zeros(1, 2, 8, 12)
    flow[:, 0, :, 4:8] = 3
    flow[:, 0, :, 8:] = -3
    image = flow_to_image(flow, max_motion=3)
    assert torch.equal(image[..., :4], torch.ones(1, 3, 8, 4))
    assert torch.allclose(image[0, :, 0, 5], torch.tensor([1.0, 0, 0]), atol=1e-4)
    left = image[0, :, 0, 10]
    assert left[0] < 0.1
    assert left[2] > 0.9


def test_full_saturation_is_max_motion_or_the_fastest():
    flow = torch.zeros(1, 2, 8, 8)
    flow[:, 1] = 2
    full = flow_to_image(flow)
    assert torch.allclose(flow_to_image(flow * 10), full)
    assert (flow_to_image(flow, max_motion=20) > full).any()


def test_both_paths_and_cuts_are_drawn():
    path = make_shake_path(40)
    trajectory = Trajectory(
        geometry.matrices_from_parameters(path), [slice(0, 20), slice(20, 40)], ClipInfo(64, 48, Fraction(25), 40)
    )
    flat = replace(trajectory, poses=np.broadcast_to(np.eye(3), (40, 3, 3)))
    image = plot_trajectory(trajectory, flat, width=480, height=360)
    assert image.shape == (1, 3, 360, 480)
    red, _, blue = image[0]
    assert ((red > 0.8) & (blue < 0.4)).sum() > 200, "the path before, in orange"
    assert ((blue > 0.7) & (red < 0.4)).sum() > 200, "the path after, in blue"
    cut = 32 + round((480 - 16 - 64) * 19.5 / 39) + 32
    dark = (image[0].mean(0) < 0.5)[:, cut - 3 : cut + 3].any(1).sum()
    assert dark > 120, "a dark line from top to bottom of each panel"


def test_required_zoom_and_limit_are_drawn():
    moved = np.zeros((40, 4))
    moved[:, 0] = 3.2
    info = ClipInfo(64, 48, Fraction(25), 40)
    before = Trajectory(geometry.matrices_from_parameters(moved), [slice(0, 40)], info)
    after = replace(before, poses=np.tile(np.eye(3), (40, 1, 1)))
    needed = 100 * (1 / (1 - 3.2 / 31.5) - 1)  # per cent
    image = plot_trajectory(before, after, width=480, height=600, max_zoom=1.5)[0, :, -120:]
    red, _, blue = image
    limit = np.median(np.nonzero(((red > 0.6) & (blue < 0.5)).numpy())[0])
    need = np.median(np.nonzero(((blue > 0.7) & (red < 0.4)).numpy())[0])
    low, high = needed - 0.08 * (50 - needed), 50 + 0.08 * (50 - needed)
    scale = (114.8 - 40) / (high - low)  # the panel's height in pixels
    assert abs((need - limit) - (50 - needed) * scale) < 4
    assert (plot_trajectory(before, after, width=480, height=600)[0, 0] > 0.6).any()


def test_unfillable_frame_is_drawn_at_max_zoom():
    far = np.zeros((10, 4))
    far[5, 0] = 1000
    before = Trajectory(geometry.matrices_from_parameters(far), [slice(0, 10)], ClipInfo(64, 48, Fraction(25), 10))
    after = replace(before, poses=np.tile(np.eye(3), (10, 1, 1)))
    assert plot_trajectory(before, after).isfinite().all()


def test_single_path_has_one_curve_and_no_zoom_panel():
    trajectory = Trajectory(
        geometry.matrices_from_parameters(make_shake_path(40)), [slice(0, 40)], ClipInfo(64, 48, Fraction(25), 40)
    )
    red, _, blue = plot_trajectory(trajectory, None, width=480, height=360)[0]
    assert ((red > 0.8) & (blue < 0.4)).sum() > 200
    assert ((blue > 0.7) & (red < 0.4)).sum() == 0


@pytest.mark.parametrize("border", Border)
def test_zoom_of_a_crop_is_above_the_required_zoom(border):
    moved = np.zeros((40, 4))
    moved[20:30, 0] = 3.2
    info = ClipInfo(64, 48, Fraction(25), 40)
    before = Trajectory(geometry.matrices_from_parameters(moved), [slice(0, 20), slice(20, 40)], info)
    after = replace(before, poses=np.tile(np.eye(3), (40, 1, 1)))
    red, green, blue = plot_trajectory(before, after, width=480, height=600, border=border)[0, :, -120:, 70:-20]
    drawn = ((green > 0.45) & (red < 0.3) & (blue < 0.45)).numpy()
    if border not in (Border.CROP, Border.CROP_ADAPTIVE):
        assert not drawn.any()
        return
    assert drawn[:60, 240:].any(), "the zoom stays up where the second shot needs none"
    assert drawn[:60, 10:150].any() == (border is Border.CROP), "a crop zooms in on all shots alike"


@pytest.mark.parametrize("swing", [0.4, 1.0, 2.3, 6.0, 17.0])
def test_every_axis_has_two_ticks_or_more(swing: float):
    moved = np.zeros((40, 4))
    moved[:, 1] = swing * np.sin(np.arange(40) / 6)
    path = Trajectory(geometry.matrices_from_parameters(moved), [slice(0, 40)], ClipInfo(64, 48, Fraction(25), 40))
    image = plot_trajectory(path, None)
    height = (720 - 26) // 4
    for panel in range(4):
        top = 26 + panel * height
        numbers = (image[0].amax(0) < 0.6)[top + 12 : top + height - 12, 4:56].any(1).int()
        assert int((numbers.diff() == 1).sum()) >= 2, "lines of text left of the panel"
