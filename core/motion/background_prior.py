"""Where the camera's motion was seen so far: a subject that grows or comes close does not become the camera.

Of two motions in a picture, neither is the camera's by itself; most of the frame is a guess, and where both have about
half, each frame would guess anew and the picture would leap between them. What was background a moment ago most likely
still is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from .correspondences import Correspondences

Followers = NDArray[np.float64]  # (9, 16): of each part of the frame, how much of it followed the camera, in [0, 1]

EVERYWHERE: Followers = np.ones((9, 16))
MEMORY = 0.7  # how much of what was known is kept at each frame: half is forgotten after two, nearly all after ten
DOUBT = 0.3  # weight that is left to a part which never followed, for it may be uncovered background
NEAR = 0.5  # pixels between a point and the camera's motion at which it is taken to follow by half


def at(followers: Followers, x: NDArray, y: NDArray, height: int, width: int) -> NDArray[np.float64]:
    """What is known of places x, y (P,) in pixels from the centre of a frame of that size: (P,) in [0, 1]."""
    return followers.ravel()[_parts(x, y, height, width)]


def weighted(found: Correspondences, followers: Followers, height: int, width: int) -> Correspondences:
    """The same points, those where the camera was not followed weighing less. They lie in a frame of that size."""
    known = at(followers, found.points[:, 0], found.points[:, 1], height, width)
    return found._replace(weights=found.weights * (DOUBT + known))


def updated(
    followers: Followers, found: Correspondences, step: geometry.Matrices, height: int, width: int
) -> Followers:
    """What is known after the camera has done `step` and points were found to move. Parts without points stay."""
    parts = _parts(found.points[:, 0], found.points[:, 1], height, width)
    off = np.square(geometry.apply(step, found.points) - found.moved).sum(axis=-1)
    follow = np.bincount(parts, found.weights / (1 + off / NEAR**2), followers.size)
    heard = np.bincount(parts, found.weights, followers.size)
    now = np.where(heard > 0, follow / np.where(heard > 0, heard, 1), followers.ravel())
    return MEMORY * followers + (1 - MEMORY) * now.reshape(followers.shape)


def _parts(x: NDArray, y: NDArray, height: int, width: int) -> NDArray[np.intp]:
    """(P,): the number of the part in which each place lies."""
    rows, columns = EVERYWHERE.shape
    row = ((y / height + 0.5) * rows).astype(np.intp).clip(0, rows - 1)
    column = ((x / width + 0.5) * columns).astype(np.intp).clip(0, columns - 1)
    return row * columns + column
