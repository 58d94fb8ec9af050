"""Training: ESRGAN networks from pictures and videos to weight files.

config = read_config("compact_2x.toml", ["data.crop=96"])
for report in train(config):            # each pull is one step; closing the stream leaves a checkpoint
    ...
"""

from .config import Config, config_from, read_config
from .errors import TrainingError
from .journal import read_log
from .measure import Scores, bicubic, lpips, score
from .progress import shown
from .trainer import Report, train

__all__ = [
    "Config",
    "Report",
    "Scores",
    "TrainingError",
    "bicubic",
    "config_from",
    "lpips",
    "read_config",
    "read_log",
    "score",
    "shown",
    "train",
]
