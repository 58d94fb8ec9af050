"""Compute pieces of a planned job: a shard's share of them, or whichever is free."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..clip import ClipError, Frames
from ..pipeline.pipeline import Pipeline
from ..runtime.threads.prefetch import chain_first
from ..storage.object_storage import StorageError
from ..upscaling.settings import UpscaleStats
from ..video.decode.corruption_report import CorruptionReport
from ..video.decode.video_clip import VideoClip
from ..video.encode.writer import write_video
from ..video.format.source_description import IMAGE_FILES
from ..video.verify.verify import verify_output
from .claims import CLAIM_TIMEOUT, MAX_ATTEMPTS, Claims, count_failures, last_error, record_failure
from .concat import check_segment
from .plan import slice_timestamps
from .render import render_pieces
from .state.job_plan import JobPlan, upscale_ops
from .state.layout import CLAIMS, JobFolder

log = logging.getLogger(__name__)

ProgressStage = Callable[[Iterator[Frames], int], Iterator[Frames]]


@dataclass(frozen=True)
class Shard:
    """A share of the pieces of a job: those whose number is `index` modulo `count`."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ClipError(f"{self.index}/{self.count} is not a shard; use 0/{self.count} to {self.count - 1}/...")

    def pieces(self, total: int) -> range:
        """The numbers of its pieces."""
        return range(self.index, total, self.count)


class PieceError(ClipError):
    """Pieces that could not be computed.

    The message names them and the last error of each.
    """


