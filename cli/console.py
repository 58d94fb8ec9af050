"""Console output and signals: reports, log messages on stderr, and interrupts.

A command does not fail because of its output: text that a console cannot encode is escaped, and where a stream is
closed or its disk full, only the text is lost.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import TextIO, TypeVar

Report = TypeVar("Report")

log = logging.getLogger(__name__)

# Signals that end a process; Windows has only some of them.
_END_SIGNAL_NAMES = ("SIGTERM", "SIGHUP", "SIGQUIT", "SIGBREAK")
_END_SIGNALS: list[signal.Signals] = [getattr(signal, name) for name in _END_SIGNAL_NAMES if hasattr(signal, name)]


def prepare_streams() -> None:
    """Make stdout and stderr accept any text, also where they are closed.

    Closed descriptors 0 to 2 are opened on the null device: a result would otherwise be opened as number 1 or 2, and
    messages of libraries would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            with suppress(OSError, ValueError):
                reconfigure(errors="backslashreplace")


def write_stderr(text: str) -> None:
    """Write text to the present stderr, if that is possible."""
    with suppress(OSError, ValueError, AttributeError):  # full, closed, None
        sys.stderr.write(text)
        sys.stderr.flush()


def flush_streams() -> None:
    """Flush stdout and stderr; one that fails is directed to the null device.

    Python would flush it again at exit, and turn a success into exit code 120.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            _discard(stream)


def _discard(stream: TextIO) -> None:
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def print_report(args: argparse.Namespace, report: dict[str, object], text: str, stream: TextIO | None = None) -> None:
    """Print the report: one JSON object with --json, text otherwise.

    With --quiet only --json prints. stream: None is stdout. The work is done by then: if the stream cannot be written
    to, that is logged, and the command still succeeds.
    """
    if args.json:
        text = json.dumps(report)
    elif args.quiet:
        return
    stream = stream or sys.stdout
    if stream is None:  # closed by the caller
        return
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except (OSError, ValueError) as error:
        _discard(stream)
        log.warning("the report could not be printed (%s); the work itself is done", error)


class _StderrHandler(logging.Handler):
    """Write to the present `sys.stderr`.

    It belongs to the progress bar while one is displayed.
    """

    def emit(self, record: logging.LogRecord) -> None:
        write_stderr(f"steadyscale: {record.getMessage()}\n")


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
def end_signals_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM, SIGHUP and SIGQUIT.

    A run then cleans up as on Ctrl-C. Signals that are ignored, as SIGHUP is under nohup, stay ignored.
    """

    def raise_interrupt(number: int, frame: FrameType | None) -> None:
        # A closed terminal may send SIGHUP twice, from the shell and from the system; once is enough to clean up.
        if (hangup := getattr(signal, "SIGHUP", None)) is not None:
            signal.signal(hangup, signal.SIG_IGN)
        on_ctrl_c = signal.getsignal(signal.SIGINT)
        if not callable(on_ctrl_c):
            raise KeyboardInterrupt
        on_ctrl_c(signal.SIGINT, frame)  # asyncio's own, in `run`, lets tasks clean up; the usual one raises

    with _signal_handlers(raise_interrupt, _END_SIGNALS):
        yield


@contextmanager
def _signal_handlers(handler: Callable[[int, FrameType | None], None], numbers: list[signal.Signals]) -> Iterator[None]:
    """Handle these signals until the block ends, but for those that are ignored."""
    try:
        before = {n: signal.signal(n, handler) for n in numbers if signal.getsignal(n) is not signal.SIG_IGN}
    except ValueError:  # not in the main thread, where signals do not arrive
        before = {}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


def until_interrupted(reports: Iterator[Report], resume_hint: str) -> Iterator[Report]:
    """Yield the same reports, and stop after the next one on a signal.

    A signal (Ctrl-C, SIGTERM, SIGHUP, SIGQUIT) raises KeyboardInterrupt when the step in work is finished, so that none
    is left half done. A second signal raises at once, and so does one before the first report, when there is nothing to
    keep.
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

    # A program that is started in the background ignores Ctrl-C, and continues to.
    with _signal_handlers(on_signal, [signal.SIGINT, *_END_SIGNALS]):
        yield lambda: bool(signals)
