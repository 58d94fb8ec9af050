"""Console output and signals: reports, log messages on stderr, and interrupts."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TextIO, TypeVar

Report = TypeVar("Report")

log = logging.getLogger(__name__)


def print_report(args: argparse.Namespace, report: dict[str, object], text: str, stream: TextIO | None = None) -> None:
    """Print the report: one JSON object with --json, text otherwise.

    With --quiet only --json prints. stream: None is stdout.
    """
    if args.json:
        text = json.dumps(report)
    elif args.quiet:
        return
    print(text, file=stream)


class _StderrHandler(logging.Handler):
    """Write to the present `sys.stderr`.

    It belongs to the progress bar while one is displayed.
    """

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"steadyscale: {record.getMessage()}\n")


@contextmanager
def log_to_stderr(args: argparse.Namespace) -> Iterator[None]:
    """Write the package's log messages to stderr.

    These are warnings; with --debug all, with --quiet errors only.
    """
    log, handler = logging.getLogger(__name__.split(".")[0]), _StderrHandler()
    handler.setLevel(logging.ERROR if args.quiet else logging.DEBUG if args.debug else logging.WARNING)
    log.addHandler(handler)
    before = log.level
    if args.debug:
        log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.setLevel(before)
        log.removeHandler(handler)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM, so that it cleans up as Ctrl-C does."""

    def raise_interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, raise_interrupt)
    except ValueError:  # not in the main thread, where signals do not arrive
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def until_interrupted(reports: Iterator[Report], resume_hint: str) -> Iterator[Report]:
    """Yield the same reports, and stop after the next one on a signal.

    A signal (Ctrl-C, SIGTERM) raises KeyboardInterrupt when the step in work is finished, so that none is left half
    done. A second signal raises at once, and so does one before the first report, when there is nothing to keep.
    resume_hint: how to continue later, for the message "... to go on with `resume_hint`".
    """
    with ExitStack() as stack:
        is_interrupted: Callable[[], bool] | None = None
        message = f"stopping after this step, to go on with {resume_hint}; once more stops at once"
        for report in reports:
            is_interrupted = is_interrupted or stack.enter_context(deferred_interrupt(message))
            yield report
            if is_interrupted():
                raise KeyboardInterrupt


@contextmanager
def deferred_interrupt(message: str) -> Iterator[Callable[[], bool]]:
    """Record the first signal to end; a second one raises KeyboardInterrupt.

    message: logged at the first. The yielded function says whether there was one.
    """
    signals: list[int] = []

    def on_signal(number: int, _: object) -> None:
        signals.append(number)
        if len(signals) > 1:
            raise KeyboardInterrupt
        log.warning("%s", message)

    try:
        # A program that is started in the background ignores Ctrl-C, and continues to.
        numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
        before = {number: signal.signal(number, on_signal) for number in numbers}
    except ValueError:  # not in the main thread, where signals do not arrive
        before = {}
    try:
        yield lambda: bool(signals)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
