"""Run tasks in worker processes of this machine.

Workers are spawned, not forked: CUDA does not survive a fork. They end when this process does, however it ends.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from ..api.report import Progress
from .executor import STOP_SECONDS, WorkerDied, WorkerPool
from .tasks import Task, TaskProgress, TaskResult

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.2  # between two messages about the progress of a task
_PACKAGE = __name__.split(".")[0]


class LocalExecutor(WorkerPool):
    """Worker processes on this machine, one for each entry of `devices`.

    devices: names of devices, such as ["cuda:0", "cuda:1"] or ["cpu", "cpu"]. threads: for computation in each worker;
    None divides the CPU cores among the workers.
    """

    def __init__(self, devices: Sequence[str], threads: int | None = None) -> None:
        threads = threads or max(1, core_count() // len(devices))
        super().__init__([_LocalWorker(device, threads) for device in devices])


def core_count() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _LocalWorker:
    """A worker process, started when a task needs it."""

    def __init__(self, device: str, threads: int) -> None:
        self._device, self._threads = device, threads
        self._process: BaseProcess | None = None
        self._connection: Connection[Any, Any] | None = None
        self._lock, self._is_stopped = threading.Lock(), False

    def run(self, task: Task, progress: TaskProgress) -> TaskResult:
        process, connection = self._start()
        try:
            connection.send(task)
            while True:
                kind, *values = connection.recv()
                if kind == "result":
                    return values[0]
                if kind == "log":
                    log.log(values[0], "%s: %s", task.source, values[1])
                else:
                    progress(values[0])
        except (EOFError, OSError) as error:
            self._process = self._connection = None
            connection.close()
            process.join(STOP_SECONDS)
            code = process.exitcode
            process.kill()
            how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
            raise WorkerDied(how) from error

    def interrupt(self) -> None:
        with self._lock:
            self._is_stopped = True
            if (process := self._process) is not None:
                process.terminate()

    def kill(self) -> None:
        if (process := self._process) is not None:
            process.join(1.0)  # An idle worker has been interrupted, and ends at once.
            process.kill()
            process.join()

    def _start(self) -> tuple[BaseProcess, Connection[Any, Any]]:
        with self._lock:
            if self._is_stopped:
                raise WorkerDied("it was stopped")
            if self._process is None or self._connection is None:
                context = multiprocessing.get_context("spawn")
                connection, other_end = context.Pipe()
                level = logging.getLogger(_PACKAGE).getEffectiveLevel()
                process = context.Process(
                    target=_serve, args=(other_end, self._device, self._threads, level), daemon=True
                )
                process.start()
                other_end.close()  # so that `recv` ends when the worker dies
                self._process, self._connection = process, connection
            return self._process, self._connection


def _serve(connection: Connection[Any, Any], device: str, threads: int, log_level: int) -> None:
    """Run the tasks that arrive, in the worker process, until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one decides.
    signal.signal(signal.SIGTERM, _raise_interrupt)
    lock = threading.Lock()
    logger = logging.getLogger(_PACKAGE)
    logger.setLevel(log_level)
    logger.addHandler(_ForwardingHandler(connection, lock))
    logger.propagate = False
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        limit_threads(threads)
        from .run_task import run_task

        while True:
            result = run_task(connection.recv(), device, _progress_sender(connection, lock))
            with lock:
                connection.send(("result", result))


def limit_threads(count: int) -> None:
    """Limit the threads for computation of this process.

    Call it at the start of a process, before torch is imported.
    """
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(count)
    from ..runtime.optional_cv2 import optional_opencv

    if (cv2 := optional_opencv()) is not None:
        cv2.setNumThreads(count)


class _ForwardingHandler(logging.Handler):
    """Send log messages of the worker to the process that started it."""

    def __init__(self, connection: Connection[Any, Any], send_lock: threading.Lock) -> None:
        super().__init__()
        self._connection, self._send_lock = connection, send_lock

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError), self._send_lock:
            self._connection.send(("log", record.levelno, record.getMessage()))


def _progress_sender(connection: Connection[Any, Any], lock: threading.Lock) -> TaskProgress:
    sent = 0.0

    def send(progress: Progress) -> None:
        nonlocal sent
        if progress.message or time.monotonic() - sent < PROGRESS_SECONDS:
            return
        try:
            with lock:
                connection.send(("progress", progress))
        except OSError:  # The first process is gone, so nothing takes the result.
            raise KeyboardInterrupt from None
        sent = time.monotonic()

    return send


def _raise_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
