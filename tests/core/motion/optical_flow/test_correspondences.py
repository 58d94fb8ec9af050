import numpy as np
import torch
from camera_simulation import make_texture as footage_texture
from steadyscale.core.motion.optical_flow.correspondences import (
    GRID_PIXELS,
    MIN_TEXTURE,
    flow_weight,
    sample_flow,
    texture_strength,
)
from steadyscale.core.motion.optical_flow.gray_frame import GrayFrame


def test_texture_requires_gradients_in_both_directions():
    y, x = np.meshgrid(np.arange(60.0), np.arange(120.0), indexing="ij")
    stripes, checks = np.sin(x), np.sin(x) * np.sin(y)
    plane = np.where(x < 60, stripes, checks).astype(np.float32) * 0.2
    found = texture_strength(plane)
    assert found.shape == (10, 20)
    assert found[1:-1, 1:8].max() < 1e-3, "stripes"
    assert found[1:-1, 11:-1].min() > 0.05, "checks"


def test_sizes_that_are_not_multiples_of_the_grid():
    plane = GrayFrame.of(footage_texture(2 * GRID_PIXELS + 1, GRID_PIXELS - 1)[:, :1]).plane
    assert texture_strength(plane).shape == (3, 1)
    field = torch.zeros(1, 2, 2 * GRID_PIXELS + 1, GRID_PIXELS - 1)
    assert np.isfinite(sample_flow(field[0].numpy(), plane).src_points).all()


def test_weight_saturates_with_texture_and_is_higher_at_the_edge():
    flat, some, rich = (flow_weight(np.full((9, 16), MIN_TEXTURE * times)) for times in (0, 10, 100))
    assert (flat == 0).all()
    assert (rich < 1.2 * some).all()
    assert some[0, 0] > 2 * some[4, 8]


def test_flow_is_sampled_at_the_points():
    frame = footage_texture(90, 160)[:, :1]
    y, x = torch.meshgrid(torch.arange(90) + 0.5 - 45, torch.arange(160) + 0.5 - 80, indexing="ij")
    field = torch.stack([0.1 * x, -0.2 * y])[None]
    hidden = np.zeros((90, 160), bool)
    hidden[:, :80] = True
    points, moved, weights = sample_flow(field[0].numpy(), GrayFrame.of(frame).plane, hidden)
    assert np.allclose(moved, points * [1.1, 0.8], atol=1e-5)
    assert (weights[points[:, 0] < 0] == 0).all()
    assert (weights[points[:, 0] > 0] > 0).all()
