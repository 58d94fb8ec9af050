"""The timestamps of a clip, for the motion that is measured on it."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from ..clip import Clip
from ..path.even_time import uneven_times
from ..video.decode.timestamps import read_timestamps
from ..video.decode.video_clip import VideoClip

log = logging.getLogger(__name__)


def frame_times(clip: Clip, count: int) -> NDArray[np.float64] | None:
    """Return when each of the `count` frames of a clip is presented, in seconds.

    (N,), from the first frame on. None for a constant rate (see `uneven_times`), and for a clip without timestamps:
    images, tensors, and videos that do not store one for each of their frames.
    """
    read = getattr(clip, "frame_times", None)
    if read is not None:
        return read(count)
    if not isinstance(clip, VideoClip):
        return None
    times = read_timestamps(clip.path, clip.window)
    if not times.is_exact:
        return None
    if len(times.starts) != count:
        log.warning(
            "%s: %d frames were decoded, but there are %d timestamps: it is smoothed as if they were evenly spaced",
            clip.path, count, len(times.starts),
        )  # fmt: skip
        return None
    tick = float(times.time_base)
    return uneven_times(np.array(times.starts, dtype=np.float64) * tick, clip.info.fps, tick)
