"""The last step of a job: one file of its pieces."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...clip import ClipError, ClipInfo
from ...runtime.peak_memory import peak_memory_mb
from ...storage.copies import local_source, local_target, object_state
from ...storage.location import Location, ObjectUrl, parse_location
from ...upscaling.settings import UpscaleStats
from ...video.decode.corruption_report import CorruptionReport
from ...video.decode.packets import demux
from ...video.open import check_target, open_clip
from ..report import VideoReport
from .stored_plan import check_source, decode_stabilization, load_job_plan

if TYPE_CHECKING:
    from ...jobs.state.job_plan import JobPlan

log = logging.getLogger(__name__)


def join_job(
    job: str | Path,
    target: str | Path | None = None,
    *,
    source: str | Path | None = None,
    keep_files: bool = False,
) -> VideoReport:
    """Join the finished pieces of a job into its target, and remove the job's files.

    The target appears complete and verified, or not at all. Joins at the same time do not disturb each other.

    Args:
        job: the folder of the job.
        target: path of the result on this machine, if it differs from that in the plan.
        source: path of the source, likewise.
        keep_files: leave the job's files, so that it can be joined again.

    Returns:
        The report of all shards together; its time and peak memory are those of the join alone.

    Raises:
        ClipError: pieces are missing or damaged, or the source has changed; the message names the pieces.
    """
    from ...jobs.join import complete_parts, join_parts, read_join, record_join
    from ...jobs.state.layout import PLAN, JobFolder

    start, folder = time.monotonic(), JobFolder(job)
    joined = read_join(folder)
    plan, records = joined or (load_job_plan(folder), list[dict[str, Any]]())
    result, origin = parse_location(target or plan.target), parse_location(source or plan.source)
    if result.suffix.lower() != plan.suffix:
        raise ClipError(f"{result}: the job was planned for a {plan.suffix} file; use that suffix, or plan again")
    info = None
    if joined is None:
        try:
            # A result that could not be sent is not kept, because its parts are.
            with local_source(origin) as path, local_target(result, keep_unsent=False) as output:
                check_target(output, encoding=plan.encoding, source=path)
                check_source(path, plan)
                records = complete_parts(folder, plan)
                join_parts(folder, plan, records, output, path)
                info = _video_info(output)
            if not keep_files:
                record_join(folder, plan, records)
        except (ClipError, OSError):
            if folder.exists(PLAN) or not _is_written(result):
                raise
            log.info("%s: another join has finished and removed the job", result)
    if not keep_files:
        folder.remove()
    if info is None:
        with local_source(result) as written:
            info = _video_info(written)
    damage, stats = CorruptionReport(), UpscaleStats()
    for record in records:
        damage.merge(record["damage"])
        stats.add(UpscaleStats(**record["stats"]))
    for engine, mode in plan.computed:
        stats.add(UpscaleStats(engine=engine, mode=mode))
    stabilization = plan.arguments["stabilization"]
    return VideoReport(
        command=plan.command,
        input=str(origin),
        output=str(result),
        frames_in=plan.frame_count,
        frames_out=plan.frame_count,
        info=replace(info, fps=plan.info.fps),
        seconds=time.monotonic() - start,
        peak_memory_mb=peak_memory_mb(),
        device=_device_kinds(plan) if plan.computed else "cpu",
        damage=damage,
        stats=stats if plan.computed else None,
        stabilization=None if stabilization is None else decode_stabilization(stabilization),
    )


def _device_kinds(plan: JobPlan) -> str:
    """The kinds of the devices of all networks, which are the same for each shard."""
    return ",".join(dict.fromkeys(one["device"] for one in plan.settings["runtime"]))


def _video_info(file: Path) -> ClipInfo:
    return open_clip(file, max_pixels=demux.NO_PIXEL_LIMIT).info


def _is_written(result: Location) -> bool:
    return object_state(result) is not None if isinstance(result, ObjectUrl) else result.exists()
