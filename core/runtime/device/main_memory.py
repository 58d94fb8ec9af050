"""Free main memory, of the machine and of its container."""

from __future__ import annotations

from math import inf
from pathlib import Path


def free_main_memory() -> float:
    """Bytes of main memory that can be allocated now."""
    import psutil

    return min(psutil.virtual_memory().available, _free_in_container())


def _free_in_container() -> float:
    """Return the bytes that are left below the container's limit (cgroup v2).

    Beyond the limit the system kills the process. Infinity without a limit.
    """
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (
            (group / "memory.max").read_text(encoding="ascii").strip(),
            (group / "memory.current").read_text(encoding="ascii"),
        )
    except OSError:
        return inf
    return inf if limit == "max" else max(0.0, float(limit) - float(used))
