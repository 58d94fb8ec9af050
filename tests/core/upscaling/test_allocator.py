"""Pages that the C library keeps while a stream lasts: counted in page faults, which a kernel counts exactly."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading

import pytest
import torch
from steadyscale.core.upscaling import allocator
from steadyscale.core.upscaling.allocator import kept_pages

glibc = pytest.mark.skipif(
    not sys.platform.startswith("linux") or allocator._glibc() is None, reason="only glibc can be told"
)
PAGES = (16 << 20) // resource.getpagesize()  # of one block
ROUNDS = 8


def faults() -> int:
    """Page faults of a chain of blocks of which two live at a time, as in a network."""
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    last = torch.empty(0)
    for _ in range(ROUNDS):
        last = torch.full((4 << 20,), 1.0)
    del last
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before


@glibc
def test_blocks_are_faulted_in_once_and_not_in_each_round():
    with kept_pages():
        assert faults() < ROUNDS * PAGES / 2
        assert faults() < PAGES / 2


@glibc
def test_the_memory_goes_back_when_the_last_stream_ends(monkeypatch):
    said = []

    class Library:
        def mallopt(self, option: int, value: int) -> int:
            said.append((option, value))
            return 1

        def malloc_trim(self, pad: int) -> int:
            said.append("trimmed")
            return 1

    monkeypatch.setattr(allocator, "_glibc", Library)
    with kept_pages():
        assert said.pop(0) == "trimmed", "what lay free before is not kept with the rest"
        with pytest.raises(RuntimeError), kept_pages():
            raise RuntimeError
        assert "trimmed" not in said, "the outer stream goes on"
        kept = dict(said)
    assert said[-1] == "trimmed"
    assert all(value < kept[option] or option == allocator._MMAP_THRESHOLD for option, value in said[-4:-1])


def test_streams_of_several_threads_do_not_disturb_each_other():
    def use() -> None:
        for _ in range(20):
            with kept_pages():
                torch.zeros(1 << 20)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert allocator._streams == 0


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(allocator, "_glibc", lambda: None)
    with kept_pages():
        assert allocator._streams == 0


@glibc
def test_threads_share_two_heaps():
    """What glibc tells of its heaps, by a program whose threads all hold memory at once."""
    program = """
import ctypes, sys, threading
from steadyscale.core.upscaling.allocator import few_heaps

if sys.argv[1:]:
    few_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
all_there = threading.Barrier(8)

def hold():
    libc.malloc(1000)
    all_there.wait()

threads = [threading.Thread(target=hold) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
libc.malloc_stats()
"""
    heaps = []
    for words in ([], ["few"]):
        told = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
        heaps.append(told.stderr.count("Arena "))
    assert heaps[0] > 2
    assert heaps[1] <= 2
