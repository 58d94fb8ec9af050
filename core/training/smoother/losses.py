"""Unsupervised losses of smoothed camera paths.

Paths are (B, n, 8) as in models/smoother/path_net.py, in units of the crop margin; z is the smoothed path, p the
measured one, C the map from a pose to the four corners of the frame, P the period in frames. Each loss is (B,), the
mean over frames and corners. The total is

    L = mean log((fidelity + temporal + l_crop crop + l_smooth smoothness) / (fidelity + temporal of Whittaker's path))
        + l_cycle (reversal + mirrored),

where the reversal loss is that of `PathNet.smooth_bidirectional`.
"""

from __future__ import annotations

from torch import Tensor

from ....models.smoother.path_net import corner_displacements, margin_usage
from ....models.smoother.whittaker_layer import smoothing_penalty


def fidelity(smooth: Tensor, path: Tensor, aspect: float) -> Tensor:
    """mean |C (z - p)|^2: stay close to the measured path.

    Whittaker (1923), On a New Method of Graduation.
    """
    return corner_displacements(smooth - path, aspect).square().mean(dim=(1, 2))


def temporal(smooth: Tensor, period: float, aspect: float) -> Tensor:
    """s mean |C z''|^2 with s = (2 sin(pi / P))^-4: penalize acceleration.

    This is the temporal loss of unsupervised stabilizers (Yu and Ramamoorthi 2020, Learning Video Stabilization Using
    Optical Flow), applied to paths: the corners of a frame, warped by uniform motion, coincide with those of its
    neighbors. With the factor s an oscillation of period P costs the same whether it is kept or removed.
    """
    return smoothing_penalty(period) * _mean_square(corner_displacements(smooth, aspect).diff(n=2, dim=1))


def smoothness(smooth: Tensor, period: float, aspect: float) -> Tensor:
    """s^1.5 mean |C z'''|^2: penalize jerk.

    It is visible where the camera starts to follow (Grundmann et al. 2011).
    """
    return smoothing_penalty(period) ** 1.5 * _mean_square(corner_displacements(smooth, aspect).diff(n=3, dim=1))


def crop_penalty(smooth: Tensor, path: Tensor, aspect: float) -> Tensor:
    """mean max(0, u - 1)^2 + max(0, u - 1): penalize corrections beyond the crop.

    u is the fraction of the crop margin that a correction uses. At u = 1 a corner of the crop touches the edge of the
    source frame. The linear part is an exact penalty (Zangwill 1967): above a certain weight, exceeding the margin
    never pays.
    """
    excess = (margin_usage(smooth - path, aspect) - 1).clamp_min(0)
    return (excess.square() + excess).mean(dim=1)


def mirror_consistency(smooth: Tensor, mirrored: Tensor, aspect: float) -> Tensor:
    """mean |C (z - z_M)|^2: cycle consistency of the removed shake.

    z_M is the smoothed path of 2 z - p. With the shake inverted, smoothing must give the same path again.
    """
    return corner_displacements(smooth - mirrored, aspect).square().mean(dim=(1, 2))


def _mean_square(differences: Tensor) -> Tensor:
    """Mean over frames and corners; 0 for paths too short to have differences."""
    return differences.square().sum(dim=(1, 2)) / max(1, differences.shape[1] * differences.shape[2])
