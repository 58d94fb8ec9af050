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
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from contextvars import copy_context
from itertools import islice
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Generic, TypeVar

from .malloc import joined_crumbs

log = logging.getLogger(__name__)

T = TypeVar("T")

GLANCE = 0.2  # seconds after which a wait looks whether the other side is still there
PATIENCE = 60.0  # seconds that a stage which is not wanted any more may need for the item it works on
_SHUTDOWN = "the other side of a stage has ended without a word: the program is shutting down"


def ahead(stream: Iterable[T], depth: int = 2, name: str = "ahead") -> Iterator[T]:
    """The same items in the same order; `stream` makes them in a thread of its own, ahead of the one that takes them.

    depth: how many may be made or in the making beside the one that was taken last; memory is needed for no more.
    The thread starts when the first item is asked for. What `stream` raises is raised here. Closing or dropping the
    result closes `stream`, in its thread, and waits for that. Raises ValueError for a depth below 1.
    """
    return _ahead(iter(stream), _Belt(depth), name)


def _ahead(stream: Iterator[T], belt: _Belt[T], name: str) -> Iterator[T]:
    unclosed: list[BaseException] = []

    def make() -> None:
        error = None
        try:
            while belt.has_room(_program) and (box := list(islice(stream, 1))):
                belt.give(box)
        except BaseException as e:  # whatever ends a thread would be lost with it, an interrupt too
            error = _let_go(e)
        try:
            close(stream)
        except BaseException as e:  # as above
            unclosed.append(_let_go(e))
        belt.end(error)
        del error

    worker = _thread(make, name)
    with joined_crumbs():
        try:
            worker.start()
            while box := belt.take(worker.is_alive):
                yield box.pop()  # Nothing here holds the item: its taker decides how long it lives.
        finally:
            belt.stop()
            _await_end(worker, PATIENCE)
            if unclosed:
                raise unclosed.pop()


def behind(stream: Iterable[T], do: Callable[[T], object], depth: int = 2, name: str = "behind") -> None:
    """Call `do(item)` for all items in order, in a thread of its own, while this one goes on to the next of `stream`.

    depth: how many may be made or in the making beside the one that is being done; memory is needed for no more.
    Returns when all are done. What `stream` or `do` raises is raised here; items that wait are dropped then, and
    `stream` is closed. Raises ValueError for a depth below 1.
    """
    source, belt = iter(stream), _Belt[T](depth)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            while box := belt.take(_program):
                do(box.pop())
        except BaseException as e:  # raised again in the thread that waits
            failed.append(_let_go(e))
            belt.stop()

    worker = _thread(work, name)
    with joined_crumbs():
        try:
            worker.start()
            while belt.has_room(worker.is_alive) and (box := list(islice(source, 1))):
                belt.give(box)
            belt.end()
            _await_end(worker)
            if failed:
                raise failed.pop()
        except BaseException as e:  # also an interrupt must not keep frames alive by its traceback
            _let_go(e)
            raise
        finally:
            belt.stop()
            _await_end(worker, PATIENCE)
            close(source)


def with_first(held: list[T], rest: Iterator[T]) -> Iterator[T]:
    """A stream whose first item was looked at: what is held, which is let go as it is given, and the rest."""
    yield held.pop()
    yield from rest


def close(stream: object) -> None:
    """Close a generator, which runs its `finally` and `with` blocks; nothing for what cannot be closed."""
    end = getattr(stream, "close", None)
    if callable(end):
        end()


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _Belt(Generic[T]):
    """Carries items from one thread to another in boxes: lists of one item, which the taker empties.

    Its queues are of the kind that a signal or a garbage collection may interrupt anywhere. Waits look now and then
    whether the other side is alive, so that each has an end.
    """

    def __init__(self, depth: int) -> None:
        if depth < 1:
            raise ValueError(f"a stage needs room for at least 1 item, got {depth}")
        self._boxes: SimpleQueue[list[T] | _End] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        self._stopped = False
        for _ in range(depth):
            self._room.put(None)

    def has_room(self, taker: Callable[[], bool]) -> bool:
        """Wait until there is room for one more item; False when stopped."""
        while not self._stopped:
            try:
                self._room.get(timeout=GLANCE)
                break
            except Empty:
                if not taker() and not self._stopped:
                    raise RuntimeError(_SHUTDOWN) from None
        return not self._stopped

    def give(self, box: list[T]) -> None:
        self._boxes.put(box)

    def end(self, error: BaseException | None = None) -> None:
        """There are no more items; the taker raises the error, where there is one."""
        self._boxes.put(_End(error))

    def take(self, giver: Callable[[], bool]) -> list[T]:
        """Wait for the next box, and make room for another; an empty one at the end, or when stopped."""
        box, alive = None, True
        while box is None and not self._stopped:
            try:
                box = self._boxes.get(timeout=GLANCE if alive else 0)
            except Empty:
                if not alive:
                    raise RuntimeError(_SHUTDOWN) from None
                alive = giver()  # If it is not, it may still have left something.
        if isinstance(box, list):
            self._room.put(None)
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
        self._room.put(None)
        self._boxes.put(_End(None))


def _program() -> bool:
    """Whether the program goes on: at its end Python waits for threads, which must notice that by themselves."""
    return threading.main_thread().is_alive()


def _thread(work: Callable[[], None], name: str) -> threading.Thread:
    """A thread, not yet started, for work that is done as it would be in this one. Python waits for it when it exits,
    so that files are closed even where nobody closed the stream.
    """
    modes = _modes()

    def run() -> None:
        with ExitStack() as stack:
            for mode in modes:
                stack.enter_context(mode)
            work()

    return threading.Thread(target=copy_context().run, args=(run,), name=f"steadyscale {name}", daemon=False)


def _modes() -> list[AbstractContextManager[object]]:
    """What holds here of torch, where the program has loaded it at all, to be entered by another thread."""
    if "torch" not in sys.modules:
        return []
    import torch

    modes = [torch.inference_mode(torch.is_inference_mode_enabled()), torch.set_grad_enabled(torch.is_grad_enabled())]
    return [*modes, torch.cuda.device(torch.cuda.current_device())] if torch.cuda.is_initialized() else modes


def _await_end(worker: threading.Thread, patience: float | None = None) -> None:
    """Wait until a thread has ended; after `patience` seconds say that it is left alone, and go on."""
    begun = monotonic()
    while worker.is_alive() and worker is not threading.current_thread():  # A collector may close a stage anywhere.
        if patience is not None and monotonic() - begun > patience:
            log.warning("%s has not stopped after %.0f seconds; it is left alone", worker.name, patience)
            return
        worker.join(GLANCE)


def _let_go(error: BaseException) -> BaseException:
    """The error, whose frames hold nothing any more: a failed stage's input, files and memory would live as long as
    somebody keeps the error, and the threads ahead of it too.
    """
    traceback.clear_frames(error.__traceback__)
    return error
