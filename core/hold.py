"""Hold a part of the scene still: background, foreground, or a tracked region."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import isfinite
from typing import TYPE_CHECKING

from .clip import ClipError, ClipInfo

if TYPE_CHECKING:
    from torch import Tensor

MIN_REGION_SHARE = 0.02  # of the frame's longer side: a smaller subject shows too little to be tracked


class Hold(str, Enum):
    """The part of the scene that a stabilization holds still."""

    AUTO = "auto"
    BACKGROUND = "background"
    FOREGROUND = "foreground"
    REGION = "region"


@dataclass(frozen=True)
class Region:
    """A box around the subject to hold, in one frame.

    x, y: left and upper edge. width, height: size. All in pixels of the source, from the upper left corner. frame:
    number of the frame, from 0. Raises ClipError for a negative number or an empty box.
    """

    x: float
    y: float
    width: float
    height: float
    frame: int = 0

    def __post_init__(self) -> None:
        if not (self.x >= 0 and self.y >= 0 and self.width > 0 and self.height > 0 and self.frame >= 0):
            raise ClipError(
                f"the region {self} is no box in a frame: its left and upper edge and its frame are 0 or more, its "
                "width and height above 0"
            )

    @staticmethod
    def parse(text: str) -> Region:
        """Read "x,y,width,height" or "x,y,width,height,frame". Raises ClipError."""
        words = text.replace(" ", "").split(",")
        try:
            x, y, width, height = map(float, words[:4])
            (frame,) = map(int, words[4:] or ["0"])
            if not all(map(isfinite, (x, y, width, height))):
                raise ValueError
        except ValueError:
            raise ClipError(
                f"{text!r} is no region: give left, top, width and height in pixels, 300,120,96,140, and perhaps the "
                "frame, counted from 0: 300,120,96,140,25"
            ) from None
        return Region(x, y, width, height, frame)

    def __str__(self) -> str:
        return f"{self.x:g},{self.y:g},{self.width:g},{self.height:g},{self.frame}"

    def check(self, info: ClipInfo, count: int) -> None:
        """Raise ClipError for a box that is not in a clip of this size and length."""
        if self.x + self.width > info.width or self.y + self.height > info.height:
            raise ClipError(
                f"the region {self} is not inside frames of {info.width}x{info.height}: give left, top, width and "
                "height in pixels of the source"
            )
        if self.frame >= count:
            raise ClipError(f"the region is that of frame {self.frame}; the clip has frames 0 to {count - 1}")
        least = MIN_REGION_SHARE * max(info.width, info.height)
        if min(self.width, self.height) < least:
            raise ClipError(
                f"the region {self} is too small to be tracked: give a box of at least {least:.0f} pixels on each side"
            )


@dataclass(frozen=True, eq=False)
class RegionMask:
    """The subject to hold, as masks.

    masks: (N, H, W) in [0, 1], above 0.5 on the subject, of any size. One mask is that of the frame number `frame`;
    more are those of all frames, and empty where the subject is not seen.
    """

    masks: Tensor
    frame: int = 0

    def __post_init__(self) -> None:
        if self.frame < 0:
            raise ClipError(f"the region is that of frame {self.frame}; frames are counted from 0")

    def check(self, count: int) -> None:
        """Raise ClipError for masks that do not suit a clip of so many frames."""
        if self.masks.ndim != 3 or len(self.masks) not in (1, count):
            raise ClipError(
                f"the clip has {count} frames, the region's mask has the shape {tuple(self.masks.shape)}: give one "
                "mask (H, W) for each frame, or only one"
            )
        if len(self.masks) == 1 and self.frame >= count:
            raise ClipError(f"the region is that of frame {self.frame}; the clip has frames 0 to {count - 1}")
        if not bool((self.masks > 0.5).any()):
            raise ClipError("the region's mask is empty: paint the subject white")
