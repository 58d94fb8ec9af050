"""A run that can be killed at any moment: work is done in segments, and the same call goes on after the last one.

    with opened_job(folder_for(target), source) as job:
        path = Trajectory.of(kept_motion(job, clip, flow_model()))
        recipe = Recipe(clip).then(Enlarge(model)).then(Steady(correction(path, smooth(path))))
        run_job(job, recipe, target)

A segment is the same whether it is made in one run with the others or not, so the result is that of an undisturbed
run. What was made of another source, or with other weights, settings or versions, is not used.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast

from ..clip import Clip, ClipError, ClipInfo, Frames
from ..pipeline.pipeline import Pipeline
from ..pipeline.slicing import pipeline_shots, render_piece, resolve_zoom, source_range, unbatch
from ..runtime.atomic_write import partial_path
from ..runtime.prefetch import chain_first, prefetch
from ..video.decode.corruption import CorruptionReport
from ..video.decode.timestamps import Timestamps
from ..video.decode.video_clip import VideoClip
from ..video.encode.codecs import Encoding, codec_for, container_for
from ..video.encode.output_format import has_transparency
from ..video.encode.writer import write_video
from ..video.images.sequence_paths import is_image_sequence
from ..video.open import check_target
from ..video.verify.verify import verify_output
from .concat import Segment, check_segment, concat_segments
from .folder import Job, with_resume_hint
from .manifest import fsync_folder
from .segments import SEGMENT_SECONDS, FrameReader, split_clip

log = logging.getLogger(__name__)

ProgressStage = Callable[[Iterator[Frames], int], Iterator[Frames]]


class JobResult(NamedTuple):
    """frames: of the result. segments: that it was joined of. kept: those of them that an earlier run had made."""

    frames: int
    segments: int
    reused: int


def run_job(
    job: Job,
    clip: Clip,
    target: str | Path,
    *,
    encoding: Encoding | None = None,
    segment_seconds: float = SEGMENT_SECONDS,
    progress: ProgressStage | None = None,
    keep_files: bool = False,
) -> JobResult:
    """Make the frames of `clip`, a recipe whose source reads the job's source, and write them to the video `target`.

    Segments end where shots do, if the recipe knows any, and after `segment_seconds` at the latest. The source is
    decoded once, in order. watch: one more stage for the frames that are made, such as progress or cancel; it is told
    how many earlier runs have made.
    The target appears, whole and checked (video/contract.py), when all of it is written; then the job's files are
    removed, unless `keep` leaves them for `remove_job`: the same call then only joins them again.
    Whatever ends the run before leaves the finished segments. Raises ClipError, which says so.
    """
    target, encoding = Path(target), encoding or Encoding()
    if is_image_sequence(target):
        raise ClipError(f"{target}: a job writes a video file; write pictures without one")
    check_target(target, encoding=encoding, source=job.source)
    recipe = clip if isinstance(clip, Pipeline) else Pipeline(clip)
    times = job.timestamps(recipe.info.fps)
    pieces = split_clip(times.starts, times.time_base, segment_seconds, pipeline_shots(recipe))
    settings = job.settings(
        operations=[recipe.source.info, recipe.operations],
        encoding=[target.suffix.lower(), encoding],
        pieces=pieces,
    )
    with with_resume_hint(job, "segment"):
        plan = resolve_zoom(recipe, len(times.starts))
        done = job.manifest.begin("segment", settings)
        kept = len(done)
        if kept:
            log.warning("%s: going on, %d of %d segments are there", job.folder, kept, len(pieces))
        _write_segments(job, plan, target.suffix.lower(), encoding, times, pieces, progress)
        _finalize_output(job, target, times, recipe.info)
    if not keep_files:
        job.manifest.remove_files()
    return JobResult(len(times.starts), len(pieces), kept)


def _write_segments(
    job: Job,
    pipeline: Pipeline,
    suffix: str,
    encoding: Encoding,
    times: Timestamps,
    pieces: list[range],
    progress: ProgressStage | None,
) -> None:
    """Write the segments that are not there yet."""
    done = job.manifest.pieces("segment")
    missing = [index for index in range(len(pieces)) if index not in done]
    source = job.source if job.times else None
    damage = pipeline.source.damage if isinstance(pipeline.source, VideoClip) else CorruptionReport()
    for facts in done.values():
        damage.merge(facts.get("damage", []))
    with closing(
        cast(Any, _render_pieces(pipeline, [pieces[index] for index in missing], len(times.starts)))
    ) as results:
        stream = progress(results, sum(len(pieces[index]) for index in done)) if progress else results
        for index in missing:
            piece, file = pieces[index], job.folder / f"segment-{index:05d}{suffix}"
            first = next(stream, None)
            if first is None:
                raise ClipError(f"{job.source}: its frames ended before number {piece.start} was made")
            if index == 0:
                encoding = _resolve_encoding(encoding, file, first)
            else:
                encoding = replace(encoding, pixel_format=done[0]["pixel_format"])
            frames = chain_first([first], islice(stream, len(piece) - 1))
            del first  # A large frame, which would stay for as long as the segment is written.
            write_video(
                file, frames, pipeline.info, encoding=encoding, source=source, times=_slice_timestamps(times, piece)
            )
            segment = check_segment(file, piece)
            facts = {"start": piece.start, "stop": piece.stop, "header": segment.extradata_hash}
            shown = {"first": str(times.starts[piece.start] * times.time_base), "pixel_format": encoding.pixel_format}
            hurt = damage.to_table(piece)
            job.manifest.add("segment", index, file, facts | shown | ({"damage": hurt} if hurt else {}))
            log.info("%s: segment %d of %d is written", job.folder, index + 1, len(pieces))
        if missing:
            next(stream, None)  # its stages see the end, and the source has to be there


def _render_pieces(pipeline: Pipeline, pieces: list[range], frame_count: int) -> Iterator[Frames]:
    """The frames of these pieces of the result, one after the other. The source is read once for all of them."""
    windows = [source_range(pipeline, piece, frame_count) for piece in pieces]
    if not windows:
        return
    begin = windows[0].start
    with closing(cast(Any, prefetch(_frames_from(pipeline.source, begin), name="reading"))) as stream:
        reading = FrameReader(stream, begin)
        for at, (piece, seen) in enumerate(zip(pieces, windows, strict=True)):
            keep = windows[at + 1].start if at + 1 < len(windows) else frame_count
            with closing(
                cast(Any, prefetch(unbatch(render_piece(pipeline, reading.read_range(seen, keep), seen, piece))))
            ) as frames:
                yield from frames
        if pieces[-1].stop == frame_count:
            reading.expect_end()


def _frames_from(clip: Clip, first: int) -> Iterator[Frames]:
    """The frames of the clip from that one on, one by one."""
    if isinstance(clip, VideoClip):
        return clip.frames(first=first)
    return islice(unbatch(clip.frames()), first, None)


def _resolve_encoding(encoding: Encoding, file: Path, first: Frames) -> Encoding:
    """The encoding with the pixel format that `write_video` would choose by the first frame of all: it is every
    segment's.
    """
    codec = codec_for(file, container_for(file), encoding)
    usual = (codec.alpha_format if has_transparency(first) else None) or codec.pixel_format
    return replace(encoding, pixel_format=encoding.pixel_format or usual)


def _slice_timestamps(times: Timestamps, piece: range) -> Timestamps:
    """The times of these frames, from 0 on."""
    rows = slice(piece.start, piece.stop)
    first = times.starts[piece.start]
    return Timestamps(
        [start - first for start in times.starts[rows]], times.durations[rows], times.time_base, times.origin
    )


def _finalize_output(job: Job, target: Path, times: Timestamps, info: ClipInfo) -> None:
    """Join the segments, check the result, and let it appear under its name."""
    job.check_source()
    facts = [piece for _, piece in sorted(job.manifest.pieces("segment").items())]
    segments = [Segment(job.folder / f["file"], range(f["start"], f["stop"]), f["header"]) for f in facts]
    needed, free = sum(f["bytes"] for f in facts), shutil.disk_usage(target.parent).free
    if free < needed:
        raise ClipError(
            f"{target}: joining the segments needs {needed / 1e6:.1f} MB and {free / 1e6:.1f} MB are free; make room"
        )
    # Always the same name: what a killed run leaves is written over by the next.
    mark = sha256(str(job.folder.resolve()).encode()).hexdigest()[:8]
    partial = partial_path(target, mark)
    source = job.source if job.times else None
    try:
        concat_segments(segments, partial, container=container_for(target), times=times, fps=info.fps, source=source)
        verify_output(partial, source, frame_count=len(times.starts), info=info, window=job.window)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
        fsync_folder(target.parent)
    except ClipError as e:
        raise type(e)(str(e).replace(str(partial), str(target))) from e
    finally:
        with suppress(OSError):  # A disk that takes no files refuses this as well; the first error counts.
            partial.unlink(missing_ok=True)
