"""Border modes, and the checks and zooms that all warps share."""

from __future__ import annotations

from enum import Enum

import numpy as np
from numpy.typing import NDArray

from ..clip import ClipError
from ..path.trajectory import Correction
from .zoom import adaptive_zoom, apply_zoom, zoom_to_fill

FILL_RADIUS_FRAMES = 15  # frames before and after that FILL uses; the content of farther ones rarely matches


class Border(str, Enum):
    """How pixels outside the source frame are filled.

    A member is its value, the mode of `cv2.remap` and the padding mode of torch's `grid_sample`. In a crop only the
    bicubic kernel extends past the edge, by a pixel.
    """

    CROP = "crop", "BORDER_REPLICATE", "border"
    CROP_ADAPTIVE = "crop-adaptive", "BORDER_REPLICATE", "border"
    FILL = "fill", "BORDER_REFLECT", "reflection"
    MIRROR = "mirror", "BORDER_REFLECT", "reflection"
    WRAP = "wrap", "BORDER_WRAP", "border"  # grid_sample has no such mode: see warping/remap.py
    EDGE = "edge", "BORDER_REPLICATE", "border"
    BLACK = "black", "BORDER_CONSTANT", "zeros"

    opencv_mode: str
    torch_mode: str

    def __new__(cls, value: str, opencv_mode: str, torch_mode: str) -> Border:
        member = str.__new__(cls, value)
        member._value_, member.opencv_mode, member.torch_mode = value, opencv_mode, torch_mode
        return member


def with_border_zoom(correction: Correction, border: Border) -> Correction:
    """The correction that `warp` applies: with the zoom of the border.

    Raises ClipError if the zoom would exceed `MAX_ZOOM`.
    """
    if border is Border.CROP:
        return apply_zoom(correction, zoom_to_fill(correction))
    return adaptive_zoom(correction) if border is Border.CROP_ADAPTIVE else correction


def border_zooms(correction: Correction, border: Border) -> NDArray[np.float64]:
    """Return the magnification of each frame by the border, (N,); 1 unless it crops.

    Raises ClipError as `with_border_zoom` does.
    """
    before, after = (
        np.linalg.norm(fix.matrices[:, 0], axis=1) for fix in (correction, with_border_zoom(correction, border))
    )
    return after / before


def check_frame_count(done: int, count: int, *, ended: bool = False) -> None:
    """Raise ClipError if the number of frames does not match that of a correction.

    done: frames so far, or all frames if `ended`; count: frames of the correction.
    """
    if done > count:
        raise ClipError(
            f"the clip has more than the {count} frames whose motion was measured: measure and correct the same frames"
        )
    if ended and done < count:
        raise ClipError(
            f"the clip ended after {done} frames, but motion was measured for {count}: "
            "measure and correct the same frames"
        )
