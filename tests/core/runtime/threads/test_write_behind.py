"""Writing in a thread behind the producer."""

from __future__ import annotations

import inspect
import threading
import time
import traceback

import pytest
from steadyscale.core.runtime.threads.prefetch import write_behind
from streams import CancelledByHost, CountingSource, TrackedFrame

pytestmark = pytest.mark.timeout(60, method="thread")  # what hangs is named, and fails


@pytest.mark.parametrize("depth", [1, 2, 7, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_all_items_are_written_in_order_before_it_returns(depth: int, count: int):
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
def test_the_producer_waits_for_the_writer(depth: int):
    """`depth` items are queued or being produced while one is written; none is held afterwards."""
    most = 0

    def do(frame: TrackedFrame) -> None:
        nonlocal most
        time.sleep(0.002)
        most = max(most, TrackedFrame.alive_count)

    write_behind((TrackedFrame() for _ in range(20)), do, depth)
    assert most == 1 + depth
    assert TrackedFrame.alive_count == 0


@pytest.mark.parametrize("fail_at", [0, 1, 4])
def test_an_error_of_the_writer_stops_the_producer(fail_at: int):
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
    assert inspect.getgeneratorstate(stream) == inspect.GEN_CLOSED, "although the caller still holds it"


@pytest.mark.parametrize("error", [ValueError("no frame"), CancelledByHost(), KeyboardInterrupt()])
def test_an_error_of_the_producer_drops_queued_items(error: BaseException):
    done = []

    def do(number: int) -> None:
        time.sleep(0.05)
        done.append(number)

    with pytest.raises(type(error)) as caught:
        write_behind(CountingSource(1000, fail_at=5, error=error).items(), do, depth=5)
    assert caught.value is error
    assert done == list(range(len(done)))
    assert len(done) < 5
