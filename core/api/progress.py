"""Progress as one more stage: count the frames that pass, and call back."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from threading import Lock
from typing import TYPE_CHECKING, TypeVar, cast

from ..clip import Clip, ClipInfo, Frames
from ..motion.estimate import luma_frames, luma_range
from ..motion.frame_times import frame_times
from ..motion.optical_flow.gray_frame import Plane
from .report import Progress, ProgressCallback

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..video.decode.timestamps import Timestamps
    from ..video.format.stream_format import NativeClip, NativeFrames, StreamFormat

Batch = TypeVar("Batch", bound=Sized)


class ProgressTracker:
    """Count the frames of each stage of a run, and report them to a callback.

    `done` is the count of the current stage. `is_cancelled`: whether the callback has raised an exception.
    """

    def __init__(self, callback: ProgressCallback | None) -> None:
        self._callback, self._lock, self.is_cancelled = callback, Lock(), False
        self.start("", None)

    def start(self, stage: str, total: int | None) -> None:
        """Begin to count a stage."""
        self._stage, self._total, self.done = stage, total, 0

    def track(self, frames: Iterator[Batch], stage: str, total: int | None) -> Iterator[Batch]:
        """Yield the same batches and report each.

        total: the expected number of frames, if known.
        """
        self.start(stage, total)
        self._report()
        yield from self.count(frames)

    def count(self, frames: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the same batches and report each as part of the present stage."""
        for batch in frames:
            self.done += len(batch)
            self._report()
            yield batch

    def track_clip(self, clip: Clip, stage: str) -> Clip:
        """Return the clip in a wrapper that reports each pass over it as this stage.

        A second pass (see `Clip`) is a stage of its own, however many parts it reads.
        """
        return _TrackedClip(clip, self, stage)

    def notify(self, message: str) -> None:
        """Report a message beside the numbers of the present stage."""
        self._report(message)

    def _report(self, message: str = "") -> None:
        if self._callback is not None:
            with self._lock:
                try:
                    self._callback(Progress(self._stage, self.done, self._total, message))
                except BaseException:  # whatever the callback raises cancels the run, an interrupt too
                    self.is_cancelled = True
                    raise


class _TrackedClip:
    def __init__(self, clip: Clip, tracker: ProgressTracker, stage: str, *, is_second_pass: bool = False) -> None:
        self._clip, self._tracker, self._stage, self._is_second_pass = clip, tracker, stage, is_second_pass

    @property
    def info(self) -> ClipInfo:
        return self._clip.info

    @property
    def stream_format(self) -> StreamFormat | None:
        return getattr(self._clip, "stream_format", None)

    def frames(self, batch: int = 1) -> Iterator[Frames]:
        return self._track(self._clip.frames(batch), self.info.length)

    def native_frames(self) -> Iterator[NativeFrames]:
        return self._track(cast("NativeClip", self._clip).native_frames(), self.info.length)

    def luma_frames(self, side: int) -> Iterator[Plane]:
        return self._track(luma_frames(self._clip, side), self.info.length)

    def luma_range(self, side: int, first: int, stop: int | None, times: Timestamps | None) -> Iterator[Plane]:
        end = self.info.length if stop is None else stop
        frames = luma_range(self._clip, side, first, stop, times)
        return self._track(frames, None if end is None else max(0, end - first))

    def frame_times(self, count: int) -> NDArray[np.float64] | None:
        return frame_times(self._clip, count)

    def second_pass(self, count: int) -> Clip:
        stage = f"{self._stage} again"
        self._tracker.start(stage, count)
        return _TrackedClip(self._clip, self._tracker, stage, is_second_pass=True)

    def _track(self, frames: Iterator[Batch], total: int | None) -> Iterator[Batch]:
        if self._is_second_pass:
            return self._tracker.count(frames)
        return self._tracker.track(frames, self._stage, total)
