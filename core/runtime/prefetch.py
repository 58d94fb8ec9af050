"""Stages side by side: one in a thread of its own, ahead of who takes its items, or behind who makes them.

Decoding, OpenCV, torch and encoding let go of Python's lock while they work, so threads are enough to keep all cores,
or the device, busy. The order of items is kept, and so is every error: it is raised, with its traceback, where the
stream is used. A stage that fails or is not wanted any more stops the others within the item that they work on; its
thread has ended, and its files are closed, before the error is seen.

Blocks of memory that one thread makes and another frees are joined while stages run (allocator.py).

What belongs to a thread is taken over from the one that starts the stage: context variables, inference and gradient
mode, and the CUDA device. Autocast is not.
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

from .malloc import disable_fastbins

log = logging.getLogger(__name__)

T = TypeVar("T")

POLL_SECONDS = 0.2  # seconds after which a wait looks whether the other side is still there
STOP_TIMEOUT_SECONDS = 60.0  # seconds that a stage which is not wanted any more may need for the item it works on
_SHUTDOWN_MESSAGE = "the other side of a stage has ended without a word: the program is shutting down"


def prefetch(stream: Iterable[T], depth: int = 2, name: str = "ahead") -> Generator[T, None, None]:
    """The same items in the same order; `stream` makes them in a thread of its own, ahead of the one that takes them.

    depth: how many may be made or in the making beside the one that was taken last; memory is needed for no more.
    The thread starts when the first item is asked for. What `stream` raises is raised here. Closing or dropping the
    result closes `stream`, in its thread, and waits for that. Raises ValueError for a depth below 1.
    """
    return _prefetch(iter(stream), _BoundedChannel(depth), name)


def _prefetch(stream: Iterator[T], channel: _BoundedChannel[T], name: str) -> Generator[T, None, None]:
    unclosed: list[BaseException] = []

    def produce() -> None:
        error = None
        try:
            while channel.wait_for_slot(_is_program_alive) and (box := list(islice(stream, 1))):
                channel.put(box)
        except BaseException as e:  # whatever ends a thread would be lost with it, an interrupt too
            error = _clear_frames(e)
        try:
            close(stream)
        except BaseException as e:  # as above
            unclosed.append(_clear_frames(e))
        channel.end(error)
        del error

    worker = _make_thread(produce, name)
    with disable_fastbins():
        try:
            worker.start()
            while box := channel.get(worker.is_alive):
                yield box.pop()  # Nothing here holds the item: its taker decides how long it lives.
        finally:
            channel.stop()
            _join(worker, STOP_TIMEOUT_SECONDS)
            if unclosed:
                raise unclosed.pop()


def write_behind(stream: Iterable[T], write: Callable[[T], object], depth: int = 2, name: str = "behind") -> None:
    """Call `do(item)` for all items in order, in a thread of its own, while this one goes on to the next of `stream`.

    depth: how many may be made or in the making beside the one that is being done; memory is needed for no more.
    Returns when all are done. What `stream` or `do` raises is raised here; items that wait are dropped then, and
    `stream` is closed. Raises ValueError for a depth below 1.
    """
    source, belt = iter(stream), _BoundedChannel[T](depth)
    failed: list[BaseException] = []

    def consume() -> None:
        try:
            while box := belt.get(_is_program_alive):
                write(box.pop())
        except BaseException as e:  # raised again in the thread that waits
            failed.append(_clear_frames(e))
            belt.stop()

    worker = _make_thread(consume, name)
    with disable_fastbins():
        try:
            worker.start()
            while belt.wait_for_slot(worker.is_alive) and (box := list(islice(source, 1))):
                belt.put(box)
            belt.end()
            _join(worker)
            if failed:
                raise failed.pop()
        except BaseException as e:  # also an interrupt must not keep frames alive by its traceback
            _clear_frames(e)
            raise
        finally:
            belt.stop()
            _join(worker, STOP_TIMEOUT_SECONDS)
            close(source)


def chain_first(first: list[T], rest: Iterator[T]) -> Iterator[T]:
    """A stream whose first item was looked at: what is held, which is let go as it is given, and the rest."""
    yield first.pop()
    yield from rest


def close(stream: object) -> None:
    """Close a generator, which runs its `finally` and `with` blocks; nothing for what cannot be closed."""
    end = getattr(stream, "close", None)
    if callable(end):
        end()


class _EndOfStream:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _BoundedChannel(Generic[T]):
    """Carries items from one thread to another in boxes: lists of one item, which the taker empties.

    Its queues are of the kind that a signal or a garbage collection may interrupt anywhere. Waits look now and then
    whether the other side is alive, so that each has an end.
    """

    def __init__(self, depth: int) -> None:
        if depth < 1:
            raise ValueError(f"a stage needs room for at least 1 item, got {depth}")
        self._boxes: SimpleQueue[list[T] | _EndOfStream] = SimpleQueue()
        self._slots: SimpleQueue[None] = SimpleQueue()
        self._stopped = False
        for _ in range(depth):
            self._slots.put(None)

    def wait_for_slot(self, is_consumer_alive: Callable[[], bool]) -> bool:
        """Wait until there is room for one more item; False when stopped."""
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
        """There are no more items; the taker raises the error, where there is one."""
        self._boxes.put(_EndOfStream(error))

    def get(self, is_producer_alive: Callable[[], bool]) -> list[T]:
        """Wait for the next box, and make room for another; an empty one at the end, or when stopped."""
        box, alive = None, True
        while box is None and not self._stopped:
            try:
                box = self._boxes.get(timeout=POLL_SECONDS if alive else 0)
            except Empty:
                if not alive:
                    raise RuntimeError(_SHUTDOWN_MESSAGE) from None
                alive = is_producer_alive()  # If it is not, it may still have left something.
        if isinstance(box, list):
            self._slots.put(None)
            return box
        try:
            if box is not None and box.error is not None:
                raise box.error
            return []
        finally:
            del box  # An error held by a frame that it names itself would outlive its handling.

    def stop(self) -> None:
        """Nobody wants more items, and those on the belt are dropped; wakes whoever waits."""
        self._stopped = True
        self._slots.put(None)
        self._boxes.put(_EndOfStream(None))


def _is_program_alive() -> bool:
    """Whether the program goes on: at its end Python waits for threads, which must notice that by themselves."""
    return threading.main_thread().is_alive()


def _make_thread(target: Callable[[], None], name: str) -> threading.Thread:
    """A thread, not yet started, for work that is done as it would be in this one. Python waits for it when it exits,
    so that files are closed even where nobody closed the stream.
    """
    modes = _torch_modes()

    def run() -> None:
        with ExitStack() as stack:
            for mode in modes:
                stack.enter_context(mode)
            target()

    return threading.Thread(target=copy_context().run, args=(run,), name=f"steadyscale {name}", daemon=False)


def _torch_modes() -> list[AbstractContextManager[object]]:
    """What holds here of torch, where the program has loaded it at all, to be entered by another thread."""
    if "torch" not in sys.modules:
        return []
    import torch

    modes = [torch.inference_mode(torch.is_inference_mode_enabled()), torch.set_grad_enabled(torch.is_grad_enabled())]
    return [*modes, torch.cuda.device(torch.cuda.current_device())] if torch.cuda.is_initialized() else modes


def _join(worker: threading.Thread, timeout: float | None = None) -> None:
    """Wait until a thread has ended; after `patience` seconds say that it is left alone, and go on."""
    begun = monotonic()
    while worker.is_alive() and worker is not threading.current_thread():  # A collector may close a stage anywhere.
        if timeout is not None and monotonic() - begun > timeout:
            log.warning("%s has not stopped after %.0f seconds; it is left alone", worker.name, timeout)
            return
        worker.join(POLL_SECONDS)


def _clear_frames(error: BaseException) -> BaseException:
    """The error, whose frames hold nothing any more: a failed stage's input, files and memory would live as long as
    somebody keeps the error, and the threads ahead of it too.
    """
    traceback.clear_frames(error.__traceback__)
    return error
