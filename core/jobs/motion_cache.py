"""Motion estimation in a job: measured and stored piece by piece."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import cast

import numpy as np
from torch import Tensor

from ..clip import Clip
from ..motion.estimate import FIRST_STEP, WORKING_SIDE, estimate_from_luma, luma_frames
from ..motion.flow import FlowModel
from ..motion.frame_times import frame_times
from ..path.motion import Motion
from ..path.serialize import load_path, save_path
from ..runtime.typed_torch import from_numpy
from .folder import Job, with_resume_hint
from .segments import SEGMENT_SECONDS, FrameReader, split_clip

log = logging.getLogger(__name__)


def cached_motion(
    job: Job,
    clip: Clip,
    flow: FlowModel,
    *,
    side: int = WORKING_SIDE,
    mask: Tensor | None = None,
    segment_seconds: float = SEGMENT_SECONDS,
) -> Motion:
    """Estimate motion as `estimate_motion`, bit-identical, reusing stored pieces.

    clip: reads the job's source. flow, side, mask: as for `estimate_motion`; the mask must be a tensor.
    """
    times = job.timestamps(clip.info.fps)
    pieces = split_clip(times.starts, times.time_base, segment_seconds)
    file_names = [f"motion-{index:05d}.json" for index in range(len(pieces))]
    settings = job.settings(measuring=[clip.info, flow, side, mask], pieces=pieces)
    with with_resume_hint(job, "motion"):
        done = job.manifest.begin("motion", settings)
        missing = [index for index in range(len(pieces)) if index not in done]
        if done and missing:
            log.warning("%s: resuming, motion of %d of %d segments is known", job.folder, len(done), len(pieces))
        with closing(luma_frames(clip, side)) as stream:
            reader = FrameReader(map(from_numpy, stream))
            for index in missing:
                # One frame more, because a step is measured from the frame before.
                window = range(max(0, pieces[index].start - 1), pieces[index].stop)
                inlier_map = np.array(done[index - 1]["followers"]) if index else FIRST_STEP.inlier_map
                frames = (gray.numpy() for gray in reader.read_range(window, keep=window.stop - 1))
                numbered = zip(window, frames, strict=True)
                motion, inlier_map = estimate_from_luma(numbered, clip.info, flow, mask, inlier_map)
                save_path(motion, job.folder / file_names[index])
                metadata = {"start": window.start, "stop": window.stop, "followers": inlier_map.tolist()}
                job.manifest.add("motion", index, job.folder / file_names[index], metadata)
            if missing and missing[-1] == len(pieces) - 1:
                reader.expect_end()
        motions = [cast(Motion, load_path(job.folder / name)) for name in file_names]
    own_rows = [slice(1 if index else 0, None) for index in range(len(motions))]
    steps = np.concatenate([part.steps[rows] for part, rows in zip(motions, own_rows, strict=True)])
    confidence = np.concatenate([part.confidence[rows] for part, rows in zip(motions, own_rows, strict=True)])
    return Motion(steps, confidence, clip.info, times=frame_times(clip, len(steps)))
