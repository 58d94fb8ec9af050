from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from camera_simulation import make_shake_path
from steadyscale.core import Border, geometry
from steadyscale.core.clip import ClipInfo
from steadyscale.core.path.trajectory import Trajectory
from steadyscale.core.visualize.panel import AFTER_COLOR, BEFORE_COLOR, LIMIT_COLOR, TEXT_COLOR, ZOOM_COLOR
from steadyscale.core.visualize.plots import flow_to_image, plot_trajectory


def pixels_of(image: torch.Tensor, color: tuple[int, int, int]) -> np.ndarray:
    """(H, W): where a plot (1, 3, H, W) has a color."""
    return ((image[0] - torch.tensor(color).view(3, 1, 1) / 255).abs().amax(0) < 0.2).numpy()


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


def test_flow_images_name_the_motion_of_full_color(monkeypatch):
    captions = []
    monkeypatch.setattr(
        "steadyscale.core.visualize.plots.draw_caption", lambda image, text, **_: captions.append(text) or image
    )
    flow = torch.zeros(1, 2, 64, 96)
    flow[:, 1] = 3.2
    flow_to_image(flow)
    flow_to_image(flow, max_motion=7.25)
    flow_to_image(flow[..., :63, :])  # too small for the wheel
    assert captions == ["full color: 3.2 px per frame", "full color: 7.2 px per frame"]


def moved_path(moved: np.ndarray, cut: int | None = None) -> tuple[Trajectory, Trajectory]:
    """A path of sideways motion in pixels (n,), and one that stands still."""
    path = np.zeros((len(moved), 4))
    path[:, 0] = moved
    shots = [slice(0, len(moved))] if cut is None else [slice(0, cut), slice(cut, len(moved))]
    before = Trajectory(geometry.matrices_from_parameters(path), shots, ClipInfo(64, 48, Fraction(25), len(moved)))
    return before, replace(before, poses=np.tile(np.eye(3), (len(moved), 1, 1)))


def test_two_rows_show_both_paths_and_the_cut_on_dark():
    trajectory = Trajectory(
        geometry.matrices_from_parameters(make_shake_path(40)),
        [slice(0, 20), slice(20, 40)],
        ClipInfo(64, 48, Fraction(25), 40),
    )
    flat = replace(trajectory, poses=np.broadcast_to(np.eye(3), (40, 3, 3)))
    image = plot_trajectory(trajectory, flat)
    assert image.shape == (1, 3, 540, 960)
    assert image.median() < 0.15
    halves = (slice(70, 300), slice(320, 540))
    for half in halves:
        assert pixels_of(image[..., half, :], BEFORE_COLOR).sum() > 200
        assert pixels_of(image[..., half, :], AFTER_COLOR).sum() > 200
    cut = 120 + round((960 - 30 - 120) * 19.5 / 39)
    white = pixels_of(image, TEXT_COLOR)[:, cut - 2 : cut + 3].any(1)
    assert all(white[half].sum() > 120 for half in halves), "a line from top to bottom of each row"


def test_the_frame_of_the_largest_crop_is_marked():
    before, after = moved_path(np.where(np.arange(40) == 30, 3.2, 0.0))
    image = plot_trajectory(before, after)
    columns = pixels_of(image, LIMIT_COLOR).sum(0)
    assert columns.argmax() == pytest.approx(120 + (960 - 30 - 120) * 30 / 39, abs=2)
    assert columns.max() > 300, "through both rows"
    assert not pixels_of(plot_trajectory(before, before), LIMIT_COLOR).any(), "without a crop there is no mark"


def test_details_add_required_zoom_and_limit():
    before, after = moved_path(np.full(40, 3.2))
    needed = 100 * (1 / (1 - 3.2 / 31.5) - 1)  # per cent
    image = plot_trajectory(before, after, details=True, max_zoom=1.5)
    assert image.shape == (1, 3, 5 * 270, 960)
    last = image[..., -240:, 130:-40]  # the row `crop`
    limit, need = (np.median(np.nonzero(pixels_of(last, color).sum(1) > 500)) for color in (LIMIT_COLOR, AFTER_COLOR))
    span = (50 - needed) * 1.08 + 0.08 * (50 - needed)  # of the axis, in per cent
    height = (5 * 270 - 64) // 5 - 60
    assert need - limit == pytest.approx((50 - needed) * height / span, abs=3)


def test_unfillable_frame_is_drawn_at_max_zoom():
    before, after = moved_path(np.where(np.arange(10) == 5, 1000.0, 0.0))
    assert plot_trajectory(before, after).isfinite().all()


def test_single_path_has_one_curve():
    trajectory = Trajectory(
        geometry.matrices_from_parameters(make_shake_path(40)), [slice(0, 40)], ClipInfo(64, 48, Fraction(25), 40)
    )
    image = plot_trajectory(trajectory, None)
    assert pixels_of(image, BEFORE_COLOR).sum() > 200
    assert not pixels_of(image, AFTER_COLOR).any()


@pytest.mark.parametrize("border", Border)
def test_zoom_of_a_crop_is_above_the_required_zoom(border):
    before, after = moved_path(np.where((np.arange(40) >= 20) & (np.arange(40) < 30), 3.2, 0.0), cut=20)
    image = plot_trajectory(before, after, border=border, details=True)
    drawn = pixels_of(image[..., -240:, 125:-35], ZOOM_COLOR)
    if border not in (Border.CROP, Border.CROP_ADAPTIVE):
        assert not drawn.any()
        return
    assert drawn[:120, 450:].any(), "the zoom stays up where the second shot needs none"
    assert drawn[:120, 20:350].any() == (border is Border.CROP), "a crop zooms in on all shots alike"


@pytest.mark.parametrize("swing", [0.4, 1.0, 2.3, 6.0, 17.0])
def test_every_axis_has_two_ticks_or_more(swing: float):
    before, _ = moved_path(swing * np.sin(np.arange(40) / 6))
    image = plot_trajectory(before, None)
    height = (540 - 36) // 2
    for row in range(2):
        top = 36 + row * height
        numbers = (image[0].amin(0) > 0.5)[top + 20 : top + height - 32, 4:112].any(1).int()
        assert int((numbers.diff() == 1).sum()) >= 2, "lines of text left of the row"
