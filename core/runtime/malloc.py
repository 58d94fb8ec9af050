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
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache

log = logging.getLogger(__name__)

# mallopt(3), M_...
_MXFAST, _TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = 1, -1, -2, -3, -8
_MIB = 1 << 20
_MAX_MMAP_THRESHOLD = 32 * _MIB  # the highest threshold that glibc takes
MAX_RETAINED_BYTES = _MAX_MMAP_THRESHOLD - (
    64 << 10
)  # bytes of the largest block that is kept, with room for its header and alignment
_DEFAULT_MXFAST_BYTES = 16 * ctypes.sizeof(ctypes.c_void_p)  # bytes of the largest block that glibc puts aside

_lock = threading.RLock()  # A collector may close a stream anywhere, here too.


@dataclass
class _MallocOptions:
    """Options of glibc, which are those of the whole process. streams: that want it otherwise now."""

    active: dict[int, int]
    default: dict[int, int]
    trim: bool = False  # whether what lies free goes back to the system before and after
    refcount: int = 0


_RETAIN_FREED = _MallocOptions(
    active={_MMAP_THRESHOLD: _MAX_MMAP_THRESHOLD, _TRIM_THRESHOLD: 2000 * _MIB, _TOP_PAD: 64 * _MIB},
    # What glibc's own rule arrives at in a process that has freed a large block, as every process with torch has.
    default={_MMAP_THRESHOLD: _MAX_MMAP_THRESHOLD, _TRIM_THRESHOLD: 64 * _MIB, _TOP_PAD: 128 << 10},
    trim=True,  # What lies free from work before, a plan of a long clip say, would stay as long.
)
_NO_FASTBINS = _MallocOptions(active={_MXFAST: 0}, default={_MXFAST: _DEFAULT_MXFAST_BYTES})


def retain_freed_memory() -> AbstractContextManager[None]:
    """While it lasts, freed memory of up to 32 MB a block is used again instead of being returned to the system."""
    return _applied_options(_RETAIN_FREED)


def disable_fastbins() -> AbstractContextManager[None]:
    """While it lasts, small blocks that are freed are joined with what lies free beside them, and so used again."""
    return _applied_options(_NO_FASTBINS)


@contextmanager
def _applied_options(options: _MallocOptions) -> Iterator[None]:
    libc = _glibc()
    if libc is None:
        yield
        return
    with _lock:
        if options.trim and options.refcount == 0:
            libc.malloc_trim(0)
        options.refcount += 1
        _set_options(libc, options.active)
    try:
        yield
    finally:
        with _lock:
            options.refcount -= 1
            if options.refcount == 0:
                _set_options(libc, options.default)
                if options.trim:
                    libc.malloc_trim(0)


def limit_arenas() -> None:
    """Let all threads share two heaps, for the whole program: what one thread of a pipeline makes another one frees,
    and heaps of their own fill up with holes, by a kilobyte with each small frame.
    """
    libc = _glibc()
    if libc is not None:
        _set_options(libc, {_ARENA_MAX: 2})


def _set_options(libc: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        if not libc.mallopt(option, value):
            log.debug("mallopt(%d, %d) was refused", option, value)


@lru_cache(maxsize=1)
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt") else None
