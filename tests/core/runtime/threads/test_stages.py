"""Several stages: errors, inherited modes, and programs that end without closing them."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextvars import ContextVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from steadyscale.core.runtime.threads.prefetch import prefetch, write_behind
from streams import CountingSource, add_amount, list_our_threads

pytestmark = pytest.mark.timeout(60, method="thread")  # what hangs is named, and fails


UNFINISHED = """
import sys, threading, time
from steadyscale.core.runtime.threads.prefetch import prefetch

def items():
    try:
        for n in range(10**9):
            yield n
    finally:
        print("closed", flush=True)

stream = prefetch(prefetch(items()))
print(next(stream), flush=True)
{end}
"""


def test_four_stages_in_a_row():
    source = CountingSource(50)
    stream: Iterator[int] = source.items()
    for stage in range(4):
        stream = prefetch(add_amount(stream, 10**stage), depth=1 + stage % 2, name=f"stage {stage}")
    done: list[int] = []
    write_behind(stream, done.append)
    assert done == [number + 1111 for number in range(50)]


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_one_failing_stage_ends_all_while_its_error_is_held(stage: int):
    source = CountingSource(1000)
    stream: Iterator[int] = source.items()
    for n in range(4):
        stream = prefetch(add_amount(stream, 1, fail_at=7 if n == stage else None), name=f"stage {n}")
    try:
        write_behind(stream, lambda _: None)
    except ArithmeticError as error:
        assert list_our_threads() == [], "files and devices are released before the error is handled"
        assert source.closed_in == "steadyscale stage 0"
        assert "plus" in traceback.format_exc()
        held = error
    else:
        pytest.fail("the error was lost")
    assert source.produced < 7 + 20
    del held


def test_closing_the_last_stage_closes_all():
    source = CountingSource(10**9)
    stream: Iterator[int] = source.items()
    for n in range(4):
        stream = prefetch(add_amount(stream, 1), name=f"stage {n}")
    assert [next(stream) for _ in range(5)] == [4, 5, 6, 7, 8]
    stream.close()  # type: ignore[attr-defined]
    assert list_our_threads() == []
    assert source.closed_in == "steadyscale stage 0"


@settings(max_examples=300, deadline=None)
@given(
    count=st.integers(0, 12),
    depths=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    fails=st.lists(st.one_of(st.none(), st.integers(0, 12)), min_size=4, max_size=4),
    source_fails=st.one_of(st.none(), st.integers(0, 12)),
    sink_fails=st.one_of(st.none(), st.integers(0, 12)),
    pauses=st.lists(st.sampled_from([0.0, 0.0005]), min_size=4, max_size=4),
)
def test_concurrent_and_serial_stages_are_equal(
    count: int,
    depths: list[int],
    fails: list[int | None],
    source_fails: int | None,
    sink_fails: int | None,
    pauses: list[float],
):
    """Wherever an error occurs: the same items are written, in the same order, and the same error is raised."""

    def run(concurrent: bool) -> tuple[list[int], str | None, bool]:
        done: list[int] = []

        def do(number: int) -> None:
            if len(done) == sink_fails:
                raise OSError("sink")
            done.append(number)

        source = CountingSource(count, fail_at=source_fails)
        stream: Iterator[int] = source.items(pauses[0])
        for n, depth in enumerate(depths):
            stream = add_amount(stream, 10**n, fail_at=fails[n])
            stream = prefetch(stream, depth) if concurrent else stream
        try:
            if concurrent:
                write_behind(stream, do, depths[0])
            else:
                for number in stream:
                    do(number)
        except Exception as error:
            return done, str(error), source.closed_in is None and source.produced > 0
        return done, None, source.closed_in is None and source.produced > 0

    serial, parallel = run(False), run(True)
    assert list_our_threads() == []
    assert not parallel[2], "the source was not closed"
    if sink_fails is None:
        # An error upstream overtakes items that wait to be done, and only those.
        assert parallel[0] == serial[0][: len(parallel[0])]
        assert parallel[1] == serial[1]
        assert serial[1] is not None or parallel[0] == serial[0]
    else:
        assert parallel[0] == serial[0][: len(parallel[0])]
        assert (parallel[1] is None) == (serial[1] is None)


def test_context_and_modes_are_inherited_from_the_starting_thread():
    node = ContextVar("node", default="none")
    node.set("7")
    seen = []

    def look() -> None:
        mode = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        seen.append((node.get(), *mode, torch.ones(1).is_inference()))

    def items() -> Iterator[int]:
        look()
        yield 1

    list(prefetch(items()))
    with torch.no_grad():
        list(prefetch(items()))
        write_behind(iter([1]), lambda _: look())
    with torch.inference_mode():
        list(prefetch(items()))
        with torch.inference_mode(False):
            write_behind(iter([1]), lambda _: look())
    assert seen == [
        ("7", False, True, False),
        ("7", False, False, False),
        ("7", False, False, False),
        ("7", True, False, True),
        ("7", False, True, False),
    ]


@pytest.mark.parametrize(("end", "code"), [("", 0), ("raise ValueError('x')", 1)])
def test_a_program_that_does_not_close_its_streams_ends(end: str, code: int):
    done = subprocess.run(
        [sys.executable, "-c", UNFINISHED.format(end=end)], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == code, done.stderr
    assert done.stdout.split() == ["0", "closed"]
    assert "Traceback" not in done.stderr or code == 1
