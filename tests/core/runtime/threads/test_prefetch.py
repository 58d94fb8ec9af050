"""Prefetching in a thread."""

from __future__ import annotations

import gc
import threading
import time
import traceback
from collections.abc import Iterator
from itertools import count as counting
from queue import Empty

import pytest
from steadyscale.core.runtime.threads import prefetch as prefetch_module
from steadyscale.core.runtime.threads.prefetch import prefetch, write_behind
from streams import CancelledByHost, CountingSource, TrackedFrame, list_our_threads, wait_until

pytestmark = pytest.mark.timeout(60, method="thread")  # what hangs is named, and fails


@pytest.mark.parametrize("depth", [1, 2, 7, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_every_item_comes_once_and_in_order(depth: int, count: int):
    source = CountingSource(count)
    assert list(prefetch(source.items(), depth)) == list(range(count))
    assert source.opened_in == source.closed_in == "steadyscale prefetch"


@pytest.mark.parametrize(("slow_source", "slow_consumer"), [(0.003, 0.0), (0.0, 0.003), (0.002, 0.002)])
def test_no_items_are_lost_when_either_thread_waits(slow_source: float, slow_consumer: float):
    got = []
    for number in prefetch(CountingSource(40).items(slow_source), depth=3):
        time.sleep(slow_consumer)
        got.append(number)
    assert got == list(range(40))


def test_any_iterable_is_accepted():
    assert list(prefetch([3, 1, 2])) == [3, 1, 2]
    assert list(prefetch(iter((None, False, [], 0)))) == [None, False, [], 0]


def test_the_thread_starts_with_the_first_request():
    source = CountingSource()
    stream = prefetch(source.items())
    assert (source.opened_in, list_our_threads()) == (None, [])
    assert next(stream) == 0
    assert list_our_threads() == ["steadyscale prefetch"]
    stream.close()


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_at_most_depth_items_are_prefetched(depth: int):
    source = CountingSource(50)
    stream = prefetch(source.items(), depth)
    for taken in range(1, 5):
        assert next(stream) == taken - 1
        wait_until(lambda taken=taken: source.produced == taken + depth)
        time.sleep(0.01)
        assert source.produced == taken + depth
    stream.close()


def test_producer_and_consumer_run_concurrently():
    """Each thread waits for the other's next step, which would never end if they took turns."""
    making, taking = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        making.set()
        assert taking.wait(30)
        yield 1

    stream = prefetch(items())
    assert next(stream) == 0
    taking.set()
    assert making.wait(30)
    assert list(stream) == [1]


@pytest.mark.parametrize("depth", [1, 3])
def test_items_are_released_by_the_consumer(depth: int):
    stream = prefetch((TrackedFrame() for _ in range(20)), depth)
    for _ in range(5):
        frame = next(stream)
        wait_until(lambda: TrackedFrame.alive_count == 1 + depth)
        del frame
        assert TrackedFrame.alive_count == depth, "the pipeline still holds what its consumer has dropped"
    stream.close()
    del stream
    assert TrackedFrame.alive_count == 0


@pytest.mark.parametrize("fail_at", [0, 1, 3, 10])
@pytest.mark.parametrize("depth", [1, 2, 20])
def test_an_error_comes_after_the_items_before_it_and_with_its_traceback(fail_at: int, depth: int):
    error = KeyError("the very object")
    source = CountingSource(10, fail_at=fail_at, error=error)
    stream = prefetch(source.items(), depth)
    got: list[int] = []
    with pytest.raises(KeyError) as caught:
        got.extend(stream)
    assert got == list(range(fail_at))
    assert caught.value is error
    assert any("raise self.error" in (line.line or "") for line in traceback.extract_tb(error.__traceback__))
    assert next(stream, "ended") == "ended"


class FalseError(Exception):
    def __bool__(self) -> bool:
        return False


@pytest.mark.parametrize(
    "error", [CancelledByHost(), KeyboardInterrupt(), SystemExit(3), MemoryError(), Empty(), FalseError()]
)
def test_every_kind_of_error_is_raised(error: BaseException):
    with pytest.raises(type(error)) as caught:
        list(prefetch(CountingSource(5, fail_at=2, error=error).items()))
    assert caught.value is error
    with pytest.raises(type(error)) as caught:
        write_behind(CountingSource(5, fail_at=2, error=error).items(), lambda _: None)
    assert caught.value is error


def test_errors_of_plain_iterators_are_raised():
    class Breaks:
        def __iter__(self):
            return self

        def __next__(self):
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(prefetch(Breaks()))


@pytest.mark.parametrize("taken", [1, 2, 5])
@pytest.mark.parametrize("way", ["close", "drop", "throw", "break"])
def test_a_consumer_that_stops_early_closes_the_source(taken: int, way: str):
    source = CountingSource(1000)
    stream = prefetch(source.items(), depth=2)
    for _ in range(taken):
        next(stream)
    if way == "close":
        stream.close()
    elif way == "drop":
        del stream
        gc.collect()
    elif way == "throw":
        with pytest.raises(CancelledByHost):
            stream.throw(CancelledByHost())  # type: ignore[attr-defined]
    else:
        for _ in stream:
            break
        del stream
    assert source.closed_in == "steadyscale prefetch", "closed, in the thread that it ran in"
    assert list_our_threads() == []
    assert source.produced <= taken + 1 + 2


def test_closing_waits_for_the_current_item_only():
    source, going = CountingSource(1000), threading.Event()

    def slow() -> Iterator[int]:
        for number in source.items():
            if number == 3:
                going.set()
                time.sleep(0.1)
            yield number

    stream = prefetch(slow(), depth=10)
    next(stream)
    assert going.wait(30)
    stream.close()
    assert source.produced == 4


def test_errors_in_closing_are_raised():
    def items() -> Iterator[int]:
        try:
            yield from counting()
        finally:
            raise OSError("cannot release the device")

    stream = prefetch(items())
    next(stream)
    with pytest.raises(OSError, match="release the device"):
        stream.close()


def test_an_error_of_an_item_that_was_not_requested_is_not_raised():
    source = CountingSource(10, fail_at=2)
    stream = prefetch(source.items(), depth=5)
    assert next(stream) == 0
    wait_until(lambda: source.closed_in is not None)
    stream.close()


def test_a_source_that_does_not_stop_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(prefetch_module, "STOP_TIMEOUT_SECONDS", 0.1)
    started, stuck = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        started.set()
        stuck.wait(30)
        yield 1

    stream = prefetch(items(), depth=1, name="tape")
    next(stream)
    assert started.wait(30)
    stream.close()
    assert "'steadyscale tape' has not stopped after" in caplog.text
    stuck.set()
    wait_until(lambda: list_our_threads() == [])


@pytest.mark.parametrize("depth", [0, -1])
def test_depth_must_be_positive(depth: int):
    with pytest.raises(ValueError, match=f"at least 1 item, got {depth}"):
        prefetch(iter(()), depth)
    with pytest.raises(ValueError, match=f"at least 1 item, got {depth}"):
        write_behind(iter(()), print, depth)
