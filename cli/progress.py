"""What a command tells: a progress bar while it runs, and one report of what it did."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sized
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ..core.clip import Clip, ClipInfo, Frames
from ..core.motion.estimate import luma_frames
from ..core.motion.gray_frame import Plane
from ..core.video.decode.corruption import CorruptionReport

if TYPE_CHECKING:
    from ..core.upscaling.settings import UpscaleStats
    from ..core.video.decode.stream_format import NativeFrames, StreamFormat

log = logging.getLogger(__name__)

Batch = TypeVar("Batch", bound=Sized)

PROGRESS_DELAY_SECONDS = 1.0  # seconds without a progress bar: what is done by then needs none


class ProgressBars:
    """One bar on stderr for each stage that is watched; they appear after `PATIENCE` and vanish at the end.

    Use as a context manager. The number of frames that a stage has passed on is in `passed[label]`.
    """

    def __init__(self, quiet: bool = False) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        # In a log file a bar would be thousands of lines.
        self._progress = Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)
        self._start_time = time.monotonic()
        self._is_visible = False
        self._tasks: dict[str, TaskID] = {}
        self.completed: dict[str, int] = {}

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_visible:
            self._progress.stop()

    def notify(self, text: str) -> None:
        """A line above the bars where somebody watches them, and in the log."""
        log.info("%s", text)
        if not self._progress.disable:
            self._progress.console.print(text, highlight=False, markup=False)

    def track(self, frames: Iterator[Batch], label: str, length: int | None) -> Iterator[Batch]:
        """The same frames; each batch moves the bar. length: how many there will be, if known."""
        self.update(label, 0, length)
        for batch in frames:
            self.update(label, self.completed[label] + len(batch), length)
            yield batch

    def update(self, label: str, done: int, total: int | None) -> None:
        """Moves one bar to `done` of `total`, for work that is not frames passing by; None: nobody knows how much."""
        if label not in self._tasks:
            self._tasks[label] = self._progress.add_task(escape(label), total=total)
        self.completed[label] = done
        self._progress.update(self._tasks[label], completed=done, total=total)
        if not self._is_visible and time.monotonic() - self._start_time > PROGRESS_DELAY_SECONDS:
            self._is_visible = not self._progress.disable
            self._progress.start()

    def track_clip(self, clip: Clip, label: str) -> Clip:
        """The same clip; each pass over it moves the bar."""
        return _TrackedClip(clip, self, label)


class _TrackedClip:
    def __init__(self, clip: Clip, bars: ProgressBars, label: str) -> None:
        self._clip, self._bars, self._label = clip, bars, label

    @property
    def info(self) -> ClipInfo:
        return self._clip.info

    def frames(self, batch: int = 1) -> Iterator[Frames]:
        return self._bars.track(self._clip.frames(batch), self._label, self.info.length)

    @property
    def stream_format(self) -> StreamFormat | None:
        return getattr(self._clip, "stream_format", None)

    def native_frames(self) -> Iterator[NativeFrames]:
        return self._bars.track(cast(Any, self._clip).native_frames(), self._label, self.info.length)

    def luma_frames(self, side: int) -> Iterator[Plane]:
        return self._bars.track(luma_frames(self._clip, side), self._label, self.info.length)


def stats_fields(stats: UpscaleStats) -> dict[str, object]:
    """What a report says of an enlarging stage; `pixels_computed` is the share that the network was shown, 0 to 1."""
    return {
        "repeated_frames": stats.repeated_frames,
        "tiles_reused": stats.tiles_reused,
        "pixels_computed": round(stats.computed_fraction, 4),
    }


def reuse_summary(stats: UpscaleStats | None) -> str:
    """The same as the end of a sentence; empty where the network was shown everything."""
    if stats is None or stats.computed_fraction == 1:
        return ""
    repeats = f" ({stats.repeated_frames} whole frames)" if stats.repeated_frames else ""
    return f"; {1 - stats.computed_fraction:.0%} of the pixels{repeats} reused"


def damage_summary(damage: CorruptionReport) -> str:
    """What of the source was damaged, as the end of a sentence; empty where nothing was."""
    return f"; {damage}" if damage else ""


def peak_memory_mb() -> float | None:
    """The most memory that this process has held, in 10^6 bytes; None where the system does not tell (Windows)."""
    # Linux counts the program that started this one in `ru_maxrss`, which would be a whole ComfyUI.
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6, 1)
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)  # macOS counts in bytes, others in KiB
