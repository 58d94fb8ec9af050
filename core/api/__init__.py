"""The high-level API: one call from a source to a finished file."""

from .job_steps import MeasureReport, ShardReport, join_job, measure_job, plan_job, run_shard
from .live import stabilize_live_video
from .report import Progress, ProgressCallback, VideoReport
from .video import enhance_video, stabilize_video, upscale_video

__all__ = [
    "MeasureReport",
    "Progress",
    "ProgressCallback",
    "ShardReport",
    "VideoReport",
    "enhance_video",
    "join_job",
    "measure_job",
    "plan_job",
    "run_shard",
    "stabilize_live_video",
    "stabilize_video",
    "upscale_video",
]
