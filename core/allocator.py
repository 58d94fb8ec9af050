"""How the C library keeps memory: not handed back after each layer of a network on a CPU, nor strewn about in crumbs.

glibc maps every block above a threshold anew and unmaps it when it is freed. The activations of a convolution are such
blocks, and each of their pages costs a fault and is filled with noughts before the first number is written: up to a
third of a network's time. `kept_pages` lets the process keep them while a stream lasts, and gives them back at its end.

glibc also puts small blocks that are freed aside, to be used again for the same size only. Blocks that have to begin at
a multiple of 64 bytes, as FFmpeg wants them, are cut out of larger ones and leave such crumbs. In a heap whose blocks
are freed by other threads nothing ever takes them up: a kilobyte with each frame. `joined_crumbs` prevents that.
Other C libraries are left as they are.
"""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

log = logging.getLogger(__name__)

# mallopt(3), M_...
_MXFAST, _TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = 1, -1, -2, -3, -8
_MIB = 1 << 20
_MOST = 32 * _MIB  # the highest threshold that glibc takes
KEPT = _MOST - (64 << 10)  # bytes of the largest block that is kept, with room for its header and alignment
_WHILE_KEPT = {_MMAP_THRESHOLD: _MOST, _TRIM_THRESHOLD: 2000 * _MIB, _TOP_PAD: 64 * _MIB}
# What glibc's own rule arrives at in a process that has freed a large block, as every process with torch has.
_OTHERWISE = {_MMAP_THRESHOLD: _MOST, _TRIM_THRESHOLD: 64 * _MIB, _TOP_PAD: 128 << 10}

_USUAL_CRUMBS = 16 * ctypes.sizeof(ctypes.c_void_p)  # bytes of the largest block that glibc puts aside

_lock = threading.RLock()  # A collector may close a stream anywhere, here too.
# Streams that keep pages and that join crumbs now: the settings are those of the whole process.
_keeping = _joining = 0


@contextmanager
def kept_pages() -> Iterator[None]:
    """While it lasts, freed memory of up to 32 MB a block is used again instead of being returned to the system."""
    global _keeping
    libc = _glibc()
    if libc is None:
        yield
        return
    with _lock:
        if _keeping == 0:
            libc.malloc_trim(0)  # What lies free from work before, a plan of a long clip say, would stay as long.
        _keeping += 1
        _set(libc, _WHILE_KEPT)
    try:
        yield
    finally:
        with _lock:
            _keeping -= 1
            if _keeping == 0:
                _set(libc, _OTHERWISE)
                libc.malloc_trim(0)


@contextmanager
def joined_crumbs() -> Iterator[None]:
    """While it lasts, small blocks that are freed are joined with what lies free beside them, and so used again."""
    global _joining
    libc = _glibc()
    if libc is None:
        yield
        return
    with _lock:
        _joining += 1
        _set(libc, {_MXFAST: 0})
    try:
        yield
    finally:
        with _lock:
            _joining -= 1
            if _joining == 0:
                _set(libc, {_MXFAST: _USUAL_CRUMBS})


def few_heaps() -> None:
    """Let all threads share two heaps, for the whole program: what one thread of a pipeline makes another one frees,
    and heaps of their own fill up with holes, by a kilobyte with each small frame.
    """
    libc = _glibc()
    if libc is not None:
        _set(libc, {_ARENA_MAX: 2})


def _set(libc: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        if not libc.mallopt(option, value):
            log.debug("mallopt(%d, %d) was refused", option, value)


@lru_cache(maxsize=1)
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt") else None
