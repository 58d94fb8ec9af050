from __future__ import annotations

import torch
from steadyscale.core.visualize.flow_arrows import draw_flow_arrows
from steadyscale.core.visualize.plots import colorize_flow

FRAME = torch.zeros(1, 3, 192, 288)


def pixels_of(image: torch.Tensor, ink: torch.Tensor) -> torch.Tensor:
    return ((image[0] - ink.view(3, 1, 1)).abs().amax(0) < 0.02).nonzero()


def test_arrows_have_the_direction_and_color_of_the_motion():
    flow = torch.zeros(1, 2, 96, 144)  # of half the size: 3 pixels are 6 of the frame
    flow[:, 0, :, :72] = 3
    flow[:, 1, :, 72:] = -3
    image = draw_flow_arrows(FRAME, flow)
    assert image.shape == FRAME.shape
    right, up = (
        colorize_flow(torch.tensor(direction).view(1, 2, 1, 1))[0, :, 0, 0] for direction in ((1.0, 0.0), (0.0, -1.0))
    )
    reds, others = pixels_of(image, right), pixels_of(image, up)
    wheel = slice(None, 140)  # rows above the wheel in the corner
    assert len(reds) > 500
    assert len(others) > 500
    assert (reds[reds[:, 0] < 140][:, 1] < 144 + 12).all(), "motion to the right is in the left half"
    assert (others[others[:, 0] < 140][:, 1] >= 144).all()
    # An arrow to the right starts at a grid point, 6 pixels from the edge, and has twice the length of the motion.
    first = pixels_of(image[..., wheel, :24], right)[:, 1]
    assert first.min() in (5, 6, 7)
    head = (image[0, 0, 42:55, :18] > 0.9).sum(0)
    assert head[12:16].max() > head[7:9].max(), "its head is wide"


def test_static_points_are_dots():
    image = draw_flow_arrows(FRAME, torch.zeros(1, 2, 96, 144))[..., :140, :]
    lit = (image.amax(1)[0] > 0.5).nonzero()
    assert 0 < len(lit) < 0.25 * image[0, 0].numel()
    assert torch.equal(image[..., 0:3, :], torch.zeros(1, 3, 3, 288)), "nothing is drawn in the first rows"


def test_frame_is_visible_below_the_arrows():
    bright = draw_flow_arrows(torch.ones(1, 4, 192, 288), torch.zeros(1, 2, 96, 144))
    assert torch.allclose(bright[0, :, 0, 0], torch.full((3,), 0.55), atol=0.01)
