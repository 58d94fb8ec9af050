"""Run one task in the present process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..clip import ClipInfo, parse_fps
from ..jobs.segments import SEGMENT_SECONDS
from ..runtime.error_line import error_line
from ..storage.copies import local_source
from .tasks import ClipTask, JoinTask, PlanTask, ShardTask, Task, TaskProgress, TaskResult

if TYPE_CHECKING:
    from ...models import Upscaler


def run_task(task: Task, device: str, progress: TaskProgress | None = None) -> TaskResult:
    """Run a task, and return its outcome.

    device: where networks run. An `Exception` is returned in the outcome; others, such as KeyboardInterrupt, are
    raised, also those of `progress`.
    """
    start = time.monotonic()
    try:
        result = _run(task, device, progress)
    except Exception as error:  # of whatever kind: the other clips go on
        result = TaskResult(error=error_line(error))
    return replace(result, seconds=time.monotonic() - start)


def _run(task: Task, device: str, progress: TaskProgress | None) -> TaskResult:
    from .. import api

    match task:
        case ShardTask():
            shard = api.run_shard(task.job, task.index, task.count, device=device, progress=progress)
            return TaskResult(frames=shard.frames)
        case JoinTask():
            return TaskResult(frames=api.join_job(task.job).frames_out)
        case PlanTask():
            if (info := _sharded_info(task)) is not None:
                return _plan(task, info, device, progress)
            return TaskResult(frames=_process_clip(task.clip, device, progress))
        case ClipTask():
            return TaskResult(frames=_process_clip(task, device, progress))


def _sharded_info(task: PlanTask) -> ClipInfo | None:
    """Properties of a clip that is long enough for shards, and written to one file."""
    from ..video.decode.packets.demux import MAX_PIXELS
    from ..video.images.sequence_paths import is_image_sequence
    from ..video.open import open_clip

    if is_image_sequence(Path(task.clip.target)):
        return None
    arguments = task.clip.arguments
    fps, max_pixels = parse_fps(arguments.get("fps", 24)), arguments.get("max_pixels", MAX_PIXELS)
    with local_source(task.clip.source) as path:
        info = open_clip(path, fps=fps, max_pixels=max_pixels).info
    return info if (info.length or 0) > task.shard_frames else None


def _plan(task: PlanTask, info: ClipInfo, device: str, progress: TaskProgress | None) -> TaskResult:
    from .. import api

    clip, arguments = task.clip, dict(task.clip.arguments)
    arguments.pop("bits", None)  # of images
    if (settings := arguments.pop("settings", None)) is not None:
        arguments["upscaling" if clip.operation == "upscale" else "stabilization"] = settings
    plan = api.plan_job(
        clip.source,
        clip.target,
        job_folder(clip),
        command=clip.operation,
        **arguments,
        device=device,
        segment_seconds=min(SEGMENT_SECONDS, float(task.shard_frames / info.fps)),
        progress=progress,
    )
    frames = sum(len(piece) for piece in plan.pieces)
    return TaskResult(frames=frames, shards=min(len(plan.pieces), ceil(frames / task.shard_frames)))


def job_folder(clip: ClipTask) -> str:
    """The folder of the job of a clip that is divided into shards: beside its result."""
    return f"{clip.target}.job"


def _process_clip(task: ClipTask, device: str, progress: TaskProgress | None) -> int:
    from .. import api

    function = getattr(api, f"{task.operation}_video")
    arguments = {**load_named_model(task.arguments), "device": device, "progress": progress}
    return int(function(task.source, task.target, **arguments).frames_out)


def load_named_model(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with the loaded network in place of its name or path.

    The network is kept for the next clip.
    """
    model = arguments.get("model")
    if not isinstance(model, (str, Path)):
        return dict(arguments)
    from ...models.zoo import zoo

    path = zoo.find_weights(str(model))
    return {**arguments, "model": _load_weights(path, path.stat().st_mtime_ns)}


@lru_cache(maxsize=2)
def _load_weights(path: Path, changed: int) -> Upscaler:
    """Load a network.

    changed: the time of the file's last change.
    """
    from ...models import load_upscaler

    return load_upscaler(path)
