"""Training: ESRGAN networks from pictures and videos to weight files.

config = read_config("compact_2x.toml", ["data.crop=96"])
for report in train(config):            # each pull is one step; closing the stream leaves a checkpoint
    ...
"""

from .config import Config, config_from, read_config
from .errors import TrainingError
from .journal import read_log
from .measure import Scores, bicubic, lpips, score
from .path_trainer import PathTraining, train_path_net
from .progress import shown, shown_paths
from .trainer import Report, train

__all__ = [
    "Config",
    "PathTraining",
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
    "shown_paths",
    "train",
    "train_path_net",
]
