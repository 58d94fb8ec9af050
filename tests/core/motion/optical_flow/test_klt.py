import numpy as np
import pytest
import torch
from camera_simulation import make_texture
from steadyscale.core.clip import TensorClip
from steadyscale.core.motion.estimate import estimate_motion
from steadyscale.core.motion.optical_flow.flow import FlowMethod, flow_model
from steadyscale.core.motion.optical_flow.gray_frame import GrayFrame
from steadyscale.core.motion.optical_flow.klt import CELL_PIXELS

HEIGHT, WIDTH = 180, 320


def track(first, second, hidden=None):
    return flow_model(FlowMethod.TRACKS).track_points(GrayFrame.of(first[:, :1], hidden), GrayFrame.of(second[:, :1]))


def test_features_cover_the_frame_and_follow_the_motion():
    first = make_texture(HEIGHT, WIDTH)
    points, moved, weights = track(first, torch.roll(first, (2, 5), dims=(-2, -1)))
    inner = (np.abs(points[:, 0]) < 130) & (np.abs(points[:, 1]) < 60)  # the roll brings other content to the edges
    assert np.abs(moved[inner] - points[inner] - [5, 2]).max() < 0.1
    parts = {(int(y // 45), int(x // 40)) for x, y in points}
    assert len(parts) >= 28, "of 32"
    assert len(points) > 0.8 * (HEIGHT // CELL_PIXELS) * (WIDTH // CELL_PIXELS)
    assert (weights > 0).all()


def test_points_that_fail_the_backward_check_are_rejected():
    first, other = make_texture(HEIGHT, WIDTH), make_texture(HEIGHT, WIDTH, seed=9)
    second = first.clone()
    second[..., 160:] = other[..., 160:]
    points, moved, weights = track(first, second)
    stay = points[:, 0] < -12
    assert np.abs(moved[stay] - points[stay]).max() < 0.05
    assert weights[~stay].sum() < weights[stay].sum() / 2


def test_no_feature_is_in_the_mask():
    first = make_texture(HEIGHT, WIDTH)
    hidden = np.zeros((HEIGHT, WIDTH), bool)
    hidden[:, :100] = True
    points, _, _ = track(first, first, hidden)
    assert points[:, 0].min() >= 100 - WIDTH / 2
    assert len(points) > 80


@pytest.mark.parametrize("size", [(1, 1), (20, 300), (31, 40)])
def test_small_and_flat_frames_have_no_features(size):
    assert len(track(torch.full((1, 1, *size), 0.5), torch.full((1, 1, *size), 0.5)).src_points) == 0
    flat = torch.full((2, 3, HEIGHT, WIDTH), 0.5) + torch.tensor([0.0, 0.01]).view(2, 1, 1, 1)
    assert estimate_motion(TensorClip(flat), flow_model(FlowMethod.TRACKS)).shots == [slice(0, 2)]
