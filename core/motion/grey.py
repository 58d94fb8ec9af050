"""A grey frame, with what is worked out about it once and asked for by both pairs of neighbours that it belongs to.

All in numpy: these are many small operations. Shared out to threads, each would wait for the slowest, and threads that
wait burn a processor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..clip import ClipError
from ..opencv import optional_opencv

if TYPE_CHECKING:
    from torch import Tensor

Plane = NDArray[np.floating]  # (h, w), float32
Masks: TypeAlias = "Tensor | Callable[[int], Tensor]"  # (N or 1, H, W) in [0, 1], or the mask (H, W) of frame i

MARGIN = 4  # pixels around what a mask hides that are hidden too: slopes and the windows of flow reach out from there
KERNEL = np.array([1, 4, 6, 4, 1], np.float32) / 16  # the blur before slopes are taken


@dataclass(frozen=True, eq=False)
class Relief:
    """A frame at one size, a little blurred, and its most telling pixels: the steepest of each small square.

    layers: (h, w, 3) float32: brightness, and its change per pixel across and down.
    x, y: (P,) float32, places of the telling pixels from the centre; values: (3, P), the layers there.
    """

    layers: NDArray[np.float32]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    values: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Grey:
    """One frame as motion is measured on it.

    plane: (h, w) float32, brightness in [0, 1]. hidden: (h, w), True where not to look, or None.
    """

    plane: Plane
    hidden: NDArray[np.bool_] | None = None

    @staticmethod
    def of(frame: NDArray[np.floating] | Tensor, hidden: NDArray[np.bool_] | None = None) -> Grey:
        """From a grey frame (1, 1, h, w) in [0, 1]."""
        plane = np.asarray(frame[0, 0], np.float32)
        if not np.isfinite(plane.sum()):  # what comes from half precision may hold pixels that are no numbers
            plane = np.nan_to_num(plane, nan=0.0, posinf=1.0, neginf=0.0)
        return Grey(plane, hidden)

    @cached_property
    def bytes(self) -> NDArray[np.uint8]:
        """(h, w) in [0, 255], as OpenCV's trackers want it."""
        return np.rint(self.plane * 255).clip(0, 255).astype(np.uint8)

    @cached_property
    def half(self) -> Grey:
        """Means of 2 x 2 pixels; an odd last row or column is left out. Hidden is what is in part."""
        height, width = (n // 2 * 2 for n in self.plane.shape)
        quarters = [(slice(i, height, 2), slice(j, width, 2)) for i in (0, 1) for j in (0, 1)]
        plane = sum((self.plane[q] for q in quarters[1:]), self.plane[quarters[0]]) / 4
        hidden = self.hidden
        return Grey(plane, None if hidden is None else np.logical_or.reduce([hidden[q] for q in quarters]))

    @cached_property
    def coarse(self) -> Relief:
        """At half the size, with the steepest pixel of each 2 x 2."""
        return _relief(self.half, 2)

    @cached_property
    def fine(self) -> Relief:
        """At full size, with the steepest pixel of each 3 x 3."""
        return _relief(self, 3)


def hidden_by(mask: Masks | None, number: int, height: int, width: int) -> NDArray[np.bool_] | None:
    """(height, width): True where the mask of frame `number` has more than 0.5, and a little around it.

    Raises ClipError where there is no such mask.
    """
    if mask is None:
        return None
    import torch.nn.functional as F

    if callable(mask):
        one = mask(number)
    elif mask.ndim == 3 and (len(mask) == 1 or number < len(mask)):
        one = mask[0 if len(mask) == 1 else number]
    else:
        raise ClipError(f"frame {number} has no mask: a mask is (frames or 1, H, W), this one is {tuple(mask.shape)}")
    small = F.interpolate(one[None, None].float().cpu(), (height, width), mode="area")
    return F.max_pool2d(small, 2 * MARGIN + 1, stride=1, padding=MARGIN)[0, 0].numpy() > 0.5


def slope(plane: Plane) -> tuple[Plane, Plane]:
    """Change per pixel across and down."""
    cv2 = optional_opencv()
    if cv2 is not None:
        settings = {"ksize": 1, "scale": 0.5, "borderType": cv2.BORDER_REPLICATE}
        return cv2.Sobel(plane, -1, 1, 0, **settings), cv2.Sobel(plane, -1, 0, 1, **settings)
    p = np.pad(plane, 1, mode="edge")
    return (p[1:-1, 2:] - p[1:-1, :-2]) / 2, (p[2:, 1:-1] - p[:-2, 1:-1]) / 2


def _relief(grey: Grey, side: int) -> Relief:
    blurred = _blurred(grey.plane)
    dx, dy = slope(blurred)
    height, width = blurred.shape
    rows, columns = height // side, width // side
    steep = (dx * dx + dy * dy)[: rows * side, : columns * side]
    steepest = steep.reshape(rows, side, columns, side).transpose(0, 2, 1, 3).reshape(rows, columns, -1).argmax(axis=-1)
    row = (np.arange(rows)[:, None] * side + steepest // side).ravel()
    column = (np.arange(columns) * side + steepest % side).ravel()
    if grey.hidden is not None:
        seen = ~grey.hidden[row, column]
        row, column = row[seen], column[seen]
    layers = np.stack([blurred, dx, dy], axis=-1)
    return Relief(
        layers,
        column.astype(np.float32) + np.float32(0.5 - width / 2),
        row.astype(np.float32) + np.float32(0.5 - height / 2),
        layers.reshape(-1, 3).take(row * width + column, axis=0).T.copy(),
    )


def _blurred(plane: Plane) -> Plane:
    """A little smoother (1 4 6 4 1 both ways), so that the picture between two pixels is near the line between them."""
    cv2 = optional_opencv()
    if cv2 is not None:
        return cv2.sepFilter2D(plane, -1, KERNEL, KERNEL, borderType=cv2.BORDER_REPLICATE)
    p = np.pad(plane, 2, mode="edge")
    p = (p[:-4] + p[4:] + 4 * (p[1:-3] + p[3:-1]) + 6 * p[2:-2]) / 16
    return (p[:, :-4] + p[:, 4:] + 4 * (p[:, 1:-3] + p[:, 3:-1]) + 6 * p[:, 2:-2]) / 16
