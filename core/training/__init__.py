"""Training: ESRGAN networks from pictures and videos to weight files.

config = read_config("compact_2x.toml", ["data.crop=96"])
for report in train(config):            # each pull is one step; closing the stream leaves a checkpoint
    ...
"""

from .config.schema import Config, config_from, read_config
from .errors import TrainingError
from .evaluate.metrics import Scores, bicubic, lpips, score
from .loop.logger import read_log
from .loop.trainer import Report, train
from .smoother.trainer import PathTraining, train_path_net

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
    "train",
    "train_path_net",
]
