"""A luma frame with cached derived data.

The data are the uint8 plane, the half size and gradient levels.

Each frame belongs to two pairs of neighbors; what both need is computed once. All operations are small, so they run in
NumPy: spread over threads, each would wait for the slowest, and waiting threads occupy a core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from ...clip import ClipError
from ...runtime.optional_cv2 import optional_opencv

if TYPE_CHECKING:
    from torch import Tensor

Plane = NDArray[np.floating[Any]]  # (h, w), float32
Masks: TypeAlias = "Tensor | Callable[[int], Tensor] | NDArray[np.bool_]"
"""(N or 1, H, W) in [0, 1], the mask (H, W) of frame i, or a bool array (1, H, W) for all frames."""

MASK_MARGIN_PIXELS = 4  # margin around a mask that is ignored too: gradients and flow windows extend beyond a pixel
BLUR_KERNEL = np.array([1, 4, 6, 4, 1], np.float32) / 16  # applied before the gradient
CONTRAST_PIXELS = 6.0  # standard deviation of the window in which `even_light` equalizes brightness and contrast
CONTRAST = 0.2  # standard deviation of luma in that window, afterwards
FLAT_DEVIATION = 0.02  # standard deviation of luma below which there is little but noise to enhance


@dataclass(frozen=True, eq=False)
class GradientLevel:
    """A blurred frame at one size, with gradients and selected pixels.

    The selected pixels are those of largest gradient in each cell.

    layers: (h, w, 3) float32: luma, and its derivatives along x and y per pixel.
    x, y: (P,) float32, positions of the selected pixels from the center; values: (3, P), the layers there.
    """

    layers: NDArray[np.float32]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    values: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class GrayFrame:
    """A luma frame for motion estimation.

    plane: (h, w) float32 in [0, 1]. ignore_mask: (h, w), True where the frame is ignored, or None.
    """

    plane: Plane
    ignore_mask: NDArray[np.bool_] | None = None

    @staticmethod
    def of(frame: NDArray[np.floating[Any]] | Tensor, ignore_mask: NDArray[np.bool_] | None = None) -> GrayFrame:
        """Create from luma (1, 1, h, w) in [0, 1]."""
        plane = np.asarray(frame[0, 0], np.float32)
        if not np.isfinite(plane.sum()):  # frames from half precision may contain NaN or infinity
            plane = np.nan_to_num(plane, nan=0.0, posinf=1.0, neginf=0.0)
        return GrayFrame(plane, ignore_mask)

    @cached_property
    def plane_uint8(self) -> NDArray[np.uint8]:
        """(h, w) in [0, 255], the input of OpenCV's trackers."""
        return np.rint(self.plane * 255).clip(0, 255).astype(np.uint8)

    @cached_property
    def half(self) -> GrayFrame:
        """The frame in half size: means of 2 x 2 pixels.

        An odd last row or column is dropped. Pixels are ignored where one of the 4 is.
        """
        height, width = (n // 2 * 2 for n in self.plane.shape)
        quarters = [(slice(i, height, 2), slice(j, width, 2)) for i in (0, 1) for j in (0, 1)]
        plane = sum((self.plane[q] for q in quarters[1:]), self.plane[quarters[0]]) / 4
        mask = self.ignore_mask
        return GrayFrame(plane, None if mask is None else np.logical_or.reduce([mask[q] for q in quarters]))

    @cached_property
    def even_light(self) -> GrayFrame:
        """The frame with the same mean and contrast everywhere, as under even light.

        Without OpenCV, the frame itself.

        Bands of mains light that run through the frame, colored lamps and moving shadows change the luma of what they
        light, and would be taken for motion.
        """
        cv2 = optional_opencv()
        if cv2 is None:
            return self

        def local_mean(plane: Plane) -> Plane:
            return cv2.GaussianBlur(plane, (0, 0), CONTRAST_PIXELS, borderType=cv2.BORDER_REFLECT_101)

        centered = self.plane - local_mean(self.plane)
        deviation = np.sqrt(local_mean(centered * centered))
        plane = np.float32(0.5) + np.float32(CONTRAST) * centered / (deviation + np.float32(FLAT_DEVIATION))
        return GrayFrame(plane.clip(0, 1), self.ignore_mask)

    @cached_property
    def coarse(self) -> GradientLevel:
        """Gradient level of the half size, one pixel of each 2 x 2."""
        return _gradient_level(self.half, 2)

    @cached_property
    def fine(self) -> GradientLevel:
        """Gradient level of the full size, one pixel of each 3 x 3."""
        return _gradient_level(self, 3)


def mask_of(mask: Masks | None, number: int, height: int, width: int) -> NDArray[np.bool_] | None:
    """Return the mask of frame `number` as (height, width) bool.

    It is True where the mask exceeds 0.5, and in a margin around; None without masks. A bool array is taken as it is,
    without a margin. Raises ClipError if there is no
    such mask.
    """
    if mask is None:
        return None
    if isinstance(mask, np.ndarray):
        pixels = cast("NDArray[np.bool_]", mask)[0]
        rows, columns = (np.arange(n) * m // n for n, m in zip((height, width), pixels.shape, strict=True))
        return pixels[rows[:, None], columns]
    import torch.nn.functional as F

    if callable(mask):
        one = mask(number)
    elif mask.ndim == 3 and (len(mask) == 1 or number < len(mask)):
        one = mask[0 if len(mask) == 1 else number]
    else:
        raise ClipError(f"frame {number} has no mask: a mask is (frames or 1, H, W), this one is {tuple(mask.shape)}")
    small = F.interpolate(one[None, None].float().cpu(), (height, width), mode="area")
    return F.max_pool2d(small, 2 * MASK_MARGIN_PIXELS + 1, stride=1, padding=MASK_MARGIN_PIXELS)[0, 0].numpy() > 0.5


def gradient(plane: Plane) -> tuple[Plane, Plane]:
    """Derivatives along x and y, per pixel."""
    cv2 = optional_opencv()
    if cv2 is not None:
        settings = {"ksize": 1, "scale": 0.5, "borderType": cv2.BORDER_REPLICATE}
        return cv2.Sobel(plane, -1, 1, 0, **settings), cv2.Sobel(plane, -1, 0, 1, **settings)
    p = np.pad(plane, 1, mode="edge")
    return (p[1:-1, 2:] - p[1:-1, :-2]) / 2, (p[2:, 1:-1] - p[:-2, 1:-1]) / 2


def _gradient_level(gray: GrayFrame, cell: int) -> GradientLevel:
    blurred = _blur(gray.plane)
    dx, dy = gradient(blurred)
    height, width = blurred.shape
    rows, columns = height // cell, width // cell
    power = (dx * dx + dy * dy)[: rows * cell, : columns * cell]
    best = power.reshape(rows, cell, columns, cell).transpose(0, 2, 1, 3).reshape(rows, columns, cell * cell)
    best = best.argmax(axis=-1)
    row = (np.arange(rows, dtype=np.int_)[:, None] * cell + best // cell).ravel()
    column = (np.arange(columns, dtype=np.int_) * cell + best % cell).ravel()
    if gray.ignore_mask is not None:
        valid = ~gray.ignore_mask[row, column]
        row, column = row[valid], column[valid]
    pixels: NDArray[np.intp] = row * width + column
    layers = np.stack([blurred, dx, dy], axis=-1)
    return GradientLevel(
        layers,
        column.astype(np.float32) + np.float32(0.5 - width / 2),
        row.astype(np.float32) + np.float32(0.5 - height / 2),
        layers.reshape(-1, 3).take(pixels, axis=0).T.copy(),
    )


def _blur(plane: Plane) -> Plane:
    """Filter with (1, 4, 6, 4, 1) / 16 along both axes.

    After that, linear interpolation between pixels is accurate.
    """
    cv2 = optional_opencv()
    if cv2 is not None:
        return cv2.sepFilter2D(plane, -1, BLUR_KERNEL, BLUR_KERNEL, borderType=cv2.BORDER_REPLICATE)
    p = np.pad(plane, 2, mode="edge")
    p = (p[:-4] + p[4:] + 4 * (p[1:-3] + p[3:-1]) + 6 * p[2:-2]) / 16
    return (p[:, :-4] + p[:, 4:] + 4 * (p[:, 1:-3] + p[:, 3:-1]) + 6 * p[:, 2:-2]) / 16
