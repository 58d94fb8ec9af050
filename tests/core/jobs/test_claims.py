"""One process at a time works on a piece, as far as each can see, and no two clocks are compared."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from steadyscale.core.jobs.claims import MAX_ATTEMPTS, Claims, count_failures, last_error
from steadyscale.core.jobs.state.layout import JobFolder

PLAN = SimpleNamespace(key="the plan")


class Clock:
    """The clock of one machine."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    return JobFolder(tmp_path)


def test_of_two_claimants_one_gets_the_piece(folder: JobFolder):
    first, second = Claims(folder, PLAN), Claims(folder, PLAN)
    assert (first.try_claim(3), second.try_claim(3), second.try_claim(4)) == (1, None, 1)
    assert not second.is_over(3)
    assert second.is_over(5)


def test_a_claim_expires_after_it_has_not_changed_for_the_timeout_by_the_clock_of_who_waits(folder: JobFolder):
    owner, clock = Claims(folder, PLAN, 10, Clock(1e9)), Clock(-500.0)
    waiting = Claims(folder, PLAN, 10, clock)
    assert owner.try_claim(0) == 1
    clock.now += 1000
    assert waiting.try_claim(0) is None, "it is seen for the first time"
    clock.now += 9
    assert waiting.try_claim(0) is None
    name = folder.attempt(0, 1)
    folder.write(name, folder.read(name) | {"beat": 1})
    clock.now += 9
    assert waiting.try_claim(0) is None, "it has changed"
    clock.now += 9.9
    assert waiting.try_claim(0) is None
    clock.now += 0.2
    assert waiting.try_claim(0) == 2
    assert owner.try_claim(0) is None, "the first one has lost it"


def test_of_two_that_take_over_one_gets_the_piece(folder: JobFolder, monkeypatch: pytest.MonkeyPatch):
    Claims(folder, PLAN).try_claim(0)
    clocks = Clock(0), Clock(0)
    others = [Claims(folder, PLAN, 10, clock) for clock in clocks]
    assert [other.try_claim(0) for other in others] == [None, None]
    for clock in clocks:
        clock.now = 20
    last_attempt = folder.last_attempt
    monkeypatch.setattr(folder, "last_attempt", lambda index: min(1, last_attempt(index)))
    assert [other.try_claim(0) for other in others] == [2, None]


def test_a_claim_changes_while_its_process_works(folder: JobFolder):
    owner, waiting = Claims(folder, PLAN, 0.6), Claims(folder, PLAN, 0.6)
    number = owner.try_claim(0)
    with owner.hold(0, number):
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            assert waiting.try_claim(0) is None
            time.sleep(0.05)
    assert waiting.is_over(0)
    assert count_failures(folder, 0) == 0


def test_a_claim_that_is_written_only_in_part_is_one(folder: JobFolder):
    file = folder.path / folder.attempt(0, 1)
    file.parent.mkdir()
    file.write_text("{")
    clock = Clock(0)
    waiting = Claims(folder, PLAN, 10, clock)
    assert waiting.try_claim(0) is None
    clock.now = 11
    assert waiting.try_claim(0) == 2


@pytest.mark.parametrize(("error", "failures"), [(RuntimeError("why"), 1), (KeyboardInterrupt(), 0), (None, 0)])
def test_only_errors_count_as_failures(folder: JobFolder, error: BaseException | None, failures: int):
    claims = Claims(folder, PLAN)
    number = claims.try_claim(0)
    with pytest.raises(type(error)) if error else nullcontext(), claims.hold(0, number):
        if error is not None:
            raise error
    assert count_failures(folder, 0) == failures
    assert last_error(folder, 0) == ("why" if failures else "its process vanished")
    assert Claims(folder, PLAN).try_claim(0) == 2, "it is free at once"


def test_a_process_that_vanishes_fails_and_another_plan_does_not_count(folder: JobFolder):
    clock = Clock(0)
    waiting = Claims(folder, PLAN, 10, clock)
    for number in range(1, MAX_ATTEMPTS + 1):
        assert Claims(folder, PLAN).try_claim(0) == (number if number == 1 else None)
        waiting.try_claim(0)
        clock.now += 11
        if number < MAX_ATTEMPTS:
            assert waiting.try_claim(0) == number + 1
    assert count_failures(folder, 0) == MAX_ATTEMPTS
    assert Claims(folder, SimpleNamespace(key="another")).is_over(0)
