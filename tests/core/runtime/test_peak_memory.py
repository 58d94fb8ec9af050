from __future__ import annotations

import subprocess
import sys

import pytest
from steadyscale.core.runtime import peak_memory

SHOW = "from steadyscale.core.runtime.peak_memory import peak_memory_mb as peak; {work}; print(peak())"


def peak_of(work: str) -> float:
    done = subprocess.run([sys.executable, "-c", SHOW.format(work=work)], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.skipif(peak_memory.peak_memory_mb() is None, reason="this system does not tell")
def test_the_peak_is_this_process_s_own_and_stays_when_memory_is_given_back():
    launcher = bytearray(b"x") * 500_000_000  # what starts the program is larger than the program
    plain, more = peak_of("pass"), peak_of("block = bytes(1) + bytearray(b'x') * 200_000_000; del block")
    del launcher
    assert 10 < plain < 500
    assert 190 < more - plain < 450  # the block, and its copy while two are joined
