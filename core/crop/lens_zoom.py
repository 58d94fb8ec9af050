"""The zoom that hides the border of frames that are corrected with a lens."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..path.ray_camera import RayCamera
from ..path.trajectory import Correction

Array = NDArray[np.float64]

SIDE_SAMPLES = (
    16  # points on each side of the source, which is a curve on the output; between them it is nearly straight
)


def lens_scales(correction: Correction, to_source: geometry.Matrices, rect: Array, margin: Array) -> Array:
    """Return the largest scale of the output that shows source pixels only: (n,).

    The scale is about the center; 0 if none does.
    to_source: (n, 3, 3), the inverse matrices. rect, margin: of these frames, see `zoom.visible_rect`.
    """
    assert correction.lens is not None
    camera, info = RayCamera(correction.lens, correction.info.width), correction.info
    half = np.array([max(info.width - 1, 0), max(info.height - 1, 0)]) / 2 + margin[:, None]  # (n or 1, 1, 2)
    n, regular = len(to_source), geometry.is_regular(to_source)
    views = np.where(regular[:, None, None], to_source, np.eye(3))
    outline = np.broadcast_to(_outline(rect), (n, 4 * SIDE_SAMPLES + 1, 2))
    center = np.zeros((n, 1, 2))
    if correction.distorts_rows:
        forward = geometry.inverse(views)
        curve, center = camera.transform(forward, outline), camera.transform_back(forward, center)
    else:
        curve, center = camera.transform_back(views, outline), camera.transform(views, center)
    is_inside = ((center[:, 0] >= rect[:, :2]) & (center[:, 0] <= rect[:, 2:])).all(axis=1)
    return np.where(regular & is_inside, _inner_scale(curve / half), 0.0)


def _outline(rect: Array) -> Array:
    """Return points on the sides of rectangles (n, 4), once around.

    (n, 4 SIDE_SAMPLES + 1, 2).
    """
    corners = rect[:, [[0, 1], [2, 1], [2, 3], [0, 3], [0, 1]]]  # (n, 5, 2)
    share = np.linspace(0, 1, SIDE_SAMPLES, endpoint=False)[:, None]
    sides = [a[:, None] * (1 - share) + b[:, None] * share for a, b in pairwise(np.moveaxis(corners, 1, 0))]
    return np.concatenate([*sides, corners[:, :1]], axis=1)


def _inner_scale(curve: Array) -> Array:
    """Return half the side of the largest square inside each polygon: (n,).

    curve: (n, P, 2), closed; squares are about the origin.
    """
    smallest = np.abs(curve).max(axis=-1).min(axis=-1)
    # A corner of the square may touch between two points: where the curve crosses a diagonal.
    for sign in (1, -1):
        across = curve[..., 0] - sign * curve[..., 1]
        crosses = across[:, :-1] * across[:, 1:] < 0
        share = across[:, :-1] / np.where(crosses, across[:, :-1] - across[:, 1:], 1)
        at = curve[:, :-1, 0] + share * (curve[:, 1:, 0] - curve[:, :-1, 0])
        smallest = np.minimum(smallest, np.where(crosses, np.abs(at), np.inf).min(axis=-1))
    return smallest
