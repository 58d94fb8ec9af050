"""A time limit for the code of a `with` block."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Generator
from contextlib import contextmanager


class TimeIsUp(BaseException):
    """The time is over.

    It is no `Exception`, because fallbacks for errors must not handle it.
    """


@contextmanager
def time_limit(seconds: float) -> Generator[None, None, None]:
    """Raise TimeIsUp in this thread after that time.

    It is raised between two instructions of Python: a call into a library ends first. Unlike an alarm signal it works
    on every system and beside a test timeout.
    """
    thread, lock, is_over = threading.get_ident(), threading.Lock(), False

    def interrupt() -> None:
        with lock:
            if not is_over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TimeIsUp))

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            is_over = True
        timer.cancel()
