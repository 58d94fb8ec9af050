"""What a smooth camera path costs, with nobody to say what the right one is: losses that need no labels.

Paths are (B, n, 8) as in models/path_net.py, in units of the room that the crop leaves; z is the smooth path, p the
measured one, C the map from a path to the frame's four corners, P the period in frames. Each loss is (B,), the mean
over frames and corners; the whole, of which `cost` is the mean over the batch, is

    L = (fidelity + temporal + l_crop crop + l_smooth smoothness) / (fidelity + temporal of the closed form)
        + l_cycle (reversal + mirrored).
"""

from __future__ import annotations

from torch import Tensor

from ....models.smoother.path_net import corner_displacements, margin_usage
from ....models.smoother.whittaker_layer import smoothing_penalty


def fidelity(smooth: Tensor, path: Tensor, aspect: float) -> Tensor:
    """mean |C (z - p)|^2: what is intended stays. Whittaker (1923), On a New Method of Graduation."""
    return corner_displacements(smooth - path, aspect).square().mean(dim=(1, 2))


def temporal(smooth: Tensor, period: float, aspect: float) -> Tensor:
    """s mean |C z''|^2 with s = (2 sin(pi / P))^-4: neighbouring corrected frames agree, up to even motion.

    The corners of a frame, warped to its neighbours by that motion, land where theirs are: the temporal loss of
    unsupervised stabilisers (Yu and Ramamoorthi 2020, Learning Video Stabilization Using Optical Flow), on paths. The
    factor makes a swing of period P cost as much to leave in as to take out.
    """
    return smoothing_penalty(period) * _mean_square(corner_displacements(smooth, aspect).diff(n=2, dim=1))


def smoothness(smooth: Tensor, period: float, aspect: float) -> Tensor:
    """s^1.5 mean |C z'''|^2: no jerks, which people see where a camera begins to follow (Grundmann et al. 2011)."""
    return smoothing_penalty(period) ** 1.5 * _mean_square(corner_displacements(smooth, aspect).diff(n=3, dim=1))


def crop_penalty(smooth: Tensor, path: Tensor, aspect: float) -> Tensor:
    """mean max(0, u - 1)^2 + max(0, u - 1), u being the share of the room that a frame's correction takes up.

    At u = 1 a corner of the crop stands at the edge of the source, as path/crop.py counts it: zoom = 1 / (1 - room).
    The second part is an exact penalty (Zangwill 1967): at some weight nothing is gained by going beyond at all.
    """
    beyond = (margin_usage(smooth - path, aspect) - 1).clamp_min(0)
    return (beyond.square() + beyond).mean(dim=1)


def reversal_consistency(forward: Tensor, backward: Tensor, aspect: float) -> Tensor:
    """mean |C (z - R z_R)|^2, z_R being made of the path filmed backwards and R turning it round: cycle-consistency."""
    return corner_displacements(forward - backward.flip(1), aspect).square().mean(dim=(1, 2))


def mirror_consistency(smooth: Tensor, mirrored: Tensor, aspect: float) -> Tensor:
    """mean |C (z - z_M)|^2, z_M being made of 2 z - p: cycle-consistency of what was taken out.

    Put on the other way round, the same shake has to be taken out again and leave the same path: applying a correction
    and inverting it leads back and not elsewhere.
    """
    return corner_displacements(smooth - mirrored, aspect).square().mean(dim=(1, 2))


def _mean_square(differences: Tensor) -> Tensor:
    """Over frames and corners; nought for paths too short to have any."""
    return differences.square().sum(dim=(1, 2)) / max(1, differences.shape[1] * differences.shape[2])
