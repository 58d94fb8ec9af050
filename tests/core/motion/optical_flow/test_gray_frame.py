import numpy as np
import pytest
import torch
from camera_simulation import make_texture
from steadyscale.core.clip import ClipError
from steadyscale.core.motion.optical_flow.gray_frame import MASK_MARGIN_PIXELS, GrayFrame, gradient, mask_of


def ramp(height=40, width=60):
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (0.01 * x + 0.004 * y).float()[None, None]


def test_gradient_is_per_pixel():
    dx, dy = gradient(GrayFrame.of(ramp()).plane)
    assert np.allclose(dx[:, 1:-1], 0.01, atol=1e-6)
    assert np.allclose(dy[1:-1], 0.004, atol=1e-6)


def test_half_size_is_the_mean_of_four_and_masks_partial_cells():
    hidden = np.zeros((41, 60), bool)
    hidden[3, 7] = True
    half = GrayFrame.of(ramp(41), hidden).half
    assert half.plane.shape == (20, 30)
    assert half.plane[2, 5] == pytest.approx(0.01 * 10.5 + 0.004 * 4.5)
    assert np.argwhere(half.ignore_mask).tolist() == [[1, 3]]


def test_each_cell_selects_its_largest_gradient():
    frame = torch.full((1, 1, 30, 30), 0.2)
    frame[..., 16:] = 0.8  # the largest gradients are at the edge, columns 15 and 16
    relief = GrayFrame.of(frame).fine
    assert len(relief.x) == 100
    column = (relief.x - 0.5 + 15).reshape(10, 10)
    assert np.isin(column[:, 5], [15, 16]).all()
    assert (relief.values[1].reshape(10, 10)[:, 5] > 0.1).all()
    assert np.array_equal(relief.values, relief.layers[(relief.y + 14.5).astype(int), (relief.x + 14.5).astype(int)].T)


def test_masked_pixels_are_not_selected():
    hidden = np.zeros((60, 90), bool)
    hidden[:, :45] = True
    relief = GrayFrame.of(make_texture(60, 90)[:, :1], hidden).fine
    assert relief.x.min() >= 0
    assert len(relief.x) == 300


def test_result_is_the_same_without_opencv(monkeypatch):
    frame = make_texture(61, 90)[:, :1]
    with_opencv = GrayFrame.of(frame).fine
    monkeypatch.setattr("steadyscale.core.motion.optical_flow.gray_frame.optional_opencv", lambda: None)
    without = GrayFrame.of(frame).fine
    assert np.allclose(without.layers, with_opencv.layers, atol=1e-6)
    assert without.values.shape == with_opencv.values.shape


def test_levels_are_cached():
    gray = GrayFrame.of(ramp())
    assert gray.coarse is gray.coarse


def test_mask_is_stretched_and_dilated():
    mask = torch.zeros(3, 200, 400)
    mask[1, 100:120, 200:240] = 1
    mask[2] = 0.4
    hidden = mask_of(mask, 1, 100, 200)
    rows, columns = np.nonzero(hidden)
    assert (rows.min(), rows.max()) == (50 - MASK_MARGIN_PIXELS, 59 + MASK_MARGIN_PIXELS)
    assert (columns.min(), columns.max()) == (100 - MASK_MARGIN_PIXELS, 119 + MASK_MARGIN_PIXELS)
    assert not mask_of(mask, 2, 100, 200).any()
    assert mask_of(None, 5, 10, 10) is None
    with pytest.raises(ClipError, match="frame 3 has no mask"):
        mask_of(mask, 3, 100, 200)
    with pytest.raises(ClipError, match="frames or 1"):
        mask_of(mask[0], 0, 100, 200)
