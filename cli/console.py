"""What the command says and when: reports, warnings, errors in one line, and an end when it is told to end."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

Report = TypeVar("Report")

log = logging.getLogger(__name__)


def print_report(args: argparse.Namespace, report: dict[str, object], text: str) -> None:
    if args.json:
        sys.stdout.write(json.dumps(report) + "\n")
    elif not args.quiet:
        sys.stdout.write(text + "\n")


class _StderrHandler(logging.Handler):
    """Looks stderr up at each line: while a progress bar is shown, stderr is the bar's."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"steadyscale: {record.getMessage()}\n")


@contextmanager
def log_to_stderr(args: argparse.Namespace) -> Iterator[None]:
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
    """Being told to end (SIGTERM) cleans up as Ctrl-C does."""

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
    """The same reports, until being told to end (Ctrl-C, SIGTERM) raises KeyboardInterrupt after the next of them, when
    nothing is half done; being told again ends at once. Before the first report nothing is there to be kept.

    way_on: how to go on later, for people: "... to go on with `way_on`".
    """
    with ExitStack() as stack:
        told: Callable[[], bool] | None = None
        for report in reports:
            told = told or stack.enter_context(_deferred_interrupt(resume_hint))
            yield report
            if told():
                raise KeyboardInterrupt


@contextmanager
def _deferred_interrupt(resume_hint: str) -> Iterator[Callable[[], bool]]:
    """Takes note of the first signal to end; the callable says whether there was one."""
    signals: list[int] = []

    def on_signal(number: int, _: object) -> None:
        signals.append(number)
        if len(signals) > 1:
            raise KeyboardInterrupt
        log.warning("stopping after this step, to go on with %s; once more stops at once", resume_hint)

    try:
        # What starts a program in the background has it ignore Ctrl-C, and it stays so.
        ends = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
        before = {number: signal.signal(number, on_signal) for number in ends}
    except ValueError:  # not in the main thread, where signals do not arrive
        before = {}
    try:
        yield lambda: bool(signals)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
