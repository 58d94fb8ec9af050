"""Attempts at pieces, and claims: attempts that keep other processes away.

Each attempt is a file of its own, created exclusively by the process that makes it and changed by no other. While it
works on the piece, that process changes the file again and again. Another process that sees the file unchanged for long
enough, by its own clock, counts the attempt as failed and begins the next: clocks of two machines are never compared,
and no lock is needed. If both processes finish the piece, the later part replaces an equal one.
"""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any
from uuid import uuid4

from .state.job_plan import JobPlan
from .state.layout import JobFolder

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3  # failed ones at a piece, before it is named and left
CLAIM_TIMEOUT = 120.0  # seconds; above the 60 for which network disks may show an old content
_BEATS_PER_TIMEOUT = 6


def count_failures(folder: JobFolder, index: int) -> int:
    """Return how many attempts at a piece failed, or began and have not ended."""
    numbers = range(1, folder.last_attempt(index) + 1)
    attempts = [folder.read(folder.attempt(index, number)) or {} for number in numbers]
    return sum(not ("released" in attempt or "done" in attempt) for attempt in attempts)


def last_error(folder: JobFolder, index: int) -> str:
    """Return the error of the last attempt at a piece."""
    attempt = folder.read(folder.attempt(index, folder.last_attempt(index))) or {}
    return attempt.get("error") or "its process vanished"


def record_failure(folder: JobFolder, plan: JobPlan, index: int, error: Exception) -> int:
    """Record a failed attempt that was no claim; return the number of failures."""
    number = folder.last_attempt(index) + 1
    while not folder.create(folder.attempt(index, number), {"plan": plan.key, "error": str(error)}):
        number += 1
    return count_failures(folder, index)


class Claims:
    """The claims of one process on pieces of a job.

    timeout: seconds after which a claim that does not change is taken over.
    """

    def __init__(
        self,
        folder: JobFolder,
        plan: JobPlan,
        timeout: float = CLAIM_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._plan, self._timeout, self._clock = folder, plan, timeout, clock
        self._owner = f"{platform.node()}-{os.getpid()}-{uuid4().hex[:8]}"
        self._seen: dict[str, tuple[Any, float]] = {}  # by file: what changes in it, and since when it has not

    @property
    def poll_seconds(self) -> float:
        """How long to wait before looking again for a free piece."""
        return min(1.0, self._timeout / _BEATS_PER_TIMEOUT)

    def is_over(self, index: int) -> bool:
        """Whether no process appears to work on a piece."""
        number = self._folder.last_attempt(index)
        return number == 0 or self._is_attempt_over(self._folder.attempt(index, number))

    def try_claim(self, index: int) -> int | None:
        """Claim a piece; return the number of the attempt.

        None where another process has the piece.
        """
        number = self._folder.last_attempt(index)
        if number and not self._is_attempt_over(self._folder.attempt(index, number)):
            return None
        name = self._folder.attempt(index, number + 1)
        if not self._folder.create(name, self._body(0)):
            return None
        if number and not self._has_ended(self._folder.read(self._folder.attempt(index, number))):
            log.warning("%s: piece %d is taken over from a process that vanished", self._folder.path, index)
        return number + 1

    @contextmanager
    def hold(self, index: int, number: int) -> Generator[None, None, None]:
        """Keep a claim alive in the block.

        On an Exception it is marked as failed, on an interrupt as released.
        """
        name, stop = self._folder.attempt(index, number), Event()
        thread = Thread(target=self._beat, args=(name, index, number, stop), name="claim", daemon=True)
        thread.start()
        outcome: dict[str, Any] = {"released": True}
        try:
            yield
            outcome = {"done": True}
        except Exception as error:
            outcome = {"error": str(error)}
            raise
        finally:
            stop.set()
            thread.join()
            self._write(name, self._body(-1) | outcome)

    def release(self, index: int, number: int) -> None:
        """Give up a claim that failed through no fault of the piece."""
        self._write(self._folder.attempt(index, number), self._body(-1) | {"released": True})

    def _beat(self, name: str, index: int, number: int, stop: Event) -> None:
        count = 0
        while not stop.wait(self._timeout / _BEATS_PER_TIMEOUT):
            count += 1
            self._write(name, self._body(count))
            try:
                is_taken = self._folder.last_attempt(index) > number
            except OSError:  # a store that cannot be reached now
                continue
            if is_taken:
                log.warning("%s: another process has taken over piece %d", self._folder.path, index)
                return

    def _write(self, name: str, body: dict[str, Any]) -> None:
        try:
            self._folder.write(name, body)
        except OSError as e:  # A part that is computed counts, whatever becomes of its claim.
            log.warning("%s: the claim %s cannot be written (%s)", self._folder.path, name, e)

    def _body(self, beat: int) -> dict[str, Any]:
        return {"plan": self._plan.key, "owner": self._owner, "beat": beat}

    def _is_attempt_over(self, name: str) -> bool:
        attempt, now = self._folder.read(name), self._clock()
        if self._has_ended(attempt):
            return True
        state = None if attempt is None else (attempt["owner"], attempt["beat"])  # None: not written completely yet
        before, since = self._seen.get(name, (None, now))
        if name not in self._seen or before != state:
            self._seen[name] = state, now
            return False
        return now - since >= self._timeout

    def _has_ended(self, attempt: dict[str, Any] | None) -> bool:
        if attempt is None:
            return False
        return attempt["plan"] != self._plan.key or any(key in attempt for key in ("error", "released", "done"))
