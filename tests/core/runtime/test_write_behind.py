"""A stage behind who makes its items."""

from __future__ import annotations

import inspect
import threading
import time
import traceback

import pytest
from steadyscale.core.runtime.prefetch import write_behind
from streams import CancelledByHost, CountingSource, TrackedFrame

pytestmark = pytest.mark.timeout(60, method="thread")  # what hangs is named, and fails


@pytest.mark.parametrize("depth", [1, 2, 7, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_all_is_done_in_order_and_before_it_returns(depth: int, count: int):
    done, threads, source = [], set(), CountingSource(count)

    def do(number: int) -> None:
        time.sleep(0.001)
        done.append(number)
        threads.add(threading.current_thread().name)

    write_behind(source.items(), do, depth, "encode")
    assert done == list(range(count))
    assert threads <= {"steadyscale encode"}
    assert source.opened_in == source.closed_in == threading.current_thread().name


@pytest.mark.parametrize("depth", [1, 3])
def test_what_is_made_waits_for_what_is_done(depth: int):
    """`depth` items wait or are in the making while one is being done, and none of them is held after."""
    most = 0

    def do(frame: TrackedFrame) -> None:
        nonlocal most
        time.sleep(0.002)
        most = max(most, TrackedFrame.alive_count)

    write_behind((TrackedFrame() for _ in range(20)), do, depth)
    assert most == 1 + depth
    assert TrackedFrame.alive_count == 0


@pytest.mark.parametrize("fail_at", [0, 1, 4])
def test_an_error_in_the_doing_stops_the_making(fail_at: int):
    error, source, done = OSError("disk full"), CountingSource(1000), []

    def do(number: int) -> None:
        if number == fail_at:
            raise error
        done.append(number)

    stream = source.items()
    with pytest.raises(OSError, match="disk full") as caught:
        write_behind(stream, do, depth=2)
    assert caught.value is error
    assert any(line.name == "do" for line in traceback.extract_tb(error.__traceback__))
    assert done == list(range(fail_at))
    assert source.produced <= fail_at + 4
    assert inspect.getgeneratorstate(stream) == inspect.GEN_CLOSED, "though somebody still holds it"


@pytest.mark.parametrize("error", [ValueError("no frame"), CancelledByHost(), KeyboardInterrupt()])
def test_an_error_in_the_making_drops_what_waits(error: BaseException):
    done = []

    def do(number: int) -> None:
        time.sleep(0.05)
        done.append(number)

    with pytest.raises(type(error)) as caught:
        write_behind(CountingSource(1000, fail_at=5, error=error).items(), do, depth=5)
    assert caught.value is error
    assert done == list(range(len(done)))
    assert len(done) < 5
