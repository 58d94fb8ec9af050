"""What both ways of pass 2 share: what stands where a moved frame has no pixels, its zoom, the count of frames."""

from __future__ import annotations

from enum import Enum
from types import ModuleType

from ..clip import ClipError
from .trajectory import Correction
from .zoom import adaptive_zoom, apply_zoom, zoom_to_fill

FILL_RADIUS_FRAMES = 15  # frames before and after in which FILL looks; farther ones rarely fit any more


class Border(str, Enum):
    """What fills the places that the source does not reach."""

    CROP = "crop"
    CROP_ADAPTIVE = "crop-adaptive"
    FILL = "fill"
    MIRROR = "mirror"
    WRAP = "wrap"
    EDGE = "edge"
    BLACK = "black"


def with_border_zoom(correction: Correction, border: Border) -> Correction:
    """What `warp` really does to the frames: the correction, with the zoom that the border asks for.

    Raises ClipError where no zoom serves.
    """
    if border is Border.CROP:
        return apply_zoom(correction, zoom_to_fill(correction))
    return adaptive_zoom(correction) if border is Border.CROP_ADAPTIVE else correction


def opencv_border(cv2: ModuleType, border: Border) -> int:
    """By OpenCV's name. In a crop only the bicubic kernel reaches past the edge, by a pixel."""
    return {
        Border.FILL: cv2.BORDER_REFLECT,
        Border.MIRROR: cv2.BORDER_REFLECT,
        Border.WRAP: cv2.BORDER_WRAP,
        Border.BLACK: cv2.BORDER_CONSTANT,
    }.get(border, cv2.BORDER_REPLICATE)


def check_frame_count(done: int, count: int, *, ended: bool = False) -> None:
    """Raise ClipError where `done` frames of a clip, ended or not, cannot be the `count` of its correction."""
    if done > count:
        raise ClipError(
            f"the clip has more than the {count} frames whose motion was measured: measure and correct the same frames"
        )
    if ended and done < count:
        raise ClipError(
            f"the clip ended after {done} frames, but motion was measured for {count}: "
            "measure and correct the same frames"
        )
