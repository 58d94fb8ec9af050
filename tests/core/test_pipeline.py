from __future__ import annotations

import gc
import inspect
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from itertools import count as counting
from queue import Empty

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from steadyscale.core import pipeline
from steadyscale.core.pipeline import ahead, behind

pytestmark = pytest.mark.timeout(60, method="thread")  # what hangs is named, and fails


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("steadyscale")]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    assert ours() == []
    yield
    assert ours() == []


class Source:
    """Counts, and remembers what was asked of it, from which thread, and whether it was given back."""

    def __init__(self, count: int = 10, *, fail_at: int | None = None, error: BaseException | None = None) -> None:
        self.count, self.fail_at = count, fail_at
        self.error = ValueError("broken at the source") if error is None else error
        self.made = 0
        self.opened_in: str | None = None
        self.closed_in: str | None = None

    def items(self, pause: float = 0.0) -> Iterator[int]:
        self.opened_in = threading.current_thread().name
        try:
            for number in range(self.count):
                if number == self.fail_at:
                    raise self.error
                time.sleep(pause)
                self.made += 1
                yield number
            if self.fail_at == self.count:
                raise self.error
        finally:
            self.closed_in = threading.current_thread().name


def plus(stream: Iterator[int], amount: int, *, fail_at: int | None = None) -> Iterator[int]:
    for position, number in enumerate(stream):
        if position == fail_at:
            raise ArithmeticError(f"broken in plus {amount}")
        yield number + amount


def until(condition: Callable[[], bool]) -> None:
    """Wait for what must come."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.001)


# --- ahead


@pytest.mark.parametrize("depth", [1, 2, 7, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_every_item_comes_once_and_in_order(depth: int, count: int):
    source = Source(count)
    assert list(ahead(source.items(), depth)) == list(range(count))
    assert source.opened_in == source.closed_in == "steadyscale ahead"


@pytest.mark.parametrize(("slow_source", "slow_taker"), [(0.003, 0.0), (0.0, 0.003), (0.002, 0.002)])
def test_neither_side_loses_items_when_it_waits(slow_source: float, slow_taker: float):
    got = []
    for number in ahead(Source(40).items(slow_source), depth=3):
        time.sleep(slow_taker)
        got.append(number)
    assert got == list(range(40))


def test_any_iterable_will_do():
    assert list(ahead([3, 1, 2])) == [3, 1, 2]
    assert list(ahead(iter((None, False, [], 0)))) == [None, False, [], 0]


def test_nothing_starts_before_the_first_item_is_asked_for():
    source = Source()
    stream = ahead(source.items())
    assert (source.opened_in, ours()) == (None, [])
    assert next(stream) == 0
    assert ours() == ["steadyscale ahead"]
    stream.close()


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_no_more_than_depth_items_are_made_ahead(depth: int):
    source = Source(50)
    stream = ahead(source.items(), depth)
    for taken in range(1, 5):
        assert next(stream) == taken - 1
        until(lambda taken=taken: source.made == taken + depth)
        time.sleep(0.01)
        assert source.made == taken + depth
    stream.close()


def test_stages_really_work_at_the_same_time():
    """Each side waits for the other's next step: in turns, this would never end."""
    making, taking = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        making.set()
        assert taking.wait(30)
        yield 1

    stream = ahead(items())
    assert next(stream) == 0
    taking.set()
    assert making.wait(30)
    assert list(stream) == [1]


class Frame:
    """Something large, of which we count how many there are."""

    alive = 0

    def __init__(self) -> None:
        Frame.alive += 1

    def __del__(self) -> None:
        Frame.alive -= 1


@pytest.mark.parametrize("depth", [1, 3])
def test_an_item_lives_no_longer_than_its_taker_wants(depth: int):
    stream = ahead((Frame() for _ in range(20)), depth)
    for _ in range(5):
        frame = next(stream)
        until(lambda: Frame.alive == 1 + depth)
        del frame
        assert Frame.alive == depth, "the pipeline still holds what its taker has dropped"
    stream.close()
    del stream
    assert Frame.alive == 0


@pytest.mark.parametrize("fail_at", [0, 1, 3, 10])
@pytest.mark.parametrize("depth", [1, 2, 20])
def test_an_error_comes_after_the_items_before_it_and_with_its_traceback(fail_at: int, depth: int):
    error = KeyError("the very object")
    source = Source(10, fail_at=fail_at, error=error)
    stream = ahead(source.items(), depth)
    got: list[int] = []
    with pytest.raises(KeyError) as caught:
        got.extend(stream)
    assert got == list(range(fail_at))
    assert caught.value is error
    assert any("raise self.error" in (line.line or "") for line in traceback.extract_tb(error.__traceback__))
    assert next(stream, "ended") == "ended"


class CancelledByHost(BaseException):
    """As hosts raise them: no Exception, so that nobody catches it by mistake."""


class FalseError(Exception):
    def __bool__(self) -> bool:
        return False


