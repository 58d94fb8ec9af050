"""From a clip and settings to the operation that stabilizes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..clip import Clip
from ..motion.estimate import WORKING_SIDE
from ..motion.optical_flow.gray_frame import Masks
from ..path.motion import Motion
from ..pipeline.warp_op import WarpOp
from .correct import SmootherLoader, correct_motion
from .measure import measure_motion
from .settings import DEFAULT_SETTINGS, StabilizeSettings

if TYPE_CHECKING:
    import torch

    from ..jobs.state.folder import Job


def plan_stabilization(
    clip: Clip,
    settings: StabilizeSettings = DEFAULT_SETTINGS,
    *,
    device: torch.device | str = "cpu",
    side: int = WORKING_SIDE,
    mask: Masks | None = None,
    job: Job | None = None,
    segment_seconds: float | None = None,
    motion: Motion | None = None,
    load_smoother: SmootherLoader | None = None,
) -> WarpOp:
    """Plan the operation that stabilizes a clip: measure, smooth, limit the zoom.

    The operation suits the clip at any size. motion: in place of measuring `clip`, as `measure_motion` returns it. The
    other arguments are those of `measure_motion` and `correct_motion`. Frames are warped where they are.
    Raises ClipError as these do.
    """
    if motion is None:
        motion = measure_motion(
            clip, settings, device=device, side=side, mask=mask, job=job, segment_seconds=segment_seconds
        )
    fix = correct_motion(motion, settings, load_smoother=load_smoother)
    return WarpOp(fix, settings.border, settings.pad)
