"""Process many clips; results are recorded, and a later run does the rest."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from ..api.report import Progress
from ..clip import ClipError
from ..runtime.error_line import error_line
from ..runtime.files.folder_lock import folder_lock
from ..storage.location import Location, ObjectUrl, is_url, parse_location
from ..storage.object_storage import ObjectStorage
from ..video.open import check_name
from .errors import BatchFailed, prefix_path
from .executor import Executor, InlineExecutor
from .results import DONE, RESULTS_NAME, ResultLog, source_state
from .run_task import job_folder
from .tasks import ClipTask, JoinTask, PlanTask, ShardTask, Task, TaskResult

WAIT_SECONDS = 0.5  # between checks for an interrupt; Windows has none while a thread waits


@dataclass(frozen=True)
class BatchProgress:
    """The state of a running batch.

    finished, total: clips. task: a clip that has progressed or finished. progress: of that clip, or of its shard
    `shard`; None when the clip has finished, with its record in `record`.
    """

    finished: int
    total: int
    task: ClipTask
    progress: Progress | None = None
    shard: ShardTask | None = None
    record: dict[str, Any] | None = None


BatchProgressCallback: TypeAlias = Callable[[BatchProgress], None]
"""Receives each `BatchProgress`, from any thread."""


@dataclass(frozen=True)
class BatchReport:
    """The outcome of a batch.

    done, failed: the records of the clips processed by this run, as in results.jsonl. skipped: targets that an earlier
    run had finished. results: the file of results.
    """

    results: str
    done: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    failed: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    skipped: list[str] = field(default_factory=list[str])

    @property
    def total(self) -> int:
        return len(self.done) + len(self.failed) + len(self.skipped)

    def as_dict(self) -> dict[str, object]:
        """The report as JSON values: what `steadyscale batch --json` prints."""
        return {
            "command": "batch",
            "results": self.results,
            "clips": self.total,
            "done": len(self.done),
            "skipped": len(self.skipped),
            "failed": [{"in": record["in"], "error": record["error"]} for record in self.failed],
            "frames": sum(record["frames"] for record in self.done),
        }

    def check(self) -> None:
        """Raise BatchFailed where clips have failed."""
        if self.failed:
            lines = [f"{len(self.failed)} of {self.total} clips failed; the same command tries them again"]
            lines += [f"  {prefix_path(record['in'], record['error'])}" for record in self.failed]
            raise BatchFailed("\n".join(lines))

    def __str__(self) -> str:
        """Such as "97 clips written, 2 finished earlier, 1 failed: results.jsonl"."""
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"{len(self.done)} clips written, {len(self.skipped)} finished earlier{failed}: {self.results}"


def run_batch(
    clips: Iterable[ClipTask],
    folder: str | Path,
    *,
    executor: Executor | None = None,
    shard_frames: int | None = None,
    progress: BatchProgressCallback | None = None,
) -> BatchReport:
    """Process many clips, and record each result.

        clips = [ClipTask(path, f"out/{Path(path).name}", "stabilize") for path in paths]
        report = run_batch(clips, "out")

    A clip that fails does not stop the others. Clips that an earlier run finished are skipped, as long as their source,
    result and settings have not changed.

    Args:
        clips: what to do. Folders of results are created.
        folder: holds results.jsonl, the file of results; created if needed. One batch at a time may use it. It and
            the paths of the clips may be URLs; see `upscale_video`.
        executor: runs the clips; None runs one after the other in this process. It is not closed.
        shard_frames: a clip of more frames is divided into shards of about so many, which run at the same time. Their
            files are beside the result, in OUT.job, until it is complete. None divides none.
        progress: called for each step of each clip. What it raises at the end of a clip ends the batch.

    Returns:
        The records of what was done, failed and skipped.

    Raises:
        ClipError: before any work, for two clips with one result, a result that would replace a source, and a folder
            that another batch uses.
        KeyboardInterrupt: after an interrupt. The results of finished clips are kept; the caller closes the executor.
    """
    clips, location = list(clips), parse_location(folder)
    check_targets(clips)
    with _lock(location), closing(ResultLog(location / RESULTS_NAME)) as results:
        run = _BatchRun(clips, results, executor or InlineExecutor(), shard_frames, progress)
        report = BatchReport(str(location / RESULTS_NAME))
        run.process(report)
    return report


def _lock(folder: Location) -> AbstractContextManager[None]:
    """Create a folder, and hold its lock; check a store, which has none."""
    if isinstance(folder, ObjectUrl):
        ObjectStorage(folder).check_bucket()
        return nullcontext()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClipError(f"{folder}: the folder cannot be created ({error.strerror}); choose another one") from error
    return folder_lock(folder)


def check_targets(clips: Sequence[ClipTask]) -> None:
    """Raise ClipError where a result would replace a source or another result."""
    sources = {_path_key(task.source): task for task in clips}
    targets: dict[str, ClipTask] = {}
    for task in clips:
        check_name(task.target)
        key = _path_key(task.target)
        if (other := targets.get(key)) is not None:
            raise ClipError(
                f"{other.source} and {task.source} would both be written to {task.target}; "
                "give one of them another name in the list (out)"
            )
        if (replaced := sources.get(key)) is not None:
            raise ClipError(
                f"{task.source}: the result {task.target} would replace the source {replaced.source}; "
                "choose another folder"
            )
        targets[key] = task


def _path_key(path: str) -> str:
    """Equal for all names of one file, whatever their case."""
    return path if is_url(path) else os.path.realpath(path).casefold()


@dataclass
class _Clip:
    """A clip that is being processed.

    source: its `source_state` before. queued, running: numbers of its tasks. shards: of its job, that have not
    finished.
    """

    task: ClipTask
    source: str | None
    queued: int = 0
    running: int = 0
    shards: int = 0
    frames: int = 0
    seconds: float = 0.0
    error: str = ""


class _BatchRun:
    """The clips of a batch while they are processed."""

    def __init__(
        self,
        clips: list[ClipTask],
        results: ResultLog,
        executor: Executor,
        shard_frames: int | None,
        progress: BatchProgressCallback | None,
    ) -> None:
        self._clips, self._results, self._executor = clips, results, executor
        self._shard_frames, self._callback, self._finished = shard_frames, progress, 0
        self._queue: deque[tuple[_Clip, Task]] = deque()  # of shards and joins
        self._running: dict[Future[TaskResult], tuple[_Clip, Task]] = {}

    def process(self, report: BatchReport) -> None:
        """Process all clips, with no more tasks at a time than the executor has slots."""
        clips = self._unfinished(report)
        while True:
            while len(self._running) < self._executor.slots:
                item = self._next_shard() or next(clips, None)
                if item is None:
                    break
                self._submit(*item)
            if not self._running:
                return
            finished, _ = wait(self._running, WAIT_SECONDS, FIRST_COMPLETED)
            for future in [future for future in self._running if future in finished]:  # in the order of their start
                self._collect(*self._running.pop(future), future.result(), report)

    def _unfinished(self, report: BatchReport) -> Iterator[tuple[_Clip, Task]]:
        for task in self._clips:
            if self._results.is_done(task):
                self._finished += 1
                report.skipped.append(task.target)
                continue
            clip = _Clip(task, source_state(task))  # before the source is read, so that a later change is noticed
            yield clip, task if self._shard_frames is None else PlanTask(task, self._shard_frames)

    def _next_shard(self) -> tuple[_Clip, Task] | None:
        """The next shard or join; those of a clip that has failed are dropped."""
        while self._queue:
            clip, task = self._queue.popleft()
            clip.queued -= 1
            if not clip.error:
                return clip, task
        return None

    def _submit(self, clip: _Clip, task: Task) -> None:
        clip.running += 1
        try:
            target = parse_location(clip.task.target)
            if isinstance(target, Path):
                target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            failure: Future[TaskResult] = Future()
            failure.set_result(TaskResult(error=error_line(error)))
            self._running[failure] = clip, task
            return
        shard = task if isinstance(task, ShardTask) else None

        def report_progress(progress: Progress) -> None:
            self._report(BatchProgress(self._finished, len(self._clips), clip.task, progress, shard))

        self._running[self._executor.submit(task, report_progress)] = clip, task

    def _collect(self, clip: _Clip, task: Task, result: TaskResult, report: BatchReport) -> None:
        """Note the outcome of a task: queue what follows it, or record the clip."""
        clip.running -= 1
        clip.frames, clip.seconds, clip.error = result.frames, clip.seconds + result.seconds, clip.error or result.error
        if not clip.error and result.shards:
            clip.shards = result.shards
            self._enqueue(
                clip, [ShardTask(clip.task.source, job_folder(clip.task), k, clip.shards) for k in range(clip.shards)]
            )
        elif not clip.error and isinstance(task, ShardTask):
            clip.shards -= 1
            if not clip.shards:
                self._enqueue(clip, [JoinTask(clip.task.source, job_folder(clip.task))])
        if clip.running or (clip.queued and not clip.error):
            return
        outcome = TaskResult(clip.error, 0 if clip.error else clip.frames, clip.seconds)
        record = self._results.add(clip.task, outcome, clip.source)
        (report.done if record["status"] == DONE else report.failed).append(record)
        self._finished += 1
        self._report(BatchProgress(self._finished, len(self._clips), clip.task, record=record))

    def _enqueue(self, clip: _Clip, tasks: Sequence[Task]) -> None:
        clip.queued += len(tasks)
        self._queue.extend((clip, task) for task in tasks)

    def _report(self, progress: BatchProgress) -> None:
        if self._callback is not None:
            self._callback(progress)
