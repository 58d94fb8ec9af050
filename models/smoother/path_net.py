"""The network that smooths camera paths: it says how firmly each frame is to be held to its place.

A path is smoothed by least squares (path_solver.py). Where the result strays farther from the path than the crop can
hide, a small convolution over time sees how far, and raises the weight of those frames; three rounds of that, each
from the result of the last. So it takes away all that the budget of picture allows and gives way only where it must,
which no filter with fixed weights does; and it cannot fail badly: whatever the weights are, even motion stays even.
Trained without labels (core/training/path_trainer.py): nobody knows what the best path looks like, only what it costs.

Paths are (B, n, 8) tangents: x, y, angle, log_zoom, two of shear, two of perspective, as core's geometry has them, but
in units of room: 1 is what moves an edge of the frame by as much as the crop can hide.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .whittaker_layer import whittaker_smooth

POINTS_PER_PERIOD = (
    16  # of the network's own clock, in a period: it sees the same whatever the frame rate and the period are
)
NUM_ITERATIONS = 3
UNLIMITED_MARGIN = 1e3  # the room, in half frames, where nothing is cropped


def crop_margin(max_zoom: float | None) -> float:
    """How far an edge may move, in halves of the frame, until the crop shows it; None: as far as it likes."""
    return UNLIMITED_MARGIN if max_zoom is None else max(1 - 1 / max_zoom, 1e-4)


def tangent_scale(width: float, height: float, margin: float) -> Tensor:
    """(8,): what tangents in pixels and radians are multiplied by to be in units of room."""
    long = max(width / height, height / width)
    parts = [2 / width, 2 / height, long, 1, 1, long, width / 2, height / 2]
    return torch.tensor(parts, dtype=torch.float64) / margin


def corner_displacements(path: Tensor, aspect: float) -> Tensor:
    """(..., 8) -> (..., 8): where the frame's four corners go, x and y in turn, for paths in units of room.

    To first order; 1 is the edge of what the crop hides. aspect: width over height.
    """
    return path @ corner_jacobian(aspect).to(path).T


def corner_jacobian(aspect: float) -> Tensor:
    """(8, 8): the corners' x and y in turn, for each of the tangents."""
    long = max(aspect, 1 / aspect)
    rows = []
    for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        across, down = y / (aspect * long), x * aspect / long  # what turning does to the corner
        rows.append([1, 0, -across, x, x, across, -x * x, -x * y])
        rows.append([0, 1, down, y, -y, down, -x * y, -y * y])
    return torch.tensor(rows, dtype=torch.float64)


def margin_usage(correction: Tensor, aspect: float) -> Tensor:
    """(..., 8) -> (...): the share of the room that a correction takes up; above 1 the border shows."""
    return corner_displacements(correction, aspect).abs().amax(dim=-1)


class PathNet(nn.Module):
    """(B, n, 8) paths in units of room -> smooth ones, float64. Any length from 1 frame on.

    With all weights nought it is the Whittaker smoother, whose half-way point is a swing of `period` frames.
    features: channels inside.
    """

    def __init__(self, features: int = 24) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(a, b, 5, dilation=d, padding=2 * d, padding_mode="replicate")
            for a, b, d in ((3, features, 1), (features, features, 2), (features, features, 4), (features, 1, 1))
        )
        nn.init.zeros_(self.layers[-1].weight)  # pyright: ignore[reportArgumentType]
        nn.init.zeros_(self.layers[-1].bias)  # pyright: ignore[reportArgumentType]

    def forward(self, path: Tensor, period: float, aspect: float) -> Tensor:
        return self.smooth_bidirectional(path, period, aspect)[0]

    def smooth_bidirectional(self, path: Tensor, period: float, aspect: float) -> tuple[Tensor, Tensor]:
        """The smooth path, and how much the network's answers differ when it looks at time forwards and backwards.

        The mean of the two is used, so that a path filmed backwards is smoothed backwards, exactly.
        """
        batch, n, _ = path.shape
        columns = path.mT.reshape(-1, n)
        firmness = torch.zeros_like(columns)  # logarithm of the weights
        smooth, apart = whittaker_smooth(columns, firmness.exp(), period), path.new_zeros(())
        points = max(1, round(POINTS_PER_PERIOD * n / max(period, 2.0)))
        for _ in range(NUM_ITERATIONS):
            moved = (smooth - columns).view(batch, -1, n)
            seen = _network_inputs(moved, firmness.view(batch, -1, n), points, aspect)
            ahead = self._predict(seen)
            back = self._predict(seen.flip(-1)).flip(-1)
            apart = apart + (ahead - back).square().mean()
            change = F.interpolate((ahead + back) / 2, size=n, mode="linear", align_corners=False)
            firmness = (firmness + change[:, 0].to(firmness)).clamp(-3, 16)
            smooth = whittaker_smooth(columns, firmness.exp(), period)
        return smooth.view(batch, -1, n).mT, apart

    def _predict(self, inputs: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            inputs = F.leaky_relu(layer(inputs), 0.1)
        return self.layers[-1](inputs)


def _network_inputs(displacement: Tensor, log_weights: Tensor, points: int, aspect: float) -> Tensor:
    """(B * 8, 3, points): how far each column is moved, the share of room that all use, and the weights so far.

    Of all frames in a point's stretch of time the one that is moved most counts: it is where the border would show.
    """
    batch, columns, n = displacement.shape
    together = margin_usage(displacement.mT, aspect)[:, None].expand(-1, columns, -1)
    largest = torch.stack([displacement.abs(), together], dim=2).view(batch * columns, 2, n)
    largest = F.adaptive_max_pool1d(largest, points)
    held = F.adaptive_avg_pool1d(log_weights.reshape(batch * columns, 1, n), points)
    return torch.cat([torch.log(largest.clamp(max=50.0) + 0.1), held / 4], dim=1).float()
