"""Pages that the C library keeps while a stream lasts: counted in page faults, which a kernel counts exactly."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import torch
from steadyscale.core.runtime import malloc
from steadyscale.core.runtime.malloc import retain_freed_memory
from steadyscale.core.runtime.prefetch import prefetch, write_behind

glibc = pytest.mark.skipif(
    not sys.platform.startswith("linux") or malloc._glibc() is None, reason="only glibc can be told"
)
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
def test_blocks_are_faulted_in_once_and_not_in_each_round():
    """Chains of 8 blocks of which two live at a time, as in a network, in a heap of their own. It takes two of them
    until each block has a place to come back to."""
    told = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    first, second, third, fourth, otherwise, block = (int(number) for number in told.stdout.split())
    assert first + second < 16 * block, "how soon depends on the number of threads that fault"
    assert third + fourth < block / 100
    assert otherwise > block, "without it, pages go back to the system"


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

    monkeypatch.setattr(malloc, "_glibc", Library)
    with retain_freed_memory():
        assert said.pop(0) == "trimmed", "what lay free before is not kept with the rest"
        with pytest.raises(RuntimeError), retain_freed_memory():
            raise RuntimeError
        assert "trimmed" not in said, "the outer stream goes on"
        kept = dict(said)
    assert said[-1] == "trimmed"
    assert all(value < kept[option] or option == malloc._MMAP_THRESHOLD for option, value in said[-4:-1])


def test_streams_of_several_threads_do_not_disturb_each_other():
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


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(malloc, "_glibc", lambda: None)
    with retain_freed_memory():
        assert malloc._RETAIN_FREED.refcount == 0


@glibc
def test_threads_share_two_heaps():
    """What glibc tells of its heaps, by a program whose threads all hold memory at once."""
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
        told = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
        heaps.append(told.stderr.count("Arena "))
    assert heaps[0] > 2
    assert heaps[1] <= 2


CRUMBS = """
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
def test_crumbs_of_blocks_that_another_thread_frees_do_not_pile_up():
    """What glibc tells of the small blocks that it has put aside, with and without."""
    told = subprocess.run([sys.executable, "-c", CRUMBS], capture_output=True, text=True, check=True)
    joined, aside = (int(size) for size in told.stdout.split())
    assert aside > 500_000, "this library puts crumbs aside; otherwise the test shows nothing"
    assert joined < aside / 100


@glibc
def test_crumbs_are_joined_while_stages_run_and_put_aside_again_when_the_last_has_ended(monkeypatch):
    said = []

    class Library:
        def mallopt(self, option: int, value: int) -> int:
            said.append((option, value))
            return 1

    monkeypatch.setattr(malloc, "_glibc", Library)
    joined, usual = (malloc._MXFAST, 0), (malloc._MXFAST, 128 if sys.maxsize > 2**32 else 64)
    for item in prefetch(range(3)):
        assert said.pop() == joined
        with pytest.raises(ZeroDivisionError):
            write_behind([0], lambda number: 1 / number)
        assert {*said} == {joined}, "the outer stage goes on"
        said.append(joined)
        assert item in range(3)
    assert said.pop() == usual
    write_behind([1], lambda _: said.append("done"))
    assert said[-3:] == [joined, "done", usual]
