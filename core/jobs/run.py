"""Run a pipeline as a resumable job, computed in segments.

    with open_job(default_job_folder(target), source) as job:
        path = Trajectory.of(cached_motion(job, clip, flow_model()))
        pipeline = Pipeline(clip).then(UpscaleOp(model)).then(WarpOp(correction(path, smooth(path))))
        run_job(job, pipeline, target)

A segment does not depend on whether it is computed in the same run as the others, so the result equals that of an
uninterrupted run. Segments of another source, other weights, settings or versions are not reused, and neither are those
of another engine, kind of device or precision, whose results differ by rounding.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ..clip import Clip, ClipError, ClipInfo, Frames, clip_bit_depth
from ..pipeline.pipeline import Pipeline
from ..pipeline.slicing import pipeline_shots, render_piece, resolve_zoom, source_range, unbatch
from ..pipeline.upscale_op import UpscaleOp
from ..runtime.atomic_write import atomic_path
from ..runtime.prefetch import chain_first, prefetch
from ..upscaling.settings import UpscaleStats
from ..video.decode.corruption import CorruptionReport
from ..video.decode.timestamps import Timestamps
from ..video.decode.video_clip import VideoClip
from ..video.encode.codecs import Encoding, codec_for, codec_name, container_for
from ..video.encode.hardware_encoders import choose_encoder
from ..video.encode.output_format import OutputFormat, probe_format
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
    """What a resumable run has written.

    frames: in the result. segments: of the job. reused: how many of them an earlier run had finished.
    """

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
    """Compute the frames of `clip` in segments, and write them to the video `target`.

    clip: a pipeline whose source reads the job's source. Segments end at shot boundaries, if the pipeline has any, and
    after `segment_seconds` at most. The source is decoded once, in order. progress: one more stage for the computed
    frames, such as progress or cancellation; its second argument is the number of frames that earlier runs have
    computed. The target appears when it is complete and verified. Then the job's files are removed, unless `keep_files`
    leaves them for `remove_job`: the same call then only concatenates them again.
    If the run ends early, finished segments stay. Raises ClipError, with a hint how to resume.
    """
    target, encoding = Path(target), encoding or Encoding()
    if is_image_sequence(target):
        raise ClipError(f"{target}: a job writes a video file; write images without a job")
    check_target(target, encoding=encoding, source=job.source)
    pipeline = _with_stats(clip if isinstance(clip, Pipeline) else Pipeline(clip))
    times = job.timestamps(pipeline.info.fps)
    pieces = split_clip(times.starts, times.time_base, segment_seconds, pipeline_shots(pipeline))
    runtime = [operation.runtime for operation in _upscale_ops(pipeline)]
    settings = job.settings(
        **({"runtime": runtime} if runtime else {}),
        operations=[pipeline.source.info, pipeline.operations],
        encoding=[target.suffix.lower(), encoding],
        pieces=pieces,
    )
    with with_resume_hint(job, "segment"):
        plan = resolve_zoom(pipeline, len(times.starts))
        finished = job.manifest.begin("segment", settings)
        reused = len(finished)
        if reused:
            log.warning("%s: resuming, %d of %d segments are finished", job.folder, reused, len(pieces))
        reused -= _write_segments(job, plan, target.suffix.lower(), encoding, times, pieces, progress)
        _finalize_output(job, target, times, pipeline.info)
    if not keep_files:
        job.manifest.remove_files()
    return JobResult(len(times.starts), len(pieces), reused)


def _upscale_ops(pipeline: Pipeline) -> list[UpscaleOp]:
    return [operation for operation in pipeline.operations if isinstance(operation, UpscaleOp)]


def _with_stats(pipeline: Pipeline) -> Pipeline:
    """The same pipeline; each of its networks counts what it does."""
    operations = [
        replace(operation, stats=UpscaleStats())
        if isinstance(operation, UpscaleOp) and operation.stats is None
        else operation
        for operation in pipeline.operations
    ]
    return replace(pipeline, operations=tuple(operations))


def _computed_by(pipeline: Pipeline) -> list[list[str]]:
    """(engine, precision) of each network of the pipeline, as it ran last."""
    return [[o.stats.engine, o.stats.mode] for o in _upscale_ops(pipeline) if o.stats is not None]


def _write_segments(
    job: Job,
    pipeline: Pipeline,
    suffix: str,
    encoding: Encoding,
    times: Timestamps,
    pieces: list[range],
    progress: ProgressStage | None,
) -> int:
    """Write the missing segments; return how many of the finished ones were discarded.

    These are the segments of earlier runs that another engine or precision has computed than the first one of this run.
    """
    finished = job.manifest.pieces("segment")
    earlier, mixed = dict(finished), list[int]()
    missing = [index for index in range(len(pieces)) if index not in finished]
    source = job.source if job.times else None
    corruption = pipeline.source.damage if isinstance(pipeline.source, VideoClip) else CorruptionReport()
    for metadata in finished.values():
        corruption.merge(metadata.get("damage", []))
    if earlier:
        # Segments of different encoders cannot be concatenated.
        known = next(iter(earlier.values()))
        encoding = replace(encoding, pixel_format=known["pixel_format"], encoder=known.get("encoder", "software"))
    with closing(_render_pieces(pipeline, [pieces[index] for index in missing], len(times.starts))) as results:
        stream = progress(results, sum(len(pieces[index]) for index in finished)) if progress else results
        for index in missing:
            piece, file = pieces[index], job.folder / f"segment-{index:05d}{suffix}"
            first = next(stream, None)
            if first is None:
                raise ClipError(f"{job.source}: the clip ended before frame {piece.start}; run again")
            if not earlier and index == 0:
                encoding = _resolve_encoding(encoding, file, first, source, clip_bit_depth(pipeline))
            frames = chain_first([first], islice(stream, len(piece) - 1))
            del first  # Frames are large; this reference would live until the segment is complete.
            write_video(
                file, frames, pipeline.info, encoding=encoding, source=source, times=_slice_timestamps(times, piece)
            )
            segment = check_segment(file, piece)
            metadata = {"start": piece.start, "stop": piece.stop, "header": segment.extradata_hash}
            extra = {"first": str(times.starts[piece.start] * times.time_base), "pixel_format": encoding.pixel_format}
            corrupt_runs, computed = corruption.to_table(piece), _computed_by(pipeline)
            extra |= {"encoder": encoding.encoder} if encoding.encoder != "software" else {}
            extra |= {"damage": corrupt_runs} if corrupt_runs else {}
            extra |= {"computed": computed} if computed else {}
            job.manifest.add("segment", index, file, metadata | extra)
            log.info("%s: segment %d of %d is written", job.folder, index + 1, len(pieces))
            if index == missing[0]:
                mixed = [i for i, entry in earlier.items() if entry.get("computed", []) != computed]
                if mixed:
                    log.warning(
                        "%s: %d finished segments were computed by another engine or precision than %s, so they are "
                        "discarded",
                        job.folder, len(mixed), ", ".join(" ".join(names) for names in computed),
                    )  # fmt: skip
                    job.manifest.discard("segment", mixed)
        if missing:
            next(stream, None)  # lets the stages end, and checks that the source ends too
    if mixed:
        _write_segments(job, pipeline, suffix, encoding, times, pieces, progress)
    return len(mixed)


def _render_pieces(pipeline: Pipeline, pieces: list[range], frame_count: int) -> Generator[Frames, None, None]:
    """Yield the frames of these pieces of the result, reading the source once."""
    windows = [source_range(pipeline, piece, frame_count) for piece in pieces]
    if not windows:
        return
    first_frame = windows[0].start
    with closing(prefetch(_frames_from(pipeline.source, first_frame), name="reading")) as stream:
        reader = FrameReader(stream, first_frame)
        for index, (piece, window) in enumerate(zip(pieces, windows, strict=True)):
            keep = windows[index + 1].start if index + 1 < len(windows) else frame_count
            rendered = unbatch(render_piece(pipeline, reader.read_range(window, keep), window, piece, on_device=True))
            with closing(prefetch(rendered)) as frames:
                yield from frames
        if pieces[-1].stop == frame_count:
            reader.expect_end()


def _frames_from(clip: Clip, first: int) -> Iterator[Frames]:
    """Yield the frames of the clip from `first` on, one by one."""
    if isinstance(clip, VideoClip):
        return clip.frames(first=first)
    return islice(unbatch(clip.frames()), first, None)


def _resolve_encoding(encoding: Encoding, file: Path, first: Frames, source: Path | None, bits: int | None) -> Encoding:
    """Return the encoding with an explicit pixel format and encoder.

    They are the same for all segments: those that `write_video` would choose for the first frame.
    """
    container = container_for(file)
    codec = codec_for(file, container, encoding)
    source_format = probe_format(source) if source is not None else None
    output_format = OutputFormat.of(first, codec, encoding, source_format, file, bits)
    pixel_format, size = output_format.pixel_format, output_format.padded_size
    setup = choose_encoder(file, codec_name(container, encoding), codec, encoding, pixel_format, size)
    return replace(encoding, pixel_format=pixel_format, encoder=setup.name if setup.is_hardware else "software")


def _slice_timestamps(times: Timestamps, piece: range) -> Timestamps:
    """Return the timestamps of these frames, starting at 0."""
    rows = slice(piece.start, piece.stop)
    first = times.starts[piece.start]
    return Timestamps(
        [start - first for start in times.starts[rows]], times.durations[rows], times.time_base, times.origin
    )


def _finalize_output(job: Job, target: Path, times: Timestamps, info: ClipInfo) -> None:
    """Concatenate the segments, verify the result, and move it to `target`."""
    job.check_source()
    metadata = [piece for _, piece in sorted(job.manifest.pieces("segment").items())]
    segments = [
        Segment(job.folder / entry["file"], range(entry["start"], entry["stop"]), entry["header"]) for entry in metadata
    ]
    needed, free = sum(entry["bytes"] for entry in metadata), shutil.disk_usage(target.parent).free
    if free < needed:
        raise ClipError(
            f"{target}: concatenating the segments needs {needed / 1e6:.1f} MB and {free / 1e6:.1f} MB are free; "
            "free some disk space"
        )
    source, partial = job.source if job.times else None, target
    try:
        with atomic_path(target) as partial:
            concat_segments(
                segments, partial, container=container_for(target), times=times, fps=info.fps, source=source
            )
            verify_output(partial, source, frame_count=len(times.starts), info=info, window=job.window)
        fsync_folder(target.parent)
    except ClipError as e:
        raise type(e)(str(e).replace(str(partial), str(target))) from e
