from __future__ import annotations

import torch
from steadyscale.core.visualize.flow_arrows import draw_flow_arrows
from steadyscale.core.visualize.plots import colorize_flow

FRAME = torch.zeros(1, 3, 192, 288)


def coloured(picture: torch.Tensor, ink: torch.Tensor) -> torch.Tensor:
    return ((picture[0] - ink.view(3, 1, 1)).abs().amax(0) < 0.02).nonzero()


def test_arrows_point_where_pixels_go_and_have_the_colour_of_that_way():
    flow = torch.zeros(1, 2, 96, 144)  # measured at half the size: 3 pixels are 6 of the frame
    flow[:, 0, :, :72] = 3
    flow[:, 1, :, 72:] = -3
    picture = draw_flow_arrows(FRAME, flow)
    assert picture.shape == FRAME.shape
    right, up = (colorize_flow(torch.tensor(way).view(1, 2, 1, 1))[0, :, 0, 0] for way in ((1.0, 0.0), (0.0, -1.0)))
    reds, others = coloured(picture, right), coloured(picture, up)
    wheel = slice(None, 140)  # rows above the wheel in the corner
    assert len(reds) > 500
    assert len(others) > 500
    assert (reds[reds[:, 0] < 140][:, 1] < 144 + 12).all(), "what moves right is on the left"
    assert (others[others[:, 0] < 140][:, 1] >= 144).all()
    # An arrow to the right begins at a grid point, 6 pixels from the edge, and twice its motion further on it ends.
    first = coloured(picture[..., wheel, :24], right)[:, 1]
    assert first.min() in (5, 6, 7)
    head = (picture[0, 0, 42:55, :18] > 0.9).sum(0)
    assert head[12:16].max() > head[7:9].max(), "wide where it ends"


def test_what_stands_still_is_a_dot():
    picture = draw_flow_arrows(FRAME, torch.zeros(1, 2, 96, 144))[..., :140, :]
    lit = (picture.amax(1)[0] > 0.5).nonzero()
    assert 0 < len(lit) < 0.25 * picture[0, 0].numel()
    assert torch.equal(picture[..., 0:3, :], torch.zeros(1, 3, 3, 288)), "nothing reaches the first rows"


def test_the_frame_is_below():
    bright = draw_flow_arrows(torch.ones(1, 4, 192, 288), torch.zeros(1, 2, 96, 144))
    assert torch.allclose(bright[0, :, 0, 0], torch.full((3,), 0.55), atol=0.01)
