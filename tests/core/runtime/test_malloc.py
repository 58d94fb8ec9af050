"""glibc retains pages while a stream lasts, which page faults show exactly."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import torch
from steadyscale.core.runtime import malloc
from steadyscale.core.runtime.malloc import retain_freed_memory
from steadyscale.core.runtime.prefetch import prefetch, write_behind

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
    kept = [faults() for _ in range(4)]
print(*kept, faults(), PAGES)
"""


@glibc
def test_pages_of_freed_blocks_are_retained():
    """Chains of 8 blocks of which two live at a time, as in a network, in a process of their own. It takes two
    chains until each block has memory to return to."""
    process = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    first, second, third, fourth, otherwise, block = (int(number) for number in process.stdout.split())
    assert first + second < 16 * block, "how soon depends on the number of threads that fault"
    assert third + fourth < block / 100
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
    assert malloc._RETAIN_FREED.refcount == 0


def test_other_c_libraries_are_not_changed(monkeypatch):
    monkeypatch.setattr(malloc, "_glibc", lambda: None)
    with retain_freed_memory():
        assert malloc._RETAIN_FREED.refcount == 0


@glibc
def test_threads_share_two_heaps():
    """glibc's own statistics of a program whose threads all hold memory at once."""
    program = """
import ctypes, sys, threading
from steadyscale.core.runtime.malloc import limit_arenas

if sys.argv[1:]:
    limit_arenas()
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
        process = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
        heaps.append(process.stderr.count("Arena "))
    assert heaps[0] > 2
    assert heaps[1] <= 2


FASTBINS = """
import ctypes, re, tempfile, threading
from contextlib import nullcontext
from steadyscale.core.runtime.malloc import disable_fastbins

libc = ctypes.CDLL(None)
libc.malloc_info.argtypes = ctypes.c_int, ctypes.c_void_p
libc.fopen.restype = ctypes.c_void_p
libc.fclose.argtypes = libc.free.argtypes = (ctypes.c_void_p,)

def aside():
    with tempfile.NamedTemporaryFile() as file:
        stream = libc.fopen(file.name.encode(), b"w")
        libc.malloc_info(0, stream)
        libc.fclose(stream)
        *_, total = re.findall(r'type="fast" count="[0-9]+" size="([0-9]+)"', file.read().decode())
        return int(total)

def make(blocks):
    for block in blocks:
        assert libc.posix_memalign(ctypes.byref(block), 64, 48) == 0

for mode in disable_fastbins, nullcontext:
    blocks = [ctypes.c_void_p() for _ in range(20_000)]
    with mode():
        maker = threading.Thread(target=make, args=(blocks,))
        maker.start()
        maker.join()
        for block in blocks:
            libc.free(block)
        print(aside())
"""


@glibc
def test_small_blocks_that_another_thread_frees_do_not_accumulate():
    """glibc's own statistics of fastbins, with and without."""
    process = subprocess.run([sys.executable, "-c", FASTBINS], capture_output=True, text=True, check=True)
    joined, aside = (int(size) for size in process.stdout.split())
    assert aside > 500_000, "this glibc uses fastbins; otherwise the test proves nothing"
    assert joined < aside / 100


@glibc
def test_fastbins_are_disabled_while_stages_run(monkeypatch):
    calls = []

    class Library:
        def mallopt(self, option: int, value: int) -> int:
            calls.append((option, value))
            return 1

    monkeypatch.setattr(malloc, "_glibc", Library)
    joined, usual = (malloc._MXFAST, 0), (malloc._MXFAST, 128 if sys.maxsize > 2**32 else 64)
    for item in prefetch(range(3)):
        assert calls.pop() == joined
        with pytest.raises(ZeroDivisionError):
            write_behind([0], lambda number: 1 / number)
        assert {*calls} == {joined}, "the outer stage goes on"
        calls.append(joined)
        assert item in range(3)
    assert calls.pop() == usual
    write_behind([1], lambda _: calls.append("done"))
    assert calls[-3:] == [joined, "done", usual]
