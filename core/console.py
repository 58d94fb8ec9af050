"""What the command says and when: reports, warnings, errors in one line, and an end when it is told to end."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def tell(args: argparse.Namespace, report: dict[str, object], text: str) -> None:
    if args.json:
        sys.stdout.write(json.dumps(report) + "\n")
    elif not args.quiet:
        sys.stdout.write(text + "\n")


class _ToStderr(logging.Handler):
    """Looks stderr up at each line: while a progress bar is shown, stderr is the bar's."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"steadyscale: {record.getMessage()}\n")


@contextmanager
def log_on_stderr(args: argparse.Namespace) -> Iterator[None]:
    log, handler = logging.getLogger(__name__.split(".")[0]), _ToStderr()
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
def stoppable() -> Iterator[None]:
    """Being told to end (SIGTERM) cleans up as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread, where signals do not arrive
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
