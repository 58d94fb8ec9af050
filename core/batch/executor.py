"""Executors run tasks: in this process, in local worker processes, or on Ray."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from .run_task import run_task
from .tasks import Task, TaskProgress, TaskResult

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3  # at a task whose worker dies; a task that kills its workers is given up then
STOP_SECONDS = 15.0  # that an interrupted task may take to finish its tile and remove its partial files


class Executor(Protocol):
    """Runs tasks, some at a time.

    slots: how many tasks run at once. More can be submitted; they wait.
    """

    @property
    def slots(self) -> int: ...

    def submit(self, task: Task, progress: TaskProgress) -> Future[TaskResult]:
        """Start a task. Its future has a result even if the task fails or its worker dies.

        progress: called in this process, from any thread, while the task runs.
        """
        ...

    def close(self) -> None:
        """Stop all workers; a task that runs is interrupted and leaves no partial file."""
        ...


class InlineExecutor:
    """Runs each task in this process and thread, when it is submitted."""

    slots = 1

    def __init__(self, device: str = "auto") -> None:
        self._device = device

    def submit(self, task: Task, progress: TaskProgress) -> Future[TaskResult]:
        future: Future[TaskResult] = Future()
        future.set_result(run_task(task, self._device, progress))
        return future

    def close(self) -> None:
        pass


class WorkerDied(Exception):
    """A worker ended during a task; the message states how."""


class Worker(Protocol):
    """A process that runs one task at a time, here or on another machine."""

    def run(self, task: Task, progress: TaskProgress) -> TaskResult:
        """Run a task; the process is started if there is none. Raises WorkerDied."""
        ...

    def interrupt(self) -> None:
        """Stop a running task within its tile: its `run` raises WorkerDied.

        Later tasks do not start.
        """
        ...

    def kill(self) -> None:
        """End the process, whatever it does."""
        ...


class WorkerPool:
    """An executor of workers, each with a thread of this process that sends it tasks.

    A task whose worker dies is sent again, up to MAX_ATTEMPTS times.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._tasks: queue.SimpleQueue[tuple[Task, TaskProgress, Future[TaskResult]] | None] = queue.SimpleQueue()
        self._workers, self._is_closed = workers, False
        self._threads = [
            threading.Thread(target=self._drive, args=(worker,), name="batch-worker", daemon=True) for worker in workers
        ]
        for thread in self._threads:
            thread.start()

    @property
    def slots(self) -> int:
        return len(self._workers)

    def submit(self, task: Task, progress: TaskProgress) -> Future[TaskResult]:
        future: Future[TaskResult] = Future()
        self._tasks.put((task, progress, future))
        return future

    def close(self) -> None:
        self._is_closed = True
        for worker in self._workers:
            self._tasks.put(None)
            worker.interrupt()
        for worker, thread in zip(self._workers, self._threads, strict=True):
            thread.join(STOP_SECONDS)
            worker.kill()
            thread.join()

    def _drive(self, worker: Worker) -> None:
        while (item := self._tasks.get()) is not None:
            task, progress, future = item
            try:
                result = self._run(worker, task, progress)
            except BaseException as error:  # such as a task that cannot be pickled
                future.set_exception(error)
                continue
            if result is None:
                future.cancel()
            else:
                future.set_result(result)

    def _run(self, worker: Worker, task: Task, progress: TaskProgress) -> TaskResult | None:
        """The result of a task; None where the pool was closed."""
        for attempt in range(1, MAX_ATTEMPTS + 1):
            if self._is_closed:
                break
            try:
                return worker.run(task, progress)
            except WorkerDied as death:
                if self._is_closed:
                    break
                if attempt == MAX_ATTEMPTS:
                    return TaskResult(
                        error=f"its worker died {attempt} times ({death}); the clip may crash a decoder, or "
                        "memory ran out: process it alone, or with fewer --jobs"
                    )
                log.warning("%s: the worker died (%s); the clip is tried again", task.source, death)
        return None
