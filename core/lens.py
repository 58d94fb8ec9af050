"""Radial lens model, and a table of lenses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from .clip import ClipError

Array = NDArray[np.float64]

MIN_FOV, MAX_FOV = 1.0, 300.0  # degrees
NEWTON_STEPS = 6  # from radius to angle: each squares the error


class LensDetection(str, Enum):
    """Choices in place of a lens: detect one, or none."""

    AUTO = "auto"
    OFF = "off"


@dataclass(frozen=True)
class Lens:
    """A lens with a radial projection, after Kannala and Brandt (2006).

    A ray at the angle t from the axis (radians) is imaged focal * (t + k1 t^3 + k2 t^5 + ...) pixels from the center.

    fov: horizontal field of view in degrees, of the frame without its bars; 1 to 300. coefficients: k1, k2, ...; none
    for an equidistant lens, the usual fisheye.
    Raises ClipError for a field of view outside its range, and where the projection does not grow up to its edge.
    """

    fov: float
    coefficients: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not MIN_FOV <= self.fov <= MAX_FOV:
            raise ClipError(f"the field of view is {self.fov} degrees; it goes from {MIN_FOV:g} to {MAX_FOV:g}")
        if not (self._slope(np.linspace(0, math.radians(self.fov / 2), 32)) > 0).all():
            raise ClipError(f"the lens coefficients {self.coefficients} do not suit a view of {self.fov:g} degrees")

    def focal(self, width: float) -> float:
        """Pixels per radian at the center of frames of this width."""
        return width / 2 / float(self.radius(np.array(np.radians(self.fov / 2))))

    def radius(self, angle: Array) -> Array:
        """The distance from the center, in focal lengths, at which a ray is imaged.

        angle: from the axis, 0 to pi.
        """
        square, factor = angle**2, np.ones_like(angle)
        power = square
        for k in self.coefficients:
            factor, power = factor + k * power, power * square
        return angle * factor

    def angle(self, radius: Array) -> Array:
        """The inverse of `radius`; limited to where the projection grows, and to pi."""
        if not self.coefficients:
            return np.minimum(radius, np.pi)
        limit = self._max_angle()
        angle = np.minimum(radius, limit)
        for _ in range(NEWTON_STEPS):
            slope = np.maximum(self._slope(angle), 0.05)
            angle = np.clip(angle - (self.radius(angle) - radius) / slope, 0, limit)
        return angle

    def _slope(self, angle: Array) -> Array:
        square, slope = angle**2, np.ones_like(angle)
        power = square
        for i, k in enumerate(self.coefficients):
            slope, power = slope + (2 * i + 3) * k * power, power * square
        return slope

    def _max_angle(self) -> float:
        angles = np.linspace(0, np.pi, 361)
        falling = self._slope(angles) <= 0.05
        return float(angles[max(0, int(falling.argmax()) - 1)]) if falling.any() else np.pi


# Calibrations published at https://github.com/gyroflow/lens_profiles, without in-camera stabilization:
# "GoPro_HERO10 Black_Wide_16by9" (HERO11 has the same numbers), "GoPro_HERO10 Black_Wide_4by3" and "DJI_Air Unit_DJI
# 2.1 mm, f2.1_Wide_1080p_16by9". The fields of view follow from their focal lengths.
LENSES = {
    "gopro-wide": Lens(115.63, (0.034213889574164644, 0.06767320765357862, -0.07408969996955275, 0.029944425249175583)),
    "gopro-wide-4x3": Lens(
        120.63, (0.032857643499943856, 0.05573728082764548, -0.038398907176739244, 0.006864853954539248)
    ),
    "dji-air-unit": Lens(
        118.57, (0.022720184113116316, 0.02418359717145186, -0.04905559099281671, 0.05073274293101314)
    ),
}
"""Lenses by name: those of action cameras that record what the lens images."""


def parse_lens(value: LensDetection | Lens | float | str) -> LensDetection | Lens:
    """Convert a setting to a lens, or to a `LensDetection`.

    value: either of them, the value of a `LensDetection`, the name of a lens, or a horizontal field of view in degrees.
    Raises ClipError for another word or number.
    """
    if isinstance(value, (LensDetection, Lens)):
        return value
    if isinstance(value, str) and value in LENSES:
        return LENSES[value]
    if isinstance(value, str) and value in list(LensDetection):
        return LensDetection(value)
    try:
        return Lens(float(value))
    except ValueError as error:
        names = ", ".join([*LensDetection, *LENSES])
        raise ClipError(f"{value!r} is no lens; use {names}, or a horizontal field of view in degrees") from error
