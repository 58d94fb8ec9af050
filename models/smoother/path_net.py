"""The network that smooths camera paths offline.

It predicts the per-frame weights of a Whittaker smoother. A path is smoothed by weighted least squares
(whittaker_layer.py). A small temporal convolution reads how far the result deviates from the path in units of the crop
margin, and raises the weights of the frames that deviate too far; this is iterated three times. So the path is smoothed
as far as the margin allows and follows the camera only where it must, which a filter with fixed weights cannot do. It
fails gracefully: with any weights, constant velocity is preserved. Training needs no labels
(core/training/smoother/trainer.py), because the best path is defined by its cost only.

Paths are (B, n, 8) tangents: x, y, angle, log_zoom, two of shear, two of perspective, as in core's geometry, but in
units of the margin: 1 moves an edge of the frame as far as the crop can hide.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .whittaker_layer import whittaker_smooth

POINTS_PER_PERIOD = 16  # time steps of the convolution: its input does not depend on frame rate and period
NUM_ITERATIONS = 3
UNLIMITED_MARGIN = 1e3  # in half frames, without a crop


def crop_margin(max_zoom: float | None) -> float:
    """How far an edge may move before the crop shows it, in half frames.

    max_zoom: None for no crop.
    """
    return UNLIMITED_MARGIN if max_zoom is None else max(1 - 1 / max_zoom, 1e-4)


def tangent_scale(width: float, height: float, margin: float) -> Tensor:
    """(8,): factors from tangents in pixels and radians to units of the margin."""
    long = max(width / height, height / width)
    factors = [2 / width, 2 / height, long, 1, 1, long, width / 2, height / 2]
    return torch.tensor(factors, dtype=torch.float64) / margin


def corner_displacements(path: Tensor, aspect: float) -> Tensor:
    """Displacements of the frame's four corners, x and y in turn.

    (..., 8) tangents -> (..., 8), both in units of the margin. First order; 1 is the edge of what the crop hides.
    aspect: width over height.
    """
    return path @ corner_jacobian(aspect).to(path).T


def corner_jacobian(aspect: float) -> Tensor:
    """(8, 8): x and y of the corners in turn, for each of the tangents."""
    long = max(aspect, 1 / aspect)
    rows: list[list[float]] = []
    for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        across, down = y / (aspect * long), x * aspect / long  # displacement of the corner by a rotation
        rows.append([1, 0, -across, x, x, across, -x * x, -x * y])
        rows.append([0, 1, down, y, -y, down, -x * y, -y * y])
    return torch.tensor(rows, dtype=torch.float64)


def margin_usage(correction: Tensor, aspect: float) -> Tensor:
    """Share of the margin that a correction uses, (..., 8) -> (...).

    Above 1 the border is visible.
    """
    return corner_displacements(correction, aspect).abs().amax(dim=-1)


class PathNet(nn.Module):
    """Smooth paths (B, n, 8) in units of the margin, float64.

    Any length from 1 frame on. With zero weights it is the Whittaker smoother that halves an oscillation of `period`
    frames.
    features: hidden channels.
    """

    def __init__(self, features: int = 24) -> None:
        super().__init__()
        shapes = ((3, features, 1), (features, features, 2), (features, features, 4), (features, 1, 1))
        convs = [
            nn.Conv1d(inputs, outputs, 5, dilation=dilation, padding=2 * dilation, padding_mode="replicate")
            for inputs, outputs, dilation in shapes
        ]
        for parameter in convs[-1].parameters():
            nn.init.zeros_(parameter)
        self.layers = nn.ModuleList(convs)

    def forward(self, path: Tensor, period: float, aspect: float) -> Tensor:
        return self.smooth_bidirectional(path, period, aspect)[0]

    def smooth_bidirectional(self, path: Tensor, period: float, aspect: float) -> tuple[Tensor, Tensor]:
        """The smooth path, and the asymmetry of the predictions in time.

        The asymmetry is the mean square difference between forward and time-reversed predictions. Their mean is used,
        so that smoothing commutes with time reversal.
        """
        batch, n, _ = path.shape
        columns = path.mT.reshape(-1, n)
        log_weights = torch.zeros_like(columns)
        smooth, asymmetry = whittaker_smooth(columns, log_weights.exp(), period), path.new_zeros(())
        points = max(1, round(POINTS_PER_PERIOD * n / max(period, 2.0)))
        for _ in range(NUM_ITERATIONS):
            displacement = (smooth - columns).view(batch, -1, n)
            inputs = _network_inputs(displacement, log_weights.view(batch, -1, n), points, aspect)
            forward = self._predict(inputs)
            backward = self._predict(inputs.flip(-1)).flip(-1)
            asymmetry = asymmetry + (forward - backward).square().mean()
            change = F.interpolate((forward + backward) / 2, size=n, mode="linear", align_corners=False)
            log_weights = (log_weights + change[:, 0].to(log_weights)).clamp(-3, 16)
            smooth = whittaker_smooth(columns, log_weights.exp(), period)
        return smooth.view(batch, -1, n).mT, asymmetry

    def _predict(self, inputs: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            inputs = F.leaky_relu(layer(inputs), 0.1)
        return self.layers[-1](inputs)


def _network_inputs(displacement: Tensor, log_weights: Tensor, points: int, aspect: float) -> Tensor:
    """(B * 8, 3, points): displacement, margin usage and current weights.

    For displacements the maximum over a point's frames counts, because that is where the border would be visible.
    """
    batch, columns, n = displacement.shape
    usage = margin_usage(displacement.mT, aspect)[:, None].expand(-1, columns, -1)
    largest = torch.stack([displacement.abs(), usage], dim=2).view(batch * columns, 2, n)
    largest = F.adaptive_max_pool1d(largest, points)
    weights = F.adaptive_avg_pool1d(log_weights.reshape(batch * columns, 1, n), points)
    return torch.cat([torch.log(largest.clamp(max=50.0) + 0.1), weights / 4], dim=1).float()
