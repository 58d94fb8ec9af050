"""Join the parts of a planned job into one file."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..clip import ClipError
from ..runtime.files.atomic_write import atomic_path, fsync_folder
from ..video.encode.codecs import container_for
from ..video.verify.verify import VerificationError, verify_output
from .concat import Segment, concat_segments, hash_video_packets
from .shard import finished_parts
from .state.job_plan import JobPlan, decode_plan, encode_plan
from .state.layout import JOINED, PLAN, JobFolder

_MAX_LISTED = 20  # missing pieces that a message lists


def complete_parts(folder: JobFolder, plan: JobPlan) -> list[dict[str, Any]]:
    """Return the records of all parts.

    Raises ClipError for missing or damaged parts, and names them.
    """
    records = finished_parts(folder, plan, range(len(plan.pieces)))
    missing = [index for index in range(len(plan.pieces)) if index not in records]
    if missing:
        more = ", ..." if len(missing) > _MAX_LISTED else ""
        raise ClipError(
            f"{folder.path}: {len(missing)} of {len(plan.pieces)} pieces are not finished "
            f"({', '.join(map(str, missing[:_MAX_LISTED]))}{more}); run their shards, then join again"
        )
    return [records[index] for index in range(len(plan.pieces))]


def join_parts(folder: JobFolder, plan: JobPlan, records: Sequence[dict[str, Any]], target: Path, source: Path) -> None:
    """Write the video `target` from all parts.

    The packets of the parts are copied, and those of the audio and subtitles of the source. The shards have decoded and
    verified every frame; the join verifies packets, numbers of frames, timestamps and ends. The target appears complete
    or not at all, and the parts stay. Raises ClipError.
    """
    _check_free_space(records, target)
    partial, video_source = target, source if plan.is_video else None
    try:
        with folder.local_parts(records) as files, atomic_path(target) as partial:
            segments = [
                Segment(file, range(record["start"], record["stop"]), record["header"])
                for file, record in zip(files, records, strict=True)
            ]
            _write(partial, segments, plan, target, video_source)
        fsync_folder(target.parent)
    except ClipError as e:
        raise type(e)(str(e).replace(str(partial), str(target))) from e


def record_join(folder: JobFolder, plan: JobPlan, records: Sequence[dict[str, Any]]) -> None:
    """Record that the target is complete, before the job is removed."""
    folder.write(JOINED, {"plan": encode_plan(plan), "records": [*records]})


def read_join(folder: JobFolder) -> tuple[JobPlan, list[dict[str, Any]]] | None:
    """Return the plan and the parts of a join that was killed while removing them.

    None if no join was interrupted.
    """
    joined = folder.read(JOINED)
    if joined is None or folder.exists(PLAN):  # With a plan, the job can be joined again, or it is a new one.
        return None
    return decode_plan(joined["plan"]), joined["records"]


def _write(partial: Path, segments: Sequence[Segment], plan: JobPlan, target: Path, source: Path | None) -> None:
    times, info = plan.times, plan.info
    digest = concat_segments(
        segments, partial, container=container_for(target), times=times, fps=info.fps, source=source
    )
    verify_output(
        partial,
        source,
        frame_count=len(times.starts),
        info=info,
        window=plan.window,
        moment=lambda number: (times.starts[number] - times.starts[0]) * times.time_base,
        decode=False,
    )
    if hash_video_packets(partial) != digest:
        raise VerificationError(
            f"{partial}: the result failed verification: its video is not that of the parts; check the disk"
        )


def _check_free_space(records: Sequence[dict[str, Any]], target: Path) -> None:
    needed, free = sum(record["bytes"] for record in records), shutil.disk_usage(target.parent).free
    if free < needed:
        raise ClipError(
            f"{target}: joining the parts needs {needed / 1e6:.1f} MB and {free / 1e6:.1f} MB are free; "
            "free some disk space"
        )
