"""How the frames of a clip are measured, and the job that keeps what is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..clip import Clip, ClipError
from ..lens import Lens
from ..motion.estimate import WORKING_SIDE, estimate_motion
from ..motion.lens_view import LensView, ViewClip, view_masks
from ..motion.optical_flow.flow import FlowModel
from ..motion.optical_flow.gray_frame import Masks
from ..path.motion import Motion

if TYPE_CHECKING:
    from ..jobs.motion_cache import MeasuredShare
    from ..jobs.state.folder import Job


@dataclass(frozen=True)
class MotionEstimator:
    """Estimates the motion of the frames of a clip, or of a lens's view of them.

    flow, side, mask: as for `estimate_motion`. job: keeps the measured pieces; None without one. segment_seconds: the
    length of a piece; None takes the default of jobs. has_shot_bars: the mask is that of `mask_shot_bars`. Raises
    ClipError for a job with another mask that is a function.
    """

    flow: FlowModel
    side: int = WORKING_SIDE
    mask: Masks | None = None
    job: Job | None = None
    segment_seconds: float | None = None
    has_shot_bars: bool = False

    def __post_init__(self) -> None:
        if self.job is not None and callable(self.mask) and not self.has_shot_bars:
            raise ClipError("a job cannot compare masks that a function computes; give them as a tensor (N, H, W)")

    def estimate(
        self, clip: Clip, view: LensView | None = None, *, with_residuals: bool = False, is_second_pass: bool = False
    ) -> Motion:
        """Estimate the motion of all frames.

        With a view, it is that of its frames. with_residuals: as for `estimate_motion`. is_second_pass: the job has the
        motion without the view, or without bars, too.
        """
        clip, mask, lens = self._through(clip, view)
        if self.job is None:
            return estimate_motion(clip, self.flow, side=self.side, mask=mask, with_residuals=with_residuals)
        from ..jobs.motion_cache import cached_motion

        return cached_motion(
            self.job, clip, self.flow,
            side=self.side, mask=mask, segment_seconds=self._seconds, with_residuals=with_residuals, lens=lens,
            is_second_pass=is_second_pass,
        )  # fmt: skip

    def measure_share(
        self, clip: Clip, view: LensView | None, index: int, count: int, *, with_residuals: bool
    ) -> MeasuredShare:
        """Measure a share of the pieces that `estimate` then finds in the job."""
        from ..jobs.motion_cache import measure_share

        assert self.job is not None, "shares are kept by a job"
        clip, mask, lens = self._through(clip, view)
        return measure_share(
            self.job, clip, self.flow, index, count,
            side=self.side, mask=mask, segment_seconds=self._seconds, with_residuals=with_residuals, lens=lens,
        )  # fmt: skip

    @property
    def _seconds(self) -> float:
        from ..jobs.segments import SEGMENT_SECONDS

        return SEGMENT_SECONDS if self.segment_seconds is None else self.segment_seconds

    def _through(self, clip: Clip, view: LensView | None) -> tuple[Clip, Masks | None, Lens | None]:
        """The clip that is measured, its masks, and its lens."""
        if view is None:
            return clip, self.mask, None
        return ViewClip(clip, view), view_masks(self.mask, view), view.lens
