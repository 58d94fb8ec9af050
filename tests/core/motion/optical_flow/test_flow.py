import pytest
import torch
from camera_simulation import make_texture
from steadyscale.core.motion.optical_flow.consistency import backward_warp
from steadyscale.core.motion.optical_flow.flow import FlowMethod, flow_model, luma


@pytest.mark.parametrize("method", list(FlowMethod))
def test_flow_points_from_the_first_frame_to_the_second(method):
    first = make_texture(120, 160)
    second = torch.roll(first, (2, 5), dims=(-2, -1))  # everything moves 5 right, 2 down
    flow = flow_model(method)(first, second)
    assert flow.shape == (1, 2, 120, 160)
    assert flow.dtype == torch.float32
    middle = flow[..., 30:-30, 30:-30]
    assert (middle[:, 0] - 5).abs().mean() < 0.1
    assert (middle[:, 1] - 2).abs().mean() < 0.1


@pytest.mark.parametrize("method", list(FlowMethod))
def test_batch_equals_its_pairs(method):
    frames = torch.cat([make_texture(64, 80, seed) for seed in range(4)])
    model = flow_model(method)
    batch = model(frames[:-1], frames[1:])
    for i in range(3):
        assert torch.allclose(batch[i : i + 1], model(frames[i : i + 1], frames[i + 1 : i + 2]), atol=1e-4)


def test_backward_warp_of_the_second_frame_gives_the_first():
    first = make_texture(64, 80)
    second = torch.roll(first, 3, dims=-1)
    flow = torch.zeros(1, 2, 64, 80)
    flow[:, 0] = 3
    assert torch.allclose(backward_warp(second, flow)[..., :-4], first[..., :-4], atol=1e-5)


def test_luma_ignores_alpha():
    frames = torch.rand(2, 4, 5, 6)
    assert torch.equal(luma(frames), luma(frames[:, :3]))
    assert torch.allclose(luma(torch.ones(1, 3, 2, 2)), torch.ones(1, 1, 2, 2))
