"""Motion estimation in a job: measured and stored piece by piece."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace
from typing import cast

import numpy as np

from ..clip import Clip
from ..motion.estimate import FIRST_STEP, LINK_FRAMES, WORKING_SIDE, estimate_from_luma, luma_frames
from ..motion.flow import FlowModel
from ..motion.frame_times import frame_times
from ..motion.gray_frame import Masks
from ..motion.pose_graph import solve_pose_graph
from ..path.motion import Motion
from ..path.serialize import load_path, save_path
from ..runtime.typed_torch import from_numpy
from .folder import Job, with_resume_hint
from .segments import SEGMENT_SECONDS, FrameReader, split_clip

log = logging.getLogger(__name__)

LINK_ENDS = np.array([1.0, 1.0] + [0.0] * 10)  # the columns of links that are frame numbers


def cached_motion(
    job: Job,
    clip: Clip,
    flow: FlowModel,
    *,
    side: int = WORKING_SIDE,
    mask: Masks | None = None,
    segment_seconds: float = SEGMENT_SECONDS,
) -> Motion:
    """Estimate motion as `estimate_motion`, bit-identical, reusing stored pieces.

    clip: reads the job's source. flow, side, mask: as for `estimate_motion`; the mask must be no function.
    """
    times = job.timestamps(clip.info.fps)
    pieces = split_clip(times.starts, times.time_base, segment_seconds)
    file_names = [f"motion-{index:05d}.json" for index in range(len(pieces))]
    settings = job.settings(measuring=[clip.info, flow, side, mask, LINK_FRAMES], pieces=pieces)
    with with_resume_hint(job, "motion", lambda: len(job.manifest.pieces("motion"))):
        done = job.manifest.begin("motion", settings)
        missing = [index for index in range(len(pieces)) if index not in done]
        if done and missing:
            log.warning("%s: resuming, motion of %d of %d segments is known", job.folder, len(done), len(pieces))
        with closing(luma_frames(clip, side)) as stream:
            reader = FrameReader(map(from_numpy, stream))
            for index in missing:
                # Some frames more, because a step, and a link across steps, are measured from the frames before.
                window = range(max(0, pieces[index].start - LINK_FRAMES), pieces[index].stop)
                done_before = slice(max(0, index - LINK_FRAMES), index)
                known = _read_pieces(
                    job, file_names[done_before], pieces[done_before], pieces[index].start - window.start
                )
                inlier_map = np.array(done[index - 1]["followers"]) if index else FIRST_STEP.inlier_map
                frames = (gray.numpy() for gray in reader.read_range(window, keep=window.stop - LINK_FRAMES))
                numbered = zip(window, frames, strict=True)
                motion, inlier_map = estimate_from_luma(numbered, clip.info, flow, mask, inlier_map, known)
                save_path(motion, job.folder / file_names[index])
                metadata = {"start": window.start, "stop": window.stop, "followers": inlier_map.tolist()}
                job.manifest.add("motion", index, job.folder / file_names[index], metadata)
            if missing and missing[-1] == len(pieces) - 1:
                reader.expect_end()
        measured = _read_pieces(job, file_names, pieces, pieces[-1].stop)
    assert measured is not None
    return replace(solve_pose_graph(measured), info=clip.info, times=frame_times(clip, len(measured.steps)))


def _read_pieces(job: Job, file_names: list[str], pieces: list[range], count: int) -> Motion | None:
    """Read stored pieces as one motion; None without pieces.

    It is that of their last `count` frames, with the links of all.
    """
    if not pieces:
        return None
    motions = [cast(Motion, load_path(job.folder / name)) for name in file_names]
    # A piece starts with some frames of the one before.
    starts = [piece.stop - len(motion.steps) for piece, motion in zip(pieces, motions, strict=True)]
    own = [slice(piece.start - start, None) for piece, start in zip(pieces, starts, strict=True)]
    steps, confidence, agreement = (
        np.concatenate([getattr(motion, name)[rows] for motion, rows in zip(motions, own, strict=True)])[-count:]
        for name in ("steps", "confidence", "agreement")
    )
    links = [
        motion.links + LINK_ENDS * start
        for motion, start in zip(motions, starts, strict=True)
        if motion.links is not None
    ]
    return replace(Motion(steps, confidence, motions[-1].info), agreement=agreement, links=np.concatenate(links))
