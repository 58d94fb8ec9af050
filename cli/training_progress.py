"""Progress bars of training runs: elapsed and remaining time, losses and scores."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..core.training.loop.trainer import StepReport
from ..core.training.smoother.trainer import PathStepReport

SPEED_WINDOW_SECONDS = 120.0  # over which the speed is averaged


def show_progress(reports: Iterator[StepReport], quiet: bool = False) -> Iterator[StepReport]:
    """Yield the reports unchanged, and show them as a progress bar on stderr.

    No bar is displayed if stderr is not a terminal.
    """
    scores = ""
    with _progress_bars(quiet) as bars:
        task = bars.add_task("training", total=None, numbers="")
        for report in reports:
            if report.scores:
                scores = ", ".join(f"{scale}x {s.psnr:.2f} dB" for scale, s in report.scores.items())
            losses = ", ".join(f"{name} {value:.4g}" for name, value in report.losses.items())
            # A resumed run starts in the middle; the steps before must not count for the speed.
            if bars.tasks[0].total is None:
                bars.reset(task, total=report.steps, completed=report.step, numbers="")
            bars.update(task, completed=report.step, numbers=f"{losses}  {scores}")
            yield report


def show_path_progress(reports: Iterator[PathStepReport], quiet: bool = False) -> Iterator[PathStepReport]:
    """Do the same as `show_progress` for the training of a smoother."""
    with _progress_bars(quiet) as bars:
        task = bars.add_task("training", total=None, numbers="")
        for report in reports:
            losses = ", ".join(f"{name} {value:.3f}" for name, value in report.losses.items())
            bars.update(task, total=report.steps, completed=report.step, numbers=losses)
            yield report


def _progress_bars(quiet: bool) -> Progress:
    console = Console(stderr=True)
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[numbers]}"),
    )
    return Progress(
        *columns,
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
        speed_estimate_period=SPEED_WINDOW_SECONDS,
    )
