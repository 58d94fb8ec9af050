"""A correction used the other way round: a shake put back, or one clip's shake or whole move given to other frames."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from math import hypot

import numpy as np

from .. import geometry
from ..clip import ClipError, ClipInfo
from .border import Border, with_border_zoom
from .trajectory import Correction, inverse


class TransferMode(str, Enum):
    """What of a correction is given to frames."""

    UNDO = "undo"
    SHAKE = "shake"
    MOVE = "move"


def undo(correction: Correction, border: Border = Border.CROP, pad: int = 0) -> Correction:
    """What carries warped frames back to where they were shot: the exact inverse of what `warp` did to them.

    border, pad: what `warp` was called with. The zoom of a crop is undone as well; what it cut away is for the next
    border to fill. The result is for the padded frames: warp them with it and a pad of `-pad`, which takes it off
    again. What was stabilised with a pad wider than the shake comes back whole.
    """
    info = correction.info
    return replace(
        inverse(with_border_zoom(correction, border)), info=info.resized(info.width + 2 * pad, info.height + 2 * pad)
    )


def transfer(
    correction: Correction, info: ClipInfo, frame_count: int, mode: TransferMode = TransferMode.SHAKE
) -> Correction:
    """Another clip's motion for frames of the size in `info`: `Apply.SHAKE`, or `Apply.MOVE`, pans and all.

    SHAKE: what the correction would have taken away. MOVE: the camera's whole way, from the first frame's view on.
    The motion is as large in proportion to the frame's diagonal as it was. As many frames as the clip that was measured
    has take it one by one, cuts and all; any other number takes the longest shot's, forwards and backwards in turn, so
    that it never jumps.
    Raises ClipError for MOVE where the correction does not know the camera's way.
    """
    if mode is TransferMode.UNDO:
        raise ValueError("undo is no transfer: use undo()")
    if mode is TransferMode.SHAKE:
        matrices = inverse(correction).matrices
    elif correction.poses is None:
        raise ClipError(
            "this correction does not say which way the camera went: make it with correction(measured, wanted), or add "
            "the shake alone"
        )
    else:
        matrices = geometry.normalize(geometry.inverse(correction.poses))
    shots = correction.shots
    if frame_count != len(matrices):
        shot = max(shots, key=lambda s: s.stop - s.start)
        forth = np.arange(shot.start, shot.stop)
        matrices = matrices[np.resize(np.concatenate([forth, forth[-2:0:-1]]), frame_count)]
        shots = [slice(0, frame_count)]
    factor = hypot(info.width, info.height) / hypot(correction.info.width, correction.info.height)
    return Correction(geometry.rescale(matrices, factor, factor), shots, replace(info, length=frame_count))
