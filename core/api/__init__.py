"""The high-level API: one call from a source to a finished file."""

from .jobs import ShardReport, join_job, plan_job, run_shard
from .live import stabilize_live_video
from .report import Progress, ProgressCallback, VideoReport
from .video import enhance_video, stabilize_video, upscale_video

__all__ = [
    "Progress",
    "ProgressCallback",
    "ShardReport",
    "VideoReport",
    "enhance_video",
    "join_job",
    "plan_job",
    "run_shard",
    "stabilize_live_video",
    "stabilize_video",
    "upscale_video",
]
