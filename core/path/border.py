"""Border modes, and what all warps share: the zoom of a border and the check of the frame count."""

from __future__ import annotations

from enum import Enum
from types import ModuleType

from ..clip import ClipError
from .trajectory import Correction
from .zoom import adaptive_zoom, apply_zoom, zoom_to_fill

FILL_RADIUS_FRAMES = 15  # frames before and after that FILL uses; the content of farther ones rarely matches


class Border(str, Enum):
    """How pixels outside the source frame are filled."""

    CROP = "crop"
    CROP_ADAPTIVE = "crop-adaptive"
    FILL = "fill"
    MIRROR = "mirror"
    WRAP = "wrap"
    EDGE = "edge"
    BLACK = "black"


def with_border_zoom(correction: Correction, border: Border) -> Correction:
    """The correction that `warp` applies: with the zoom of the border.

    Raises ClipError if the zoom would exceed `MAX_ZOOM`.
    """
    if border is Border.CROP:
        return apply_zoom(correction, zoom_to_fill(correction))
    return adaptive_zoom(correction) if border is Border.CROP_ADAPTIVE else correction


def opencv_border(cv2: ModuleType, border: Border) -> int:
    """The border mode of `cv2.remap`. In a crop only the bicubic kernel extends past the edge, by a pixel."""
    return {
        Border.FILL: cv2.BORDER_REFLECT,
        Border.MIRROR: cv2.BORDER_REFLECT,
        Border.WRAP: cv2.BORDER_WRAP,
        Border.BLACK: cv2.BORDER_CONSTANT,
    }.get(border, cv2.BORDER_REPLICATE)


def check_frame_count(done: int, count: int, *, ended: bool = False) -> None:
    """Raise ClipError if `done` frames, or all frames if `ended`, do not match the `count` of a correction."""
    if done > count:
        raise ClipError(
            f"the clip has more than the {count} frames whose motion was measured: measure and correct the same frames"
        )
    if ended and done < count:
        raise ClipError(
            f"the clip ended after {done} frames, but motion was measured for {count}: "
            "measure and correct the same frames"
        )
