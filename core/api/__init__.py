"""The high-level API: one call from a source to a finished file."""

from .live import stabilize_live_video
from .report import Progress, ProgressCallback, VideoReport
from .video import enhance_video, stabilize_video, upscale_video

__all__ = [
    "Progress",
    "ProgressCallback",
    "VideoReport",
    "enhance_video",
    "stabilize_live_video",
    "stabilize_video",
    "upscale_video",
]
