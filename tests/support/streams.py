"""Streams for tests of concurrent stages, which count, fail and record closing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator


def list_our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("steadyscale")]


class CountingSource:
    """A counting stream that records calls, their thread, and whether it was closed."""

    def __init__(self, count: int = 10, *, fail_at: int | None = None, error: BaseException | None = None) -> None:
        self.count, self.fail_at = count, fail_at
        self.error = ValueError("broken at the source") if error is None else error
        self.produced = 0
        self.opened_in: str | None = None
        self.closed_in: str | None = None

    def items(self, pause: float = 0.0) -> Iterator[int]:
        self.opened_in = threading.current_thread().name
        try:
            for number in range(self.count):
                if number == self.fail_at:
                    raise self.error
                time.sleep(pause)
                self.produced += 1
                yield number
            if self.fail_at == self.count:
                raise self.error
        finally:
            self.closed_in = threading.current_thread().name


def add_amount(stream: Iterator[int], amount: int, *, fail_at: int | None = None) -> Iterator[int]:
    for position, number in enumerate(stream):
        if position == fail_at:
            raise ArithmeticError(f"broken in plus {amount}")
        yield number + amount


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what must come."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.001)


class TrackedFrame:
    """Something large, of which we count how many there are."""

    alive_count = 0

    def __init__(self) -> None:
        TrackedFrame.alive_count += 1

    def __del__(self) -> None:
        TrackedFrame.alive_count -= 1


class CancelledByHost(BaseException):
    """A BaseException, as hosts raise, which `except Exception` does not catch."""
