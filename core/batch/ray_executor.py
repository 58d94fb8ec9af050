"""Run tasks on a Ray cluster, or on a Ray that is started on this machine.

Each worker is an actor, which keeps its network loaded. Only descriptions of tasks and their results pass through Ray;
every node needs this package, and the paths of the clips.
"""

from __future__ import annotations

import logging
import os
import threading
from importlib import import_module
from typing import Any

from ..api.report import Progress
from ..clip import ClipError
from .executor import WorkerDied, WorkerPool
from .local_executor import limit_threads
from .run_task import run_task
from .tasks import Task, TaskProgress, TaskResult

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5  # between two questions for the progress of a task
START_ATTEMPTS = 3  # a busy machine may exceed the 15 s in which Ray's own processes have to start
_PACKAGE = __name__.split(".")[0]


class RayExecutor(WorkerPool):
    """Actors on Ray.

    jobs: number of actors; None takes as many as the cluster has resources for. cpus, gpus: reserved for each; gpus may
    be a fraction. address: of a cluster, such as "auto" or "ray://host:10001"; None takes RAY_ADDRESS, or starts Ray on
    this machine. device: where the networks run; Ray shows an actor the GPUs that it has reserved, and no others.
    Raises ClipError without the package ray, or where Ray does not start or has not the resources.
    """

    def __init__(
        self,
        jobs: int | None = None,
        *,
        cpus: int = 1,
        gpus: float = 0.0,
        address: str | None = None,
        device: str = "auto",
    ) -> None:
        self._ray = _import_ray()
        self._started = not self._ray.is_initialized()
        if self._started:
            _start_ray(self._ray, address)
        available = self._ray.cluster_resources()
        most = min(int(available.get(name, 0) // each) for name, each in (("CPU", cpus), ("GPU", gpus)) if each)
        if most < 1:
            self._shut_down()
            raise ClipError(
                f"Ray has {available.get('CPU', 0):g} CPUs and {available.get('GPU', 0):g} GPUs, and a task asks for "
                f"{cpus} and {gpus:g}; ask for less with --cpus-per-task and --gpus-per-task"
            )
        actor = self._ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_concurrency=3)(_RayWorker)
        super().__init__([_RayClient(self._ray, actor, device, cpus) for _ in range(min(jobs or most, most))])

    def close(self) -> None:
        super().close()
        self._shut_down()

    def _shut_down(self) -> None:
        if self._started:
            self._ray.shutdown()


def _import_ray() -> Any:
    try:
        return import_module("ray")
    except ImportError as error:
        raise ClipError('the executor ray needs the package ray: pip install "steadyscale[ray]"') from error


def _start_ray(ray: Any, address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            ray.init(address=address, log_to_driver=False, include_dashboard=None if address else False)
            return
        except Exception as error:  # of many types
            ray.shutdown()
            if attempt == START_ATTEMPTS or address:
                place = f"at {address}" if address else "on this machine"
                raise ClipError(f"Ray cannot be used {place}: {' '.join(str(error).split())}") from error
            log.warning("Ray did not start (%s); trying again", error)


class _RayClient:
    """This process's end of an actor, which is created when a task needs it."""

    def __init__(self, ray: Any, actor_class: Any, device: str, threads: int) -> None:
        self._ray, self._actor_class, self._arguments = ray, actor_class, (device, threads)
        self._actor: Any = None
        self._is_stopped = False

    def run(self, task: Task, progress: TaskProgress) -> TaskResult:
        if self._is_stopped:
            raise WorkerDied("it was stopped")
        if self._actor is None:
            self._actor = self._actor_class.remote(*self._arguments)
        actor = self._actor
        try:
            result = actor.run.remote(task)
            while not self._ray.wait([result], timeout=POLL_SECONDS)[0]:
                self._poll(actor, task, progress)
            self._poll(actor, task, progress)
            outcome: TaskResult | None = self._ray.get(result)
        except self._ray.exceptions.RayActorError as error:
            self._actor = None
            raise WorkerDied(" ".join(str(error).split())[:200]) from error
        if outcome is None:
            raise WorkerDied("it was stopped")
        return outcome

    def _poll(self, actor: Any, task: Task, progress: TaskProgress) -> None:
        latest, messages = self._ray.get(actor.poll.remote())
        for level, message in messages:
            log.log(level, "%s: %s", task.source, message)
        if latest is not None:
            progress(latest)

    def interrupt(self) -> None:
        self._is_stopped = True
        if (actor := self._actor) is not None:
            actor.interrupt.remote()

    def kill(self) -> None:
        if (actor := self._actor) is not None:
            self._ray.kill(actor)


class _Interrupted(BaseException):
    """Ends a task of an actor. Ray would take a KeyboardInterrupt for one of its own."""


class _RayWorker:
    """The actor.

    `run` occupies one of its threads; others answer `poll` and `interrupt`.
    """

    def __init__(self, device: str, threads: int) -> None:
        limit_threads(threads)
        self._device, self._is_interrupted = device, False
        self._progress: Progress | None = None
        self._messages = _MessageList()
        logging.getLogger(_PACKAGE).addHandler(self._messages)

    def run(self, task: Task) -> TaskResult | None:
        """The result; None after an interrupt."""
        self._progress = None
        try:
            return run_task(task, self._device, self._on_progress)
        except _Interrupted:
            return None

    def poll(self) -> tuple[Progress | None, list[tuple[int, str]]]:
        """The latest progress, and the (level, text) of log messages since the last call."""
        return self._progress, self._messages.take()

    def interrupt(self) -> None:
        self._is_interrupted = True

    def _on_progress(self, progress: Progress) -> None:
        if self._is_interrupted:
            raise _Interrupted
        if not progress.message:
            self._progress = progress


class _MessageList(logging.Handler):
    """Warnings of this process, until they are taken."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._messages: list[tuple[int, str]] = []
        self._message_lock = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        with self._message_lock:
            self._messages.append((record.levelno, record.getMessage()))

    def take(self) -> list[tuple[int, str]]:
        with self._message_lock:
            taken, self._messages = self._messages, []
        return taken
