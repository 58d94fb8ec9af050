"""Tasks of a batch: small descriptions of work, and of its outcome.

They are all that travels between processes and machines. Frames never do: a worker reads and writes files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ..api.processing import COMMANDS
from ..api.report import Progress

OPERATIONS = COMMANDS
"""What can be done to a clip: `upscale_video`, `stabilize_video` or `enhance_video` of `core.api`."""


@dataclass(frozen=True)
class ClipTask:
    """One clip of a batch.

    source, target: paths, valid on every worker. operation: one of OPERATIONS. arguments: keyword arguments of its
    function, without `device`, `job`, `resumable` and `progress`. They are pickled, so `model` is a name or a path.
    """

    source: str
    target: str
    operation: str = "enhance"
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if self.operation not in OPERATIONS:
            raise ValueError(f"{self.operation} is not an operation; use {', '.join(OPERATIONS)}")


@dataclass(frozen=True)
class PlanTask:
    """Plan the job of a clip; process one of at most `shard_frames` frames at once."""

    clip: ClipTask
    shard_frames: int

    @property
    def source(self) -> str:
        return self.clip.source


@dataclass(frozen=True)
class ShardTask:
    """Compute shard `index` of `count` of a planned job.

    source: of the clip. job: the folder of the job.
    """

    source: str
    job: str
    index: int
    count: int


@dataclass(frozen=True)
class JoinTask:
    """Join the finished pieces of a job."""

    source: str
    job: str


Task: TypeAlias = ClipTask | PlanTask | ShardTask | JoinTask


@dataclass(frozen=True)
class TaskResult:
    """The outcome of a task.

    error: one line; empty if it succeeded. frames: computed or written. seconds: wall time, 0 for a task whose worker
    died. shards: number of shards of a planned clip; 0 for a clip that is done.
    """

    error: str = ""
    frames: int = 0
    seconds: float = 0.0
    shards: int = 0


TaskProgress: TypeAlias = Callable[[Progress], None]
"""Receives the progress of one task, from any thread."""
