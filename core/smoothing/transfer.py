"""Motion transfer.

Restores the shake of stabilized frames, or transfers the motion of one clip to other frames.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from math import hypot

import numpy as np

from .. import geometry
from ..clip import ClipError, ClipInfo
from ..crop.border import Border, with_border_zoom
from ..path.trajectory import Correction, inverse


class TransferMode(str, Enum):
    """Which part of the camera motion is applied to frames."""

    UNDO = "undo"
    SHAKE = "shake"
    MOVE = "move"


def undo(correction: Correction, border: Border = Border.CROP, pad: int = 0) -> Correction:
    """The exact inverse of what `warp` did with a correction.

    border, pad: the arguments of `warp`. The zoom of a crop is inverted as well; the next border fills the rest.
    The result is for the padded frames: warp them with it and a pad of `-pad`, which removes the padding. With a pad
    larger than the shake no pixels are lost.
    """
    info = correction.info
    return replace(
        inverse(with_border_zoom(correction, border)), info=info.resized(info.width + 2 * pad, info.height + 2 * pad)
    )


def transfer(
    correction: Correction, info: ClipInfo, frame_count: int, mode: TransferMode = TransferMode.SHAKE
) -> Correction:
    """Another clip's motion for `frame_count` frames of the size in `info`.

    SHAKE: the motion that the correction removes. MOVE: the complete camera path, relative to the first frame's view.
    The motion is scaled by the frame diagonal. If the frame count is that of the measured clip, motion is assigned
    frame by frame, with its cuts; otherwise the longest shot is used, forwards and backwards in turn, without jumps.
    Raises ClipError for MOVE if the correction has no poses.
    """
    if mode is TransferMode.UNDO:
        raise ValueError("undo is not a transfer: use undo()")
    if mode is TransferMode.SHAKE:
        matrices = inverse(correction).matrices
    elif correction.poses is None:
        raise ClipError(
            "this correction does not contain the camera path: create it with correction(measured, wanted), or add "
            "the shake alone"
        )
    else:
        matrices = geometry.normalize(geometry.inverse(correction.poses))
    shots, times = correction.shots, correction.times
    if frame_count != len(matrices):
        shot = max(shots, key=lambda s: s.stop - s.start)
        forward = np.arange(shot.start, shot.stop, dtype=np.intp)
        matrices = matrices[np.resize(np.concatenate([forward, forward[-2:0:-1]]), frame_count)]
        shots, times = [slice(0, frame_count)], None
    factor = hypot(info.width, info.height) / hypot(correction.info.width, correction.info.height)
    return Correction(geometry.rescale(matrices, factor, factor), shots, replace(info, length=frame_count), times=times)