def finished_parts(folder: JobFolder, plan: JobPlan, indices: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return the records of the intact parts of these pieces.

    Records of damaged parts are removed, so that these are computed again.
    """
    records: dict[int, dict[str, Any]] = {}
    listed = folder.finished_records()
    for index in indices:
        record = read_part(folder, plan, index) if folder.part_record(index) in listed else None
        if record is None:
            continue
        if folder.is_intact(record):
            records[index] = record
        else:
            log.warning("%s: %s is damaged and will be computed again", folder.path, record["file"])
            folder.remove_part(index)
    return records


def read_part(folder: JobFolder, plan: JobPlan, index: int) -> dict[str, Any] | None:
    """Return the record of a finished part of this plan; None without one."""
    record = folder.read(folder.part_record(index))
    return record if record is not None and record["plan"] == plan.key else None


def unfinished_parts(folder: JobFolder, plan: JobPlan, indices: Iterable[int]) -> list[int]:
    """Return the pieces, of those given, that have no finished part of this plan."""
    listed = folder.finished_records()  # one request to a store, instead of one for each piece
    return [
        index for index in indices if folder.part_record(index) not in listed or read_part(folder, plan, index) is None
    ]


def compute_shard(
    folder: JobFolder,
    plan: JobPlan,
    pipeline: Pipeline,
    shard: Shard,
    progress: ProgressStage | None = None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> list[int]:
    """Compute the missing pieces of a shard; return their numbers.

    pipeline: as `with_planned_warps` returns it. A piece that fails is tried again after the others, MAX_ATTEMPTS times
    in all, those of earlier runs included. is_cancelled: returns whether an error came from `progress`, and therefore
    ends the run.
    Raises PieceError for pieces that failed MAX_ATTEMPTS times, when all others are finished.
    """
    own = shard.pieces(len(plan.pieces))
    finished = finished_parts(folder, plan, own)
    computed = list[int]()
    left = [index for index in own if index not in finished]
    todo, retry = [index for index in left if count_failures(folder, index) < MAX_ATTEMPTS], list[int]()
    while todo:
        frames_done = plan.count_frames([*finished, *computed])
        try:
            for index in compute_pieces(folder, plan, pipeline, sorted(todo), progress, frames_done):
                computed.append(index)
                todo.remove(index)
        except Exception as error:  # a stage may raise anything
            if is_cancelled() or is_disk_error(error):
                raise
            failed = min(todo)
            todo.remove(failed)
            failures = record_failure(folder, plan, failed, error)
            _log_failure(folder, plan, failed, failures, error)
            if failures < MAX_ATTEMPTS:
                retry.append(failed)
        todo, retry = (todo, retry) if todo else (retry, [])
    raise_failures(folder, plan, [index for index in left if index not in computed])
    return computed


def compute_claimed(
    folder: JobFolder,
    plan: JobPlan,
    pipeline: Pipeline,
    progress: ProgressStage | None = None,
    is_cancelled: Callable[[], bool] = lambda: False,
    timeout: float = CLAIM_TIMEOUT,
) -> list[int]:
    """Compute free pieces until the job is finished; return their numbers.

    timeout: seconds after which the piece of a worker that has vanished is taken over; the other arguments are those of
    `compute_shard`. Raises PieceError for pieces of which MAX_ATTEMPTS failed, when all others are finished.
    """
    claims, computed = Claims(folder, plan, timeout), list[int]()
    left, lost = [*range(len(plan.pieces))], list[int]()
    while left := unfinished_parts(folder, plan, left):
        claimed, lost = None, list[int]()
        for index in left:
            if claims.is_over(index) and count_failures(folder, index) >= MAX_ATTEMPTS:
                lost.append(index)
            elif (number := claims.try_claim(index)) is not None:
                claimed = index, number
                break
        if claimed is not None:
            index, number = claimed
            frames_done = plan.count_frames(computed)
            try:
                with claims.hold(index, number):
                    computed += compute_pieces(folder, plan, pipeline, [index], progress, frames_done)
            except Exception as error:  # a stage may raise anything
                if is_cancelled() or is_disk_error(error):
                    claims.release(index, number)
                    raise
                _log_failure(folder, plan, index, count_failures(folder, index), error)
        elif len(lost) == len(left):
            break
        else:
            time.sleep(claims.poll_seconds)
    raise_failures(folder, plan, left)
    return computed


def compute_pieces(
    folder: JobFolder,
    plan: JobPlan,
    pipeline: Pipeline,
    indices: Sequence[int],
    progress: ProgressStage | None = None,
    frames_done: int = 0,
) -> Generator[int, None, None]:
    """Compute pieces in ascending order; yield the number of each.

    It is yielded when the part is verified and in place.
    progress: one more stage for the computed frames. frames_done: how many have been computed before, for it.
    """
    clip = pipeline.source
    source = clip.path if isinstance(clip, VideoClip) else Path(plan.source) if plan.is_video else None
    corruption = clip.damage if isinstance(clip, VideoClip) else CorruptionReport()
    with closing(render_pieces(pipeline, [plan.pieces[index] for index in indices], plan.times)) as results:
        stream = progress(results, frames_done) if progress else results
        counted = _count(pipeline)
        for index in indices:
            piece = plan.pieces[index]
            first = next(stream, None)
            if first is None:
                raise ClipError(f"{plan.source}: the clip ended before frame {piece.start}; run again")
            plan.check_computed(pipeline, index)
            frames = chain_first([first], islice(stream, len(piece) - 1))
            del first  # Frames are large; this reference would live until the part is complete.
            times = slice_timestamps(plan.times, piece)
            with folder.part_folder(index) as temporary:
                file = temporary / f"part{plan.suffix}"
                write_video(
                    file,
                    frames,
                    plan.info,
                    encoding=plan.encoding,
                    source=source,
                    times=times,
                    description=None if plan.is_video else IMAGE_FILES,
                )
                segment = check_segment(file, piece)
                verify_output(
                    file,
                    None,
                    frame_count=len(piece),
                    info=plan.info,
                    moment=lambda number, times=times: times.starts[number] * times.time_base,
                )
                before, counted = counted, _count(pipeline)
                record = {
                    "plan": plan.key,
                    "start": piece.start,
                    "stop": piece.stop,
                    "header": segment.extradata_hash,
                    "damage": corruption.to_table(piece),
                    "stats": {name: count - before[name] for name, count in counted.items()},
                }
                folder.add_part(index, file, record)
            log.info("%s: piece %d of %d is finished", folder.path, index + 1, len(plan.pieces))
            yield index
        next(stream, None)  # lets the stages end, and checks that the source ends too


def raise_failures(folder: JobFolder, plan: JobPlan, indices: Sequence[int]) -> None:
    """Raise PieceError if there are pieces that failed."""
    if not indices:
        return
    reasons = [f"{describe_piece(plan, index)}: {last_error(folder, index)}" for index in indices]
    raise PieceError(
        f"{folder.path}: {len(indices)} of {len(plan.pieces)} pieces failed {MAX_ATTEMPTS} times: "
        f"{'; '.join(reasons)}. "
        f"Fix the cause, delete the folder {folder.path / CLAIMS}, and run the shard again"
    )


def describe_piece(plan: JobPlan, index: int) -> str:
    """Describe a piece, such as "piece 3 (frames 30 to 39)"."""
    piece = plan.pieces[index]
    return f"piece {index} (frames {piece.start} to {piece.stop - 1})"


def is_disk_error(error: BaseException | None) -> bool:
    """Whether the disk or the store failed, which is no fault of a piece."""
    while error is not None:
        if isinstance(error, StorageError):
            return True
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            return True
        error = error.__cause__ or error.__context__
    return False


def _log_failure(folder: JobFolder, plan: JobPlan, index: int, failures: int, error: Exception) -> None:
    name = describe_piece(plan, index)
    log.warning("%s: %s failed (attempt %d of %d): %s", folder.path, name, failures, MAX_ATTEMPTS, error)


def _count(pipeline: Pipeline) -> dict[str, int]:
    """The counters of all networks together."""
    total = UpscaleStats()
    for operation in upscale_ops(pipeline):
        total.add(operation.stats or UpscaleStats())
    return {name: value for name, value in vars(total).items() if isinstance(value, int)}
