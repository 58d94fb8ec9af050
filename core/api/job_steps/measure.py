"""The first step of a job that stabilizes: measure motion, divided into shares."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path

from ...clip import parse_fps
from ...jobs.segments import SEGMENT_SECONDS
from ...motion.optical_flow.gray_frame import Masks
from ...stabilize import StabilizeSettings, measure_motion_share, with_known_bars
from ...storage.copies import local_source
from ...video.decode.corruption_report import OnDamage
from ...video.decode.packets.demux import MAX_PIXELS
from ...video.open import open_clip
from ..progress import ProgressTracker
from ..report import ProgressCallback
from .report import MeasureReport


def measure_job(
    source: str | Path,
    job: str | Path,
    index: int = 0,
    count: int = 1,
    *,
    stabilization: StabilizeSettings | None = None,
    mask: Masks | str | Path | None = None,
    fps: Fraction | float = 24,
    max_pixels: int = MAX_PIXELS,
    on_damage: OnDamage = OnDamage.FAIL,
    hwaccel: str = "none",
    segment_seconds: float = SEGMENT_SECONDS,
    progress: ProgressCallback | None = None,
) -> MeasureReport:
    """Measure a share of the motion of a clip, for the plan of a job.

        measure_job("shaky.mp4", "shared/job", 0, 2)  # and, elsewhere, measure_job("shaky.mp4", "shared/job", 1, 2)
        plan_job("shaky.mp4", "large.mp4", "shared/job", model="steadyscale-2x")

    `plan_job` with the same arguments then measures only the missing parts. The motion is bit-identical to one that
    `plan_job` measures alone, which it does without this step. Arguments that are not listed are as for `plan_job`.

    Args:
        job: the folder of the job, or its URL; the folder is created if needed.
        index: number of the share, from 0. A share is a run of neighboring pieces.
        count: number of shares.

    Returns:
        What was measured, and how many pieces are missing.

    Raises:
        ClipError: as `stabilize_video` does.
    """
    from ...jobs.shard import Shard
    from ...jobs.state.folder import open_job

    start, shard, settings = time.monotonic(), Shard(index, count), stabilization or StabilizeSettings()
    if isinstance(mask, (str, Path)):
        from ...motion.held.masks import read_masks

        mask = read_masks(mask)
    damage = OnDamage(on_damage)
    with local_source(source) as path, open_job(job, path, is_shared=True) as opened:
        clip = open_clip(path, fps=parse_fps(fps), max_pixels=max_pixels, on_damage=damage, hwaccel=hwaccel)
        settings = with_known_bars(settings, clip)
        tracked = ProgressTracker(progress).track_clip(clip, "measuring")
        share = measure_motion_share(
            tracked, settings, opened, shard.index, shard.count, mask=mask, segment_seconds=segment_seconds
        )
    return MeasureReport(*share, time.monotonic() - start)
