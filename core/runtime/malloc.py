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
_MOST = 32 * _MIB  # the highest threshold that glibc takes
KEPT = _MOST - (64 << 10)  # bytes of the largest block that is kept, with room for its header and alignment
_USUAL_CRUMBS = 16 * ctypes.sizeof(ctypes.c_void_p)  # bytes of the largest block that glibc puts aside

_lock = threading.RLock()  # A collector may close a stream anywhere, here too.


@dataclass
class _Setting:
    """Options of glibc, which are those of the whole process. streams: that want it otherwise now."""

    meanwhile: dict[int, int]
    usual: dict[int, int]
    trims: bool = False  # whether what lies free goes back to the system before and after
    streams: int = 0


_PAGES = _Setting(
    meanwhile={_MMAP_THRESHOLD: _MOST, _TRIM_THRESHOLD: 2000 * _MIB, _TOP_PAD: 64 * _MIB},
    # What glibc's own rule arrives at in a process that has freed a large block, as every process with torch has.
    usual={_MMAP_THRESHOLD: _MOST, _TRIM_THRESHOLD: 64 * _MIB, _TOP_PAD: 128 << 10},
    trims=True,  # What lies free from work before, a plan of a long clip say, would stay as long.
)
_CRUMBS = _Setting(meanwhile={_MXFAST: 0}, usual={_MXFAST: _USUAL_CRUMBS})


def kept_pages() -> AbstractContextManager[None]:
    """While it lasts, freed memory of up to 32 MB a block is used again instead of being returned to the system."""
    return _lasting(_PAGES)


def joined_crumbs() -> AbstractContextManager[None]:
    """While it lasts, small blocks that are freed are joined with what lies free beside them, and so used again."""
    return _lasting(_CRUMBS)


@contextmanager
def _lasting(setting: _Setting) -> Iterator[None]:
    libc = _glibc()
    if libc is None:
        yield
        return
    with _lock:
        if setting.trims and setting.streams == 0:
            libc.malloc_trim(0)
        setting.streams += 1
        _set(libc, setting.meanwhile)
    try:
        yield
    finally:
        with _lock:
            setting.streams -= 1
            if setting.streams == 0:
                _set(libc, setting.usual)
                if setting.trims:
                    libc.malloc_trim(0)


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
