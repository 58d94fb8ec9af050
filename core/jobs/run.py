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
from ..pipeline.pipeline import Recipe
from ..pipeline.slicing import made, one_by_one, settled, shots_of, window
from ..runtime.atomic_write import beside
from ..runtime.prefetch import ahead, with_first
from ..video.decode.corruption import Damage
from ..video.decode.timestamps import Timing
from ..video.decode.video_clip import VideoClip
from ..video.encode.codecs import Encoding, codec_for, container_for
from ..video.encode.output_format import transparent
from ..video.encode.writer import write_video
from ..video.images.sequence_paths import is_sequence
from ..video.open import check_target
from ..video.verify.verify import check_contract
from .concat import Segment, inspected, join
from .folder import Job, resumable
from .manifest import settle
from .segments import SECONDS, Reading, cut

log = logging.getLogger(__name__)

Watch = Callable[[Iterator[Frames], int], Iterator[Frames]]


class Finished(NamedTuple):
    """frames: of the result. segments: that it was joined of. kept: those of them that an earlier run had made."""

    frames: int
    segments: int
    kept: int


def run_job(
    job: Job,
    clip: Clip,
    target: str | Path,
    *,
    encoding: Encoding | None = None,
    segment_seconds: float = SECONDS,
    watch: Watch | None = None,
    keep: bool = False,
) -> Finished:
    """Make the frames of `clip`, a recipe whose source reads the job's source, and write them to the video `target`.

    Segments end where shots do, if the recipe knows any, and after `segment_seconds` at the latest. The source is
    decoded once, in order. watch: one more stage for the frames that are made, such as progress or cancel; it is told
    how many earlier runs have made.
    The target appears, whole and checked (video/contract.py), when all of it is written; then the job's files are
    removed, unless `keep` leaves them for `remove_job`: the same call then only joins them again.
    Whatever ends the run before leaves the finished segments. Raises ClipError, which says so.
    """
    target, encoding = Path(target), encoding or Encoding()
    if is_sequence(target):
        raise ClipError(f"{target}: a job writes a video file; write pictures without one")
    check_target(target, encoding=encoding, source=job.source)
    recipe = clip if isinstance(clip, Recipe) else Recipe(clip)
    times = job.timing(recipe.info.fps)
    pieces = cut(times.starts, times.base, segment_seconds, shots_of(recipe))
    settings = job.settings(
        operations=[recipe.source.info, recipe.operations],
        encoding=[target.suffix.lower(), encoding],
        pieces=pieces,
    )
    with resumable(job, "segment"):
        plan = settled(recipe, len(times.starts))
        done = job.manifest.begin("segment", settings)
        kept = len(done)
        if kept:
            log.warning("%s: going on, %d of %d segments are there", job.folder, kept, len(pieces))
        _make(job, plan, target.suffix.lower(), encoding, times, pieces, watch)
        _put_together(job, target, times, recipe.info)
    if not keep:
        job.manifest.remove()
    return Finished(len(times.starts), len(pieces), kept)


def _make(
    job: Job,
    plan: Recipe,
    suffix: str,
    encoding: Encoding,
    times: Timing,
    pieces: list[range],
    watch: Watch | None,
) -> None:
    """Write the segments that are not there yet."""
    done = job.manifest.pieces("segment")
    missing = [index for index in range(len(pieces)) if index not in done]
    source = job.source if job.times else None
    damage = plan.source.damage if isinstance(plan.source, VideoClip) else Damage()
    for facts in done.values():
        damage.add(facts.get("damage", []))
    with closing(cast(Any, _results(plan, [pieces[index] for index in missing], len(times.starts)))) as results:
        stream = watch(results, sum(len(pieces[index]) for index in done)) if watch else results
        for index in missing:
            piece, file = pieces[index], job.folder / f"segment-{index:05d}{suffix}"
            first = next(stream, None)
            if first is None:
                raise ClipError(f"{job.source}: its frames ended before number {piece.start} was made")
            if index == 0:
                encoding = _definite(encoding, file, first)
            else:
                encoding = replace(encoding, pixel_format=done[0]["pixel_format"])
            frames = with_first([first], islice(stream, len(piece) - 1))
            del first  # A large frame, which would stay for as long as the segment is written.
            write_video(file, frames, plan.info, encoding=encoding, source=source, times=_part(times, piece))
            segment = inspected(file, piece)
            facts = {"start": piece.start, "stop": piece.stop, "header": segment.header}
            shown = {"first": str(times.starts[piece.start] * times.base), "pixel_format": encoding.pixel_format}
            hurt = damage.table(piece)
            job.manifest.add("segment", index, file, facts | shown | ({"damage": hurt} if hurt else {}))
            log.info("%s: segment %d of %d is written", job.folder, index + 1, len(pieces))
        if missing:
            next(stream, None)  # its stages see the end, and the source has to be there


def _results(plan: Recipe, pieces: list[range], count: int) -> Iterator[Frames]:
    """The frames of these pieces of the result, one after the other. The source is read once for all of them."""
    windows = [window(plan, piece, count) for piece in pieces]
    if not windows:
        return
    begin = windows[0].start
    with closing(cast(Any, ahead(_from(plan.source, begin), name="reading"))) as stream:
        reading = Reading(stream, begin)
        for at, (piece, seen) in enumerate(zip(pieces, windows, strict=True)):
            keep = windows[at + 1].start if at + 1 < len(windows) else count
            with closing(cast(Any, ahead(one_by_one(made(plan, reading.run(seen, keep), seen, piece))))) as frames:
                yield from frames
        if pieces[-1].stop == count:
            reading.end()


def _from(clip: Clip, first: int) -> Iterator[Frames]:
    """The frames of the clip from that one on, one by one."""
    if isinstance(clip, VideoClip):
        return clip.frames(first=first)
    return islice(one_by_one(clip.frames()), first, None)


def _definite(encoding: Encoding, file: Path, first: Frames) -> Encoding:
    """The encoding with the pixel format that `write_video` would choose by the first frame of all: it is every
    segment's.
    """
    codec = codec_for(file, container_for(file), encoding)
    usual = (codec.alpha_format if transparent(first) else None) or codec.pixel_format
    return replace(encoding, pixel_format=encoding.pixel_format or usual)


def _part(times: Timing, piece: range) -> Timing:
    """The times of these frames, from 0 on."""
    rows = slice(piece.start, piece.stop)
    first = times.starts[piece.start]
    return Timing([start - first for start in times.starts[rows]], times.durations[rows], times.base, times.origin)


def _put_together(job: Job, target: Path, times: Timing, info: ClipInfo) -> None:
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
    partial = beside(target, mark)
    source = job.source if job.times else None
    try:
        join(segments, partial, container=container_for(target), times=times, fps=info.fps, source=source)
        check_contract(partial, source, frames=len(times.starts), info=info, window=job.window)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
        settle(target.parent)
    except ClipError as e:
        raise type(e)(str(e).replace(str(partial), str(target))) from e
    finally:
        with suppress(OSError):  # A disk that takes no files refuses this as well; the first error counts.
            partial.unlink(missing_ok=True)
