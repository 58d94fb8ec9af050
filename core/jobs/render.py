"""Render pieces of a pipeline's result, seeking to each run of neighboring pieces."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice

from ..clip import Clip, Frames
from ..pipeline.pipeline import Pipeline
from ..pipeline.slicing import render_piece, source_range, unbatch
from ..runtime.threads.prefetch import prefetch
from ..video.decode.timestamps import Timestamps
from ..video.decode.video_clip import VideoClip
from .segments import FrameReader


def render_pieces(pipeline: Pipeline, pieces: Sequence[range], times: Timestamps) -> Generator[Frames, None, None]:
    """Yield the frames of these pieces of the result, one by one.

    pipeline: as `resolve_zoom` returns it. pieces: ascending. times: of all frames. A video is decoded from the key
    frame before the first frame that a piece depends on; neighboring pieces are read in one go.
    Raises ClipError where the source has fewer or more frames than timestamps.
    """
    frame_count = len(times.starts)
    for run in _neighbors(pieces):
        windows = [source_range(pipeline, piece, frame_count) for piece in run]
        first, stop = windows[0].start, windows[-1].stop
        is_end = run[-1].stop == frame_count
        frames = _read_frames(pipeline.source, first, None if is_end else stop, times)
        with closing(prefetch(frames, name="reading")) as stream:
            reader = FrameReader(stream, first)
            for index, (piece, window) in enumerate(zip(run, windows, strict=True)):
                keep = windows[index + 1].start if index + 1 < len(windows) else frame_count
                read = reader.read_range(window, keep)
                rendered = unbatch(render_piece(pipeline, read, window, piece, on_device=True))
                with closing(prefetch(rendered)) as results:
                    yield from results
            if is_end:
                reader.expect_end()


def _neighbors(pieces: Sequence[range]) -> Iterator[list[range]]:
    """Split ascending pieces into runs without a gap."""
    run: list[range] = []
    for piece in pieces:
        if run and run[-1].stop != piece.start:
            yield run
            run = []
        run.append(piece)
    if run:
        yield run


def _read_frames(clip: Clip, first: int, stop: int | None, times: Timestamps) -> Iterator[Frames]:
    """Yield the frames of the source from `first` to before `stop`, one by one."""
    if isinstance(clip, VideoClip):
        return clip.frames(first=first, stop=stop, times=times)
    return islice(unbatch(clip.frames()), first, stop)
