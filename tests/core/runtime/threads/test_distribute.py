"""Workers that share a stream: order, errors, stopping, memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from steadyscale.core.runtime.threads.distribute import DEPTH, distribute
from streams import CountingSource, TrackedFrame, list_our_threads, wait_until


def square(items: Iterator[int]) -> Iterator[int]:
    return (item * item for item in items)


def squares_with_delay(seconds: float, lag: int = 0):
    """A worker that reads `lag` items ahead of its results."""

    def work(items: Iterator[int]) -> Iterator[int]:
        pending: list[int] = []
        for item in items:
            time.sleep(seconds)
            pending.append(item * item)
            if len(pending) > lag:
                yield pending.pop(0)
        yield from pending

    return work


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 30])
@pytest.mark.parametrize("lags", [(0,), (0, 0), (2, 2), (3, 0), (0, 1, 5)])
def test_results_are_in_the_order_of_the_items(count: int, lags: tuple[int, ...]):
    workers = [squares_with_delay(0.001 * n, lag) for n, lag in enumerate(lags)]
    assert list(distribute(iter(range(count)), workers)) == [n * n for n in range(count)]


def test_all_workers_run_at_once():
    together = threading.Barrier(3)

    def work(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            together.wait(30)
            yield item

    assert list(distribute(iter(range(12)), [work] * 3)) == list(range(12))


def test_a_fast_worker_does_not_wait_for_a_slow_one():
    done: dict[str, int] = {"fast": 0, "slow": 0}

    def count(name: str, seconds: float):
        def work(items: Iterator[int]) -> Iterator[int]:
            for item in items:
                time.sleep(seconds)
                done[name] += 1
                yield item

        return work

    assert list(distribute(iter(range(30)), [count("fast", 0.0), count("slow", 0.05)])) == list(range(30))
    assert done["fast"] >= 1.5 * done["slow"] > 0


@pytest.mark.parametrize("fail_at", [0, 1, 5])
def test_an_error_of_the_items_comes_after_the_results_before_it(fail_at: int):
    error = KeyError("the very object")
    source, got = CountingSource(10, fail_at=fail_at, error=error), list[int]()
    with pytest.raises(KeyError) as caught:
        got.extend(distribute(source.items(), [square, square]))
    assert caught.value is error
    # What a worker has not returned yet is lost when it reads the error.
    assert got == [n * n for n in range(len(got))]
    assert len(got) <= fail_at
    assert list_our_threads() == []


@pytest.mark.parametrize("place", [0, 1])
def test_an_error_of_a_worker_is_raised_once_and_stops_the_others(place: int):
    source, calls = CountingSource(1000), []

    def fail(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            calls.append(item)
            if len(calls) == 3:
                raise ValueError(f"item {item}")
            yield item

    workers = [square, square]
    workers[place] = fail
    stream = distribute(source.items(), workers)
    with pytest.raises(ValueError, match=f"item {calls[2] if len(calls) > 2 else ''}"):
        list(stream)
    assert list(stream) == []
    assert list_our_threads() == []
    assert source.produced < 1000


def test_an_error_before_the_first_item_is_raised():
    def fail(items: Iterator[int]) -> Iterator[int]:
        raise ValueError("cannot start")
        yield

    for workers in ([fail, square], [square, fail], [fail, fail]):
        with pytest.raises(ValueError, match="cannot start"):
            list(distribute(iter(range(50)), workers))


def test_an_error_after_the_last_result_is_raised():
    def fail(items: Iterator[int]) -> Iterator[int]:
        yield from items
        raise ValueError("cannot end")

    with pytest.raises(ValueError, match="cannot end"):
        list(distribute(iter(range(5)), [square, fail]))


def test_a_worker_that_ends_early_is_reported():
    def idle(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            if item > 3:
                return
            yield item

    with pytest.raises(RuntimeError, match="ended before its last result"):
        list(distribute(iter(range(50)), [idle, idle]))


def test_closing_stops_all_workers():
    source, closed = CountingSource(1000), []

    def work(items: Iterator[int]) -> Iterator[int]:
        try:
            yield from items
        finally:
            closed.append(threading.current_thread().name)

    stream = distribute(source.items(), [work, work], "test")
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    stream.close()
    assert len(set(closed)) == 2
    assert list_our_threads() == []
    assert source.produced <= 3 + 2 * (DEPTH + 1)


def test_few_items_are_alive():
    def frames() -> Iterator[TrackedFrame]:
        for _ in range(30):
            yield TrackedFrame()

    def passes(items: Iterator[TrackedFrame]) -> Iterator[TrackedFrame]:
        for item in items:
            box = [item]
            del item
            yield box.pop()

    stream = distribute(frames(), [passes, passes])
    for _ in range(5):
        frame = next(stream)
        time.sleep(0.02)
        assert TrackedFrame.alive_count <= 1 + 2 * DEPTH
        del frame
    stream.close()
    del stream
    wait_until(lambda: TrackedFrame.alive_count == 0)
