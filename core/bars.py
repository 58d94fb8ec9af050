"""Letterbox and pillarbox bars of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from .clip import ClipError, ClipInfo


class BarDetection(str, Enum):
    """Where no bars are given."""

    AUTO = "auto"
    NONE = "none"


@dataclass(frozen=True)
class Bars:
    """The number of pixels that bars cover on each side of a frame.

    Raises ClipError for a negative number.
    """

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def __post_init__(self) -> None:
        for name, pixels in vars(self).items():
            if pixels < 0:
                raise ClipError(f"the bar at the {name} is {pixels} pixels wide; it is 0 or more")

    def __str__(self) -> str:
        return ", ".join(f"{name} {pixels}" for name, pixels in vars(self).items() if pixels)

    def active_info(self, info: ClipInfo) -> ClipInfo:
        """The properties of the area inside the bars.

        Raises ClipError if they leave less than 2 pixels.
        """
        width, height = info.width - self.left - self.right, info.height - self.top - self.bottom
        if width < 2 or height < 2:
            raise ClipError(f"bars ({self}) leave nothing of frames of {info.width}x{info.height}")
        return info.resized(width, height)

    def full_info(self, active: ClipInfo) -> ClipInfo:
        """The properties of the frame with its bars."""
        return active.resized(active.width + self.left + self.right, active.height + self.top + self.bottom)

    def scaled(self, scale_x: float, scale_y: float) -> Bars:
        """The bars of the frame at another size, to the nearest pixel."""
        return Bars(
            round(self.left * scale_x),
            round(self.top * scale_y),
            round(self.right * scale_x),
            round(self.bottom * scale_y),
        )

    def with_margin(self, pixels: int) -> Bars:
        """The bars, each that there is wider by some pixels."""
        return Bars(*(n + pixels if n else 0 for n in (self.left, self.top, self.right, self.bottom)))

    def area(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns inside the bars of a frame of this size."""
        return slice(self.top, height - self.bottom), slice(self.left, width - self.right)


class FirstBars(Bars):
    """Bars that were detected in the first frames of a clip.

    0 on all sides if there were none. Later shots may have others.
    """


NO_BARS = Bars()


def bar_sections(shots: Sequence[slice], shot_bars: Sequence[Bars]) -> list[tuple[slice, Bars]]:
    """Join consecutive shots with the same bars.

    Returns the frames of each section, and its bars. shot_bars: of each shot; `NO_BARS` for one without.
    """
    sections: list[tuple[slice, Bars]] = []
    for shot, bars in zip(shots, shot_bars, strict=True):
        if sections and sections[-1][1] == bars:
            sections[-1] = slice(sections[-1][0].start, shot.stop), bars
        else:
            sections.append((shot, bars))
    return sections