@pytest.mark.parametrize(
    "error", [CancelledByHost(), KeyboardInterrupt(), SystemExit(3), MemoryError(), Empty(), FalseError()]
)
def test_every_kind_of_error_passes(error: BaseException):
    with pytest.raises(type(error)) as caught:
        list(ahead(Source(5, fail_at=2, error=error).items()))
    assert caught.value is error
    with pytest.raises(type(error)) as caught:
        behind(Source(5, fail_at=2, error=error).items(), lambda _: None)
    assert caught.value is error


def test_a_plain_iterator_may_raise_as_well():
    class Breaks:
        def __iter__(self):
            return self

        def __next__(self):
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(ahead(Breaks()))


@pytest.mark.parametrize("taken", [1, 2, 5])
@pytest.mark.parametrize("way", ["close", "drop", "throw", "break"])
def test_a_taker_that_stops_early_gives_the_source_back(taken: int, way: str):
    source = Source(1000)
    stream = ahead(source.items(), depth=2)
    for _ in range(taken):
        next(stream)
    if way == "close":
        stream.close()
    elif way == "drop":
        del stream
        gc.collect()
    elif way == "throw":
        with pytest.raises(CancelledByHost):
            stream.throw(CancelledByHost())  # type: ignore[attr-defined]
    else:
        for _ in stream:
            break
        del stream
    assert source.closed_in == "steadyscale ahead", "closed, in the thread that it ran in"
    assert ours() == []
    assert source.made <= taken + 1 + 2


def test_a_stop_does_not_wait_for_more_than_the_item_in_work():
    source, going = Source(1000), threading.Event()

    def slow() -> Iterator[int]:
        for number in source.items():
            if number == 3:
                going.set()
                time.sleep(0.1)
            yield number

    stream = ahead(slow(), depth=10)
    next(stream)
    assert going.wait(30)
    stream.close()
    assert source.made == 4


def test_what_goes_wrong_in_closing_is_not_lost():
    def items() -> Iterator[int]:
        try:
            yield from counting()
        finally:
            raise OSError("cannot give the device back")

    stream = ahead(items())
    next(stream)
    with pytest.raises(OSError, match="give the device back"):
        stream.close()


def test_an_error_that_nobody_has_asked_for_is_not_raised():
    source = Source(10, fail_at=2)
    stream = ahead(source.items(), depth=5)
    assert next(stream) == 0
    until(lambda: source.closed_in is not None)
    stream.close()


def test_a_source_that_cannot_stop_is_left_alone_and_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(pipeline, "PATIENCE", 0.1)
    begun, stuck = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        begun.set()
        stuck.wait(30)
        yield 1

    stream = ahead(items(), depth=1, name="tape")
    next(stream)
    assert begun.wait(30)
    stream.close()
    assert "steadyscale tape has not stopped after" in caplog.text
    stuck.set()
    until(lambda: ours() == [])


@pytest.mark.parametrize("depth", [0, -1])
def test_a_stage_needs_room(depth: int):
    with pytest.raises(ValueError, match=f"at least 1 item, got {depth}"):
        ahead(iter(()), depth)
    with pytest.raises(ValueError, match=f"at least 1 item, got {depth}"):
        behind(iter(()), print, depth)


# --- behind


