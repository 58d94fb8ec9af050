"""Prefetch and write-behind threads with bounded queues.

Decoding, OpenCV, torch and encoding release the GIL while they work, so threads are enough to keep all cores, or the
GPU, busy. Items stay in order, and every error is raised, with its traceback, in the thread that uses the stream. A
stage that fails or is closed stops the others within the item that they work on; its thread has ended, and its files
are closed, before the error is raised.

A stage's thread inherits context variables, inference mode, gradient mode and the current GPU of the thread that starts
it. It does not inherit autocast.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from contextvars import copy_context
from itertools import islice
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Generic, TypeVar

from ..device.accelerator import device_contexts

log = logging.getLogger(__name__)

T = TypeVar("T")

POLL_SECONDS = 0.2  # between checks of a waiting thread whether the other one is alive
STOP_TIMEOUT_SECONDS = 60.0  # that a stage may take to finish the item it works on when it is stopped
_SHUTDOWN_MESSAGE = "the other thread of a stage has ended without an error, because the program is shutting down"


def prefetch(stream: Iterable[T], depth: int = 2, name: str = "prefetch") -> Generator[T, None, None]:
    """Iterate over `stream` in its own thread, ahead of the consumer.

    Yields the items in order.

    depth: items in the queue or being produced, besides the one that the consumer holds.
    The thread starts when the first item is requested. Errors of `stream` are raised here. Closing or dropping the
    result closes `stream` in its thread, and waits for that. Raises ValueError for a depth below 1.
    """
    return _prefetch(Stage(iter(stream), depth, name))


def _prefetch(stage: Stage[T]) -> Generator[T, None, None]:
    try:
        stage.start()
        while box := stage.get():
            yield box.pop()  # Nothing here refers to the item: the consumer decides how long it lives.
    finally:
        stage.close()


class Stage(Generic[T]):
    """A stream that is iterated over in a thread of its own, see `prefetch`."""

    def __init__(self, stream: Iterator[T], depth: int, name: str) -> None:
        self._stream, self._channel = stream, _BoundedChannel[T](depth)
        self._unclosed: list[BaseException] = []
        self._worker = _make_thread(self._produce, name)

    def _produce(self) -> None:
        stream, channel, error = self._stream, self._channel, None
        try:
            while channel.wait_for_slot(_is_program_alive) and (box := list(islice(stream, 1))):
                channel.put(box)
        except BaseException as e:  # Every error would be lost with the thread, an interrupt too.
            error = _clear_frames(e)
        try:
            close(stream)
        except BaseException as e:  # as above
            self._unclosed.append(_clear_frames(e))
        channel.end(error)
        del error

    def start(self) -> None:
        self._worker.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._worker.is_alive()

    def get(self) -> list[T]:
        """Wait for the next item; return it in a list, or an empty list at the end.

        Raises the error of the stream.
        """
        return self._channel.get(self._worker.is_alive)

    def stop(self) -> None:
        """Let the thread end after the item that it works on; do not wait for it."""
        self._channel.stop()

    def close(self) -> None:
        """Stop, and wait until the thread has closed the stream.

        Raises an error that closing the stream raised.
        """
        self.stop()
        _join(self._worker, STOP_TIMEOUT_SECONDS)
        if self._unclosed:
            raise self._unclosed.pop()


def write_behind(stream: Iterable[T], write: Callable[[T], object], depth: int = 2, name: str = "write behind") -> None:
    """Call `write(item)` for all items in order, in a separate thread.

    This thread iterates over `stream` meanwhile.

    depth: items in the queue or being produced, besides the one that is being written.
    Returns when all are written. Errors of `stream` and `write` are raised here; queued items are dropped then, and
    `stream` is closed. Raises ValueError for a depth below 1.
    """
    source, channel = iter(stream), _BoundedChannel[T](depth)
    errors: list[BaseException] = []

    def consume() -> None:
        try:
            while box := channel.get(_is_program_alive):
                write(box.pop())
        except BaseException as e:  # Raised again in the thread that waits.
            errors.append(_clear_frames(e))
            channel.stop()

    worker = _make_thread(consume, name)
    try:
        worker.start()
        while channel.wait_for_slot(worker.is_alive) and (box := list(islice(source, 1))):
            channel.put(box)
        channel.end()
        _join(worker)
        if errors:
            raise errors.pop()
    except BaseException as e:  # An interrupt, too, must not keep frames alive by its traceback.
        _clear_frames(e)
        raise
    finally:
        channel.stop()
        _join(worker, STOP_TIMEOUT_SECONDS)
        close(source)


def chain_first(first: list[T], rest: Iterator[T]) -> Iterator[T]:
    """Chain the first item of a stream, which was read already, with the rest.

    Empties the list `first` when its item is yielded.
    """
    yield first.pop()
    yield from rest


def close(stream: object) -> None:
    """Close a generator; do nothing for other iterators.

    Closing runs its `finally` and `with` blocks.
    """
    end = getattr(stream, "close", None)
    if callable(end):
        end()


class _EndOfStream:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _BoundedChannel(Generic[T]):
    """A bounded queue between two threads.

    Items travel in boxes: lists of one item, which the consumer empties. SimpleQueue is reentrant, so that a signal or
    the garbage collector may interrupt anywhere. Waits end when the other thread is no longer alive.
    """

    def __init__(self, depth: int) -> None:
        if depth < 1:
            raise ValueError(f"the depth of a stage must be at least 1 item, got {depth}")
        self._boxes: SimpleQueue[list[T] | _EndOfStream] = SimpleQueue()
        self._slots: SimpleQueue[None] = SimpleQueue()
        self._stopped = False
        for _ in range(depth):
            self._slots.put(None)

    def wait_for_slot(self, is_consumer_alive: Callable[[], bool]) -> bool:
        """Wait until one more item may be produced; False when stopped."""
        while not self._stopped:
            try:
                self._slots.get(timeout=POLL_SECONDS)
                break
            except Empty:
                if not is_consumer_alive() and not self._stopped:
                    raise RuntimeError(_SHUTDOWN_MESSAGE) from None
        return not self._stopped

    def put(self, box: list[T]) -> None:
        self._boxes.put(box)

    def end(self, error: BaseException | None = None) -> None:
        """End the stream; the consumer raises the error, if there is one."""
        self._boxes.put(_EndOfStream(error))

    def get(self, is_producer_alive: Callable[[], bool]) -> list[T]:
        """Wait for the next box, and free a slot.

        Returns an empty box at the end, or when stopped. Raises the producer's error.
        """
        box, alive = None, True
        while box is None and not self._stopped:
            try:
                box = self._boxes.get(timeout=POLL_SECONDS if alive else 0)
            except Empty:
                if not alive:
                    raise RuntimeError(_SHUTDOWN_MESSAGE) from None
                alive = is_producer_alive()  # If it is not, a box may still be in the queue.
        if isinstance(box, list):
            self._slots.put(None)
            return box
        try:
            if box is not None and box.error is not None:
                raise box.error
            return []
        finally:
            del box  # A reference cycle of the error and this frame would outlive the handling of the error.

    def stop(self) -> None:
        """Stop both threads, and wake them.

        No more items are requested and queued ones are dropped.
        """
        self._stopped = True
        self._slots.put(None)
        self._boxes.put(_EndOfStream(None))


def _is_program_alive() -> bool:
    """Return whether the main thread runs.

    At its end Python waits for all threads, so they must check it.
    """
    return threading.main_thread().is_alive()


def _make_thread(target: Callable[[], None], name: str) -> threading.Thread:
    """A thread, not started, that inherits this one's context and torch modes.

    It is no daemon: Python waits for it at exit, so that files are closed even if the stream was not.
    """
    modes = _torch_modes()

    def run() -> None:
        with ExitStack() as stack:
            for mode in modes:
                stack.enter_context(mode)
            target()

    return threading.Thread(target=copy_context().run, args=(run,), name=f"steadyscale {name}", daemon=False)


def _torch_modes() -> list[AbstractContextManager[object]]:
    """Return the torch modes of this thread, to be entered by another one.

    Empty if torch was not imported.
    """
    if "torch" not in sys.modules:
        return []
    import torch

    modes: list[AbstractContextManager[object]] = [
        torch.inference_mode(torch.is_inference_mode_enabled()),
        torch.set_grad_enabled(torch.is_grad_enabled()),
    ]
    return [*modes, *device_contexts()]


def _join(worker: threading.Thread, timeout: float | None = None) -> None:
    """Wait until a thread has ended; after `timeout` seconds log a warning and return."""
    start = monotonic()
    while (
        worker.is_alive() and worker is not threading.current_thread()
    ):  # The garbage collector may close a stage in any thread.
        if timeout is not None and monotonic() - start > timeout:
            log.warning("thread %r has not stopped after %.0f seconds; continuing without it", worker.name, timeout)
            return
        worker.join(POLL_SECONDS)


def _clear_frames(error: BaseException) -> BaseException:
    """Clear the locals of the error's frames; returns the error.

    Otherwise the input, files and memory of a failed stage, and the threads before it, would live as long as the error.
    """
    traceback.clear_frames(error.__traceback__)
    return error
