"""Progress bars of the command line."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sized
from contextlib import suppress
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ..core.api import Progress as VideoProgress

log = logging.getLogger(__name__)

Batch = TypeVar("Batch", bound=Sized)

_STREAM_ERRORS = (OSError, ValueError)  # of a terminal that is closed, or cannot display a character
PROGRESS_DELAY_SECONDS = 1.0  # a command that is done by then needs no progress bar


class ProgressBars:
    """Progress bars on stderr, one for each stage.

    They appear after `PROGRESS_DELAY_SECONDS` and are removed at the end. Use as a context manager. `completed[label]`
    is the number of frames that a stage has done. A terminal that is closed ends the display, not the work.
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
            with suppress(*_STREAM_ERRORS):
                self._progress.stop()

    def show(self, progress: VideoProgress) -> None:
        """Show the progress of a function of `core.api`: its `progress` argument."""
        if progress.message:
            self.notify(progress.message)
        else:
            self.update(progress.stage, progress.done, progress.total)

    def notify(self, text: str) -> None:
        """Print a line above the bars if stderr is a terminal, and log it."""
        log.info("%s", text)
        if not self._progress.disable:
            with suppress(*_STREAM_ERRORS):
                self._progress.console.print(text, highlight=False, markup=False)

    def track(self, frames: Iterator[Batch], label: str, length: int | None) -> Iterator[Batch]:
        """Yield the same batches; each moves the bar.

        length: the expected number of frames, if known.
        """
        self.update(label, 0, length)
        for batch in frames:
            self.update(label, self.completed[label] + len(batch), length)
            yield batch

    def update(self, label: str, done: int, total: int | None) -> None:
        """Move one bar to `done` of `total`; None where the total is unknown."""
        if label not in self._tasks:
            self._tasks[label] = self._progress.add_task(escape(label), total=total)
        self.completed[label] = done
        with suppress(*_STREAM_ERRORS):
            self._progress.update(self._tasks[label], completed=done, total=total)
            if not self._is_visible and time.monotonic() - self._start_time > PROGRESS_DELAY_SECONDS:
                self._is_visible = not self._progress.disable
                self._progress.start()

    def remove(self, label: str) -> None:
        """Remove one bar, if it is there."""
        if (task := self._tasks.pop(label, None)) is not None:
            self._progress.remove_task(task)