@pytest.mark.parametrize("depth", [1, 2, 7, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_all_is_done_in_order_and_before_it_returns(depth: int, count: int):
    done, threads, source = [], set(), Source(count)

    def do(number: int) -> None:
        time.sleep(0.001)
        done.append(number)
        threads.add(threading.current_thread().name)

    behind(source.items(), do, depth, "encode")
    assert done == list(range(count))
    assert threads <= {"steadyscale encode"}
    assert source.opened_in == source.closed_in == threading.current_thread().name


@pytest.mark.parametrize("depth", [1, 3])
def test_what_is_made_waits_for_what_is_done(depth: int):
    """`depth` items wait or are in the making while one is being done, and none of them is held after."""
    most = 0

    def do(frame: Frame) -> None:
        nonlocal most
        time.sleep(0.002)
        most = max(most, Frame.alive)

    behind((Frame() for _ in range(20)), do, depth)
    assert most == 1 + depth
    assert Frame.alive == 0


@pytest.mark.parametrize("fail_at", [0, 1, 4])
def test_an_error_in_the_doing_stops_the_making(fail_at: int):
    error, source, done = OSError("disk full"), Source(1000), []

    def do(number: int) -> None:
        if number == fail_at:
            raise error
        done.append(number)

    stream = source.items()
    with pytest.raises(OSError, match="disk full") as caught:
        behind(stream, do, depth=2)
    assert caught.value is error
    assert any(line.name == "do" for line in traceback.extract_tb(error.__traceback__))
    assert done == list(range(fail_at))
    assert source.made <= fail_at + 4
    assert inspect.getgeneratorstate(stream) == inspect.GEN_CLOSED, "though somebody still holds it"


@pytest.mark.parametrize("error", [ValueError("no frame"), CancelledByHost(), KeyboardInterrupt()])
def test_an_error_in_the_making_drops_what_waits(error: BaseException):
    done = []

    def do(number: int) -> None:
        time.sleep(0.05)
        done.append(number)

    with pytest.raises(type(error)) as caught:
        behind(Source(1000, fail_at=5, error=error).items(), do, depth=5)
    assert caught.value is error
    assert done == list(range(len(done)))
    assert len(done) < 5


# --- several stages


def test_four_stages_in_a_row():
    source = Source(50)
    stream: Iterator[int] = source.items()
    for stage in range(4):
        stream = ahead(plus(stream, 10**stage), depth=1 + stage % 2, name=f"stage {stage}")
    done: list[int] = []
    behind(stream, done.append)
    assert done == [number + 1111 for number in range(50)]


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_one_failing_stage_ends_them_all_while_its_error_is_still_held(stage: int):
    source = Source(1000)
    stream: Iterator[int] = source.items()
    for n in range(4):
        stream = ahead(plus(stream, 1, fail_at=7 if n == stage else None), name=f"stage {n}")
    try:
        behind(stream, lambda _: None)
    except ArithmeticError as error:
        assert ours() == [], "files and devices are given back before anybody looks at the error"
        assert source.closed_in == "steadyscale stage 0"
        assert "plus" in traceback.format_exc()
        held = error
    else:
        pytest.fail("the error was lost")
    assert source.made < 7 + 20
    del held


def test_closing_the_last_stage_closes_them_all():
    source = Source(10**9)
    stream: Iterator[int] = source.items()
    for n in range(4):
        stream = ahead(plus(stream, 1), name=f"stage {n}")
    assert [next(stream) for _ in range(5)] == [4, 5, 6, 7, 8]
    stream.close()  # type: ignore[attr-defined]
    assert ours() == []
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
def test_side_by_side_is_what_it_is_in_turn(
    count: int,
    depths: list[int],
    fails: list[int | None],
    source_fails: int | None,
    sink_fails: int | None,
    pauses: list[float],
):
    """Whatever fails where: the same items are done, in the same order, and the same error comes out."""

    def run(side_by_side: bool) -> tuple[list[int], str | None, bool]:
        done: list[int] = []

        def do(number: int) -> None:
            if len(done) == sink_fails:
                raise OSError("sink")
            done.append(number)

        source = Source(count, fail_at=source_fails)
        stream: Iterator[int] = source.items(pauses[0])
        for n, depth in enumerate(depths):
            stream = plus(stream, 10**n, fail_at=fails[n])
            stream = ahead(stream, depth) if side_by_side else stream
        try:
            if side_by_side:
                behind(stream, do, depths[0])
            else:
                for number in stream:
                    do(number)
        except Exception as error:
            return done, str(error), source.closed_in is None and source.made > 0
        return done, None, source.closed_in is None and source.made > 0

    serial, parallel = run(False), run(True)
    assert ours() == []
    assert not parallel[2], "the source was not given back"
    if sink_fails is None:
        # An error upstream overtakes items that wait to be done, and only those.
        assert parallel[0] == serial[0][: len(parallel[0])]
        assert parallel[1] == serial[1]
        assert serial[1] is not None or parallel[0] == serial[0]
    else:
        assert parallel[0] == serial[0][: len(parallel[0])]
        assert (parallel[1] is None) == (serial[1] is None)


# --- what belongs to a thread


def test_context_and_modes_are_those_of_the_one_who_starts_the_stage():
    node = ContextVar("node", default="none")
    node.set("7")
    seen = []

    def look() -> None:
        mode = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        seen.append((node.get(), *mode, torch.ones(1).is_inference()))

    def items() -> Iterator[int]:
        look()
        yield 1

    list(ahead(items()))
    with torch.no_grad():
        list(ahead(items()))
        behind(iter([1]), lambda _: look())
    with torch.inference_mode():
        list(ahead(items()))
        with torch.inference_mode(False):
            behind(iter([1]), lambda _: look())
    assert seen == [
        ("7", False, True, False),
        ("7", False, False, False),
        ("7", False, False, False),
        ("7", True, False, True),
        ("7", False, True, False),
    ]


# --- the end of the program

UNFINISHED = """
import sys, threading, time
from steadyscale.core.pipeline import ahead

def items():
    try:
        for n in range(10**9):
            yield n
    finally:
        print("closed", flush=True)

stream = ahead(ahead(items()))
print(next(stream), flush=True)
{end}
"""


@pytest.mark.parametrize(("end", "code"), [("", 0), ("raise ValueError('x')", 1)])
def test_a_program_that_forgets_its_streams_ends_and_closes_them(end: str, code: int):
    done = subprocess.run(
        [sys.executable, "-c", UNFINISHED.format(end=end)], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == code, done.stderr
    assert done.stdout.split() == ["0", "closed"]
    assert "Traceback" not in done.stderr or code == 1
