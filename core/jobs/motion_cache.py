"""Pass 1 of a job: measured piece by piece and kept, so that a run which goes on does not measure again."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..clip import Clip
from ..motion.estimate import FIRST_STEP, WORKING_SIDE, estimate_from_luma, luma_frames
from ..motion.flow import FlowModel
from ..path.motion import Motion
from ..path.serialize import load_path, save_path
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
    """What `estimate_motion` gives for the job's source, to the bit; what is measured once is read again after that.

    clip: reads the job's source. flow, side, mask: as for `estimate_motion`, the mask as numbers.
    """
    times = job.timestamps(clip.info.fps)
    pieces = split_clip(times.starts, times.time_base, segment_seconds)
    parts = [f"motion-{index:05d}.json" for index in range(len(pieces))]
    settings = job.settings(measuring=[clip.info, flow, side, mask], pieces=pieces)
    with with_resume_hint(job, "motion"):
        done = job.manifest.begin("motion", settings)
        missing = [index for index in range(len(pieces)) if index not in done]
        if done and missing:
            log.warning("%s: going on, motion is known in %d parts of %d", job.folder, len(done), len(pieces))
        with closing(cast(Any, luma_frames(clip, side))) as stream:
            reading = FrameReader(map(torch.from_numpy, stream))
            for index in missing:
                # One frame more, because a step leads from the frame before.
                seen = range(max(0, pieces[index].start - 1), pieces[index].stop)
                followers = np.array(done[index - 1]["followers"]) if index else FIRST_STEP.inlier_map
                run = (grey.numpy() for grey in reading.read_range(seen, keep=seen.stop - 1))
                small = zip(seen, run, strict=True)
                motion, followers = estimate_from_luma(small, clip.info, flow, mask, followers)
                save_path(motion, job.folder / parts[index])
                facts = {"start": seen.start, "stop": seen.stop, "followers": followers.tolist()}
                job.manifest.add("motion", index, job.folder / parts[index], facts)
            if missing and missing[-1] == len(pieces) - 1:
                reading.expect_end()
        measured = [cast(Motion, load_path(job.folder / part)) for part in parts]
    own = [slice(1 if index else 0, None) for index in range(len(measured))]
    steps = np.concatenate([part.steps[rows] for part, rows in zip(measured, own, strict=True)])
    trust = np.concatenate([part.confidence[rows] for part, rows in zip(measured, own, strict=True)])
    return Motion(steps, trust, clip.info)
