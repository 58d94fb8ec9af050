"""glibc malloc tuning for CPU inference.

glibc maps every block above a threshold anew and unmaps it when it is freed. The activations of a convolution are such
blocks, and each of their pages costs a page fault and is zeroed. `retain_freed_memory` keeps them in the process for
the length of a stream. Other C libraries are left as they are.

Measured on 2 threads of an AMD EPYC (7 frames of 480x270 through steadyscale-4x in torch, program start included):
7.0 s of CPU time with it, 7.5 s without. It makes no difference for the native engine, which keeps its own buffers.
"""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache

log = logging.getLogger(__name__)

# mallopt(3), M_...
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_MIB = 1 << 20
_MAX_MMAP_THRESHOLD = 32 * _MIB  # the highest that glibc accepts
# The largest block that is retained; the rest is for its header and alignment.
MAX_RETAINED_BYTES = _MAX_MMAP_THRESHOLD - (64 << 10)

_RETAINING = {_MMAP_THRESHOLD: _MAX_MMAP_THRESHOLD, _TRIM_THRESHOLD: 2000 * _MIB, _TOP_PAD: 64 * _MIB}
# What glibc adapts to in a process that has freed a large block, as every process with torch has.
_ADAPTED = {_MMAP_THRESHOLD: _MAX_MMAP_THRESHOLD, _TRIM_THRESHOLD: 64 * _MIB, _TOP_PAD: 128 << 10}

_lock = threading.RLock()  # The garbage collector may close a stream at any time, here as well.
_streams = 0  # that retain memory now; the options apply to the process


@contextmanager
def retain_freed_memory() -> Generator[None, None, None]:
    """Reuse freed blocks of up to 32 MB within a `with` block.

    They are not returned to the system meanwhile.
    """
    global _streams
    libc = _glibc()
    if libc is None:
        yield
        return
    with _lock:
        if _streams == 0:
            libc.malloc_trim(0)  # Otherwise memory that was freed earlier would be retained as well.
        _streams += 1
        _set_options(libc, _RETAINING)
    try:
        yield
    finally:
        with _lock:
            _streams -= 1
            if _streams == 0:
                _set_options(libc, _ADAPTED)
                libc.malloc_trim(0)


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
