import pytest
import torch
from steadyscale.core.motion.optical_flow.consistency import (
    EROSION_RADIUS_PIXELS,
    forward_backward_confidence,
    photometric_confidence,
)


def flow(x, y, height=40, width=60):
    return torch.tensor([x, y], dtype=torch.float32).view(1, 2, 1, 1).repeat(1, 1, height, width)


def test_consistent_flows_have_confidence_inside_the_frame():
    believed = forward_backward_confidence(flow(5.0, -3.0), flow(-5.0, 3.0))
    inside = torch.zeros(40, 60)
    inside[3:, :-5] = 1.0  # 5 pixels to the right and 3 up are inside the frame
    assert torch.equal(believed[0, 0], inside)


def test_inconsistent_flows_have_no_confidence():
    assert float(forward_backward_confidence(flow(5.0, -3.0), flow(5.0, -3.0)).max()) == 0.0


def test_backward_flow_is_sampled_at_the_target():
    back = flow(-8.0, 0.0)
    back[..., 30:] = 0.0  # static content there, which is occluded in the first frame
    believed = forward_backward_confidence(flow(8.0, 0.0), back)[0, 0]
    assert float(believed[:, :21].min()) == 1.0
    assert float(believed[:, 24:].max()) == 0.0


@pytest.mark.parametrize(("miss", "expected"), [(0.5, 1.0), (0.7, 1.0), (0.9, 0.406), (1.1, 0.0)])
def test_confidence_decreases_with_the_error(miss, expected):
    believed = forward_backward_confidence(flow(0.0, 0.0), flow(miss, 0.0))
    assert float(believed[0, 0, 20, 20]) == pytest.approx(expected, abs=1e-3)


def test_different_pixels_lower_confidence_of_their_neighborhood():
    frame = torch.full((1, 3, 40, 60), 0.5)
    warped = frame.clone()
    warped[:, 1, 10:20, 30:40] = 0.7  # one channel is enough
    believed = photometric_confidence(warped, frame)[0, 0]
    assert (
        float(
            believed[
                10 - EROSION_RADIUS_PIXELS : 20 + EROSION_RADIUS_PIXELS,
                30 - EROSION_RADIUS_PIXELS : 40 + EROSION_RADIUS_PIXELS,
            ].max()
        )
        == 0.0
    )
    far = believed.clone()
    far[
        9 - EROSION_RADIUS_PIXELS : 21 + EROSION_RADIUS_PIXELS, 29 - EROSION_RADIUS_PIXELS : 41 + EROSION_RADIUS_PIXELS
    ] = 1.0
    assert float(far.min()) == 1.0


def test_noise_and_global_flicker_keep_confidence():
    frame = torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.4
    noise = 0.02 * torch.randn(frame.shape, generator=torch.Generator().manual_seed(1))
    assert float(photometric_confidence(frame + noise, frame).mean()) > 0.95
    assert float(photometric_confidence(frame + 0.03, frame).min()) == 1.0
    assert float(photometric_confidence(frame + 0.2, frame).max()) == 0.0  # but everything can be wrong


def test_tolerance_grows_with_contrast():
    """A small flow error causes differences at edges, which must not prevent deflickering."""
    flat = torch.full((1, 3, 40, 60), 0.5)
    edges = flat.clone()
    edges[..., 10:20, 20:40:2] = 0.2
    warped = torch.zeros_like(flat)
    warped[..., 14:16, 30] = 0.09
    assert float(photometric_confidence(edges + warped, edges).min()) == 1.0
    assert float(photometric_confidence(flat + warped, flat).min()) < 0.5
