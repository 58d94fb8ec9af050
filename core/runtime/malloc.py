"""glibc malloc tuning for CPU inference and for pipelines of threads.

Other C libraries are left as they are.

glibc maps every block above a threshold anew and unmaps it when it is freed. The activations of a convolution are such
blocks, and each of their pages costs a page fault and is zeroed: up to a third of a network's time.
`retain_freed_memory` keeps them in the process for the length of a stream.

glibc keeps small freed blocks in fastbins, to be used again for the same size only. Blocks that are aligned to 64
bytes, as FFmpeg's, are cut from larger ones and leave such remainders. In a heap whose blocks are freed by other
threads they are never used again, which leaks a kilobyte per frame. `disable_fastbins` prevents that.
"""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache

log = logging.getLogger(__name__)

# mallopt(3), M_...
_MXFAST, _TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = 1, -1, -2, -3, -8
_MIB = 1 << 20
_MAX_MMAP_THRESHOLD = 32 * _MIB  # the highest that glibc accepts
# The largest block that is retained; the rest is for its header and alignment.
MAX_RETAINED_BYTES = _MAX_MMAP_THRESHOLD - (64 << 10)
_DEFAULT_MXFAST_BYTES = 16 * ctypes.sizeof(ctypes.c_void_p)

_lock = threading.RLock()  # The garbage collector may close a stream at any time, here as well.


@dataclass
class _MallocOptions:
    """Options of glibc, which apply to the process, and how many streams use them now.

    trim: return free memory to the system when the first stream starts and when the last one ends.
    """

    active: dict[int, int]
    default: dict[int, int]
    trim: bool = False
    refcount: int = 0


_RETAIN_FREED = _MallocOptions(
    active={_MMAP_THRESHOLD: _MAX_MMAP_THRESHOLD, _TRIM_THRESHOLD: 2000 * _MIB, _TOP_PAD: 64 * _MIB},
    # What glibc adapts to in a process that has freed a large block, as every process with torch has.
    default={_MMAP_THRESHOLD: _MAX_MMAP_THRESHOLD, _TRIM_THRESHOLD: 64 * _MIB, _TOP_PAD: 128 << 10},
    trim=True,  # Otherwise memory that was freed earlier would be retained as well.
)
_NO_FASTBINS = _MallocOptions(active={_MXFAST: 0}, default={_MXFAST: _DEFAULT_MXFAST_BYTES})


def retain_freed_memory() -> AbstractContextManager[None]:
    """Reuse freed blocks of up to 32 MB within a `with` block.

    They are not returned to the system meanwhile.
    """
    return _applied_options(_RETAIN_FREED)


def disable_fastbins() -> AbstractContextManager[None]:
    """Merge small freed blocks with free neighbors within a `with` block.

    So they can be used again.
    """
    return _applied_options(_NO_FASTBINS)


@contextmanager
def _applied_options(options: _MallocOptions) -> Generator[None, None, None]:
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
    """Let all threads share two heaps, for the length of the program.

    What one thread of a pipeline allocates another one frees, which fragments heaps of their own by a kilobyte with
    each small frame.
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
