"""Motion estimation in a job, piece by piece, by one process or by several.

What is measured of the whole clip afterwards, bars that change and what is held, is kept as well.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import astuple, replace
from typing import NamedTuple

import numpy as np

from ..bars import Bars
from ..clip import Clip
from ..hold import Hold
from ..lens import Lens
from ..motion.estimate import WORKING_SIDE, luma_range
from ..motion.fit.pose_graph import solve_pose_graph
from ..motion.frame_times import frame_times
from ..motion.optical_flow.flow import FlowModel
from ..motion.optical_flow.gray_frame import Masks
from ..motion.transitions.transitions import resolve_transitions
from ..path.motion import Motion
from ..runtime.typed_torch import from_numpy
from .motion_pieces import MotionPieces
from .segments import SEGMENT_SECONDS, FrameReader
from .state.folder import Job, with_resume_hint
from .state.layout import HELD, SHOT_BARS, JobFolder

log = logging.getLogger(__name__)


class MeasuredShare(NamedTuple):
    """Report of one call of `measure_share`.

    computed: numbers of the pieces that this call measured. frames: number of frames in these pieces. missing: number
    of pieces of the clip that are not measured. pieces: number of pieces of the clip.
    """

    computed: list[int]
    frames: int
    missing: int
    pieces: int


def cached_motion(
    job: Job,
    clip: Clip,
    flow: FlowModel,
    *,
    side: int = WORKING_SIDE,
    mask: Masks | None = None,
    segment_seconds: float = SEGMENT_SECONDS,
    with_residuals: bool = False,
    lens: Lens | None = None,
    is_second_pass: bool = False,
) -> Motion:
    """Estimate motion as `estimate_motion`, bit-identical, reusing stored pieces.

    A stored piece is measured again if its start state is not the end state of the piece before.
    clip: reads the job's source. flow, side, mask, with_residuals: as for `estimate_motion`; the mask must not be a
    function. lens: of the view, if `clip` is one (motion/lens_view.py). is_second_pass: as for `MotionPieces`.
    """
    pieces = MotionPieces(
        job, clip.info, flow, side, mask, segment_seconds,
        with_residuals=with_residuals, lens=lens, is_second_pass=is_second_pass,
    )  # fmt: skip
    count, known = len(pieces.ranges), len(pieces)
    times, index = job.timestamps(clip.info.fps), 0
    with with_resume_hint(job, "motion", lambda: len(pieces)):
        if 0 < known < count:
            log.warning("%s: resuming, motion of %d of %d segments is known", job.location, known, count)
        while index < count:
            if pieces.is_valid(index):
                index += 1
                continue
            first = pieces.window(index).start
            with closing(luma_range(clip, side, first, None, times)) as stream:
                reader = FrameReader(map(from_numpy, stream), first)
                while index < count and not pieces.is_valid(index):
                    if index in pieces:
                        log.info("%s: motion of segment %d is measured again after the one before", job.location, index)
                    state = pieces.state_before(index)
                    assert state is not None, "all pieces before are measured"
                    pieces.measure(index, reader, state)
                    index += 1
                if index == count:
                    reader.expect_end()
    motion = pieces.join()
    return replace(resolve_transitions(solve_pose_graph(motion)), times=frame_times(clip, len(motion.steps)))


def cached_held_motion(job: Job, camera: Motion, settings: Sequence[object], measure: Callable[[], Motion]) -> Motion:
    """Measure the motion of what is held, or read what an earlier run measured.

    camera: the motion in place of which it is. settings: all else that it depends on. measure: reads the clip.
    """
    folder = JobFolder(job.location)
    inputs = [camera.steps, camera.confidence, camera.frame_times, camera.info, camera.lens, camera.bars, *settings]
    key = json.loads(json.dumps(job.settings(measuring=inputs)))
    body, count = folder.read(HELD), len(camera.steps)
    if body is not None and body["settings"] == key:
        return replace(
            camera,
            steps=np.array(body["steps"], np.float64).reshape(count, 3, 3),
            confidence=np.array(body["confidence"], np.float64),
            held=np.array(body["held"], np.float64),
            hold=Hold(body["hold"]),
        )
    motion = measure()
    assert motion.held is not None, "of all that is held"
    body = {"settings": key, "hold": motion.hold.value}
    body |= {name: getattr(motion, name).ravel().tolist() for name in ("steps", "confidence", "held")}
    folder.write(HELD, body)
    return motion


def cached_shot_bars(job: Job, motion: Motion, measure: Callable[[], tuple[Bars, ...]]) -> tuple[Bars, ...]:
    """Detect the bars of each shot, or read what an earlier run detected.

    motion: of the whole frames, whose shots these are. measure: reads the clip.
    """
    folder = JobFolder(job.location)
    inputs = [motion.steps, motion.confidence, motion.info, motion.dark_sides, motion.dissolves]
    key = json.loads(json.dumps(job.settings(measuring=inputs)))
    body = folder.read(SHOT_BARS)
    if body is not None and body["settings"] == key:
        return tuple(Bars(*pixels) for pixels in body["bars"])
    found = measure()
    folder.write(SHOT_BARS, {"settings": key, "bars": [list(astuple(bars)) for bars in found]})
    return found


def measure_share(
    job: Job,
    clip: Clip,
    flow: FlowModel,
    index: int,
    count: int,
    *,
    side: int = WORKING_SIDE,
    mask: Masks | None = None,
    segment_seconds: float = SEGMENT_SECONDS,
    with_residuals: bool = False,
    lens: Lens | None = None,
) -> MeasuredShare:
    """Measure the missing pieces in share `index` of `count` for `cached_motion`.

    A share is a run of neighboring pieces. It does not wait for the one before: the state at its start is assumed, and
    `cached_motion` checks it. The arguments are those of `cached_motion`. Raises ClipError, with a hint how to resume.
    """
    pieces = MotionPieces(job, clip.info, flow, side, mask, segment_seconds, with_residuals=with_residuals, lens=lens)
    total = len(pieces.ranges)
    share = range(total * index // count, total * (index + 1) // count)
    missing = [number for number in share if number not in pieces]
    if not missing:
        return MeasuredShare([], 0, total - len(pieces), total)
    state = pieces.state_before(missing[0])
    first = pieces.window(missing[0]).start if state is not None else pieces.warm_up_start(missing[0])
    stop = pieces.ranges[missing[-1]].stop
    is_end = missing[-1] == total - 1
    with with_resume_hint(job, "motion", lambda: len(pieces)):
        times = job.timestamps(clip.info.fps)
        with closing(luma_range(clip, side, first, None if is_end else stop, times)) as stream:
            reader = FrameReader(map(from_numpy, stream), first)
            state = state or pieces.warm_up(missing[0], reader)
            for number in missing:
                state = state if number == missing[0] else pieces.state_before(number)
                assert state is not None, "the piece before is measured"
                pieces.measure(number, reader, state)
            if is_end:
                reader.expect_end()
    pieces.read_missing()  # other processes may have measured them
    frames = sum(len(pieces.ranges[number]) for number in missing)
    return MeasuredShare(missing, frames, total - len(pieces), total)
