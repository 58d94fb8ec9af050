"""The peak memory of this process."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import psutil


def peak_memory_mb() -> float | None:
    """The peak resident memory of this process, in 10^6 bytes.

    None where the system does not report one.
    """
    peak = _peak_bytes()
    return None if peak is None else round(peak / 1e6, 1)


def _peak_bytes() -> int | None:
    """psutil reports peaks on Windows only."""
    if (peak := getattr(psutil.Process().memory_info(), "peak_wset", None)) is not None:
        return int(peak)
    # On Linux `ru_maxrss` includes the process that started this one, which may be a whole ComfyUI.
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)  # macOS counts in bytes, others in KiB
