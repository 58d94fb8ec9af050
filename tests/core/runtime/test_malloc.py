"""glibc retains pages while a stream lasts, which page faults show exactly."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import torch
from steadyscale.core.runtime import malloc
from steadyscale.core.runtime.malloc import retain_freed_memory

glibc = pytest.mark.skipif(not sys.platform.startswith("linux") or malloc._glibc() is None, reason="needs glibc")
FAULTS = """
import resource
import torch
from steadyscale.core.runtime.malloc import retain_freed_memory

PAGES, ROUNDS = (16 << 20) // resource.getpagesize(), 8  # of one block; of blocks

def faults() -> int:
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    last = torch.empty(0)
    for _ in range(ROUNDS):
        last = torch.full((4 << 20,), 1.0)
    del last
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

with retain_freed_memory():
    kept = min(faults() for _ in range(20))
print(kept, max(faults() for _ in range(20)), PAGES)
"""


@glibc
def test_pages_of_freed_blocks_are_retained():
    """Chains of 8 blocks of which two live at a time, as in a network, in a process of their own.

    Which chain is the first that finds its memory again depends on threads and on other allocations, so the one with
    the fewest page faults counts; and without it the one with the most.
    """
    process = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    kept, otherwise, block = (int(number) for number in process.stdout.split())
    assert kept < block / 100
    assert otherwise > block, "without it, pages go back to the system"


@glibc
def test_memory_is_returned_when_the_last_stream_ends(monkeypatch):
    calls = []

    class Library:
        def mallopt(self, option: int, value: int) -> int:
            calls.append((option, value))
            return 1

        def malloc_trim(self, pad: int) -> int:
            calls.append("trimmed")
            return 1

    monkeypatch.setattr(malloc, "_glibc", Library)
    with retain_freed_memory():
        assert calls.pop(0) == "trimmed", "memory that was free before is not retained"
        with pytest.raises(RuntimeError), retain_freed_memory():
            raise RuntimeError
        assert "trimmed" not in calls, "the outer stream goes on"
        kept = dict(calls)
    assert calls[-1] == "trimmed"
    assert all(value < kept[option] or option == malloc._MMAP_THRESHOLD for option, value in calls[-4:-1])


def test_streams_of_several_threads_are_counted():
    def use() -> None:
        for _ in range(20):
            with retain_freed_memory():
                torch.zeros(1 << 20)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert malloc._streams == 0


def test_other_c_libraries_are_not_changed(monkeypatch):
    monkeypatch.setattr(malloc, "_glibc", lambda: None)
    with retain_freed_memory():
        assert malloc._streams == 0
