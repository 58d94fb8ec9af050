"""Process one stream with several workers at the same time, each in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from .prefetch import POLL_SECONDS, Stage

T = TypeVar("T")
R = TypeVar("R")

# Results of one worker that are being computed, or wait for earlier results of other workers.
DEPTH = 2


def distribute(
    items: Iterator[T], workers: Sequence[Callable[[Iterator[T]], Iterator[R]]], name: str = "worker"
) -> Generator[R, None, None]:
    """Yield the results of workers that share the items of a stream, in order.

    workers: each yields one result for each item that it reads, in order, and may read ahead. The next item goes to
    the worker that asks first. A worker waits while two of its results, those that it computes included, have not been
    taken. `items` is read in the workers' threads, in one thread at a time.
    The first error of a worker or of `items` is raised here, in place of the result that it prevents. Such an error,
    and closing or dropping the generator, stop each worker within its current item.
    """
    return _distribute(_SharedItems(items), workers, name)


def _distribute(
    shared: _SharedItems[T], workers: Sequence[Callable[[Iterator[T]], Iterator[R]]], name: str
) -> Generator[R, None, None]:
    stages = [
        Stage(shared.run(index, worker), DEPTH, f"{name} {index}") for index, worker in enumerate(workers)
    ]  # fmt: skip
    with ExitStack() as stack:
        for stage in stages:
            stack.callback(stage.close)
        stack.callback(shared.stop, stages)  # first: closing waits for each
        for stage in stages:
            stage.start()
        while (index := shared.next_worker(stages)) is not None:
            box = stages[index].get()
            if not box:
                raise RuntimeError(f"{name} {index} ended before its last result")
            yield box.pop()
        for stage in stages:
            stage.get()  # Raises an error after the last result.


class _SharedItems(Generic[T]):
    """The items, and which worker has taken each."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items, self._lock, self._stopped = items, threading.Lock(), False
        # Numbers of workers in the order of the items that they took; None at the end. A failed worker is added again.
        self._owners: SimpleQueue[int | None] = SimpleQueue()

    def run(self, index: int, worker: Callable[[Iterator[T]], Iterator[R]]) -> Iterator[R]:
        """The results of a worker."""
        try:
            yield from worker(self._take(index))
        except GeneratorExit:
            raise
        except BaseException:  # `Stage` raises it in the consumer, which this lets look at the worker.
            self._owners.put(index)
            raise

    def _take(self, index: int) -> Iterator[T]:
        while not self._stopped:
            with self._lock:
                box = [] if self._stopped else list(islice(self._items, 1))
                self._owners.put(index if box else None)
            if not box:
                return
            yield box.pop()  # Nothing here refers to the item.

    def next_worker(self, stages: Sequence[Stage[R]]) -> int | None:
        """The worker that took the next item; None after the last one."""
        while True:
            is_alive = any(stage.is_alive for stage in stages)
            try:
                return self._owners.get(timeout=POLL_SECONDS if is_alive else 0)
            except Empty:
                if not is_alive:
                    raise RuntimeError("all workers have ended without an error; the program shuts down") from None

    def stop(self, stages: Sequence[Stage[R]]) -> None:
        self._stopped = True
        for stage in stages:
            stage.stop()
