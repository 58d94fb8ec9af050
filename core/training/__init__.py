"""Training: ESRGAN networks from pictures and videos to weight files.

config = read_config("compact_2x.toml", ["data.crop=96"])
for report in train(config):            # each pull is one step; closing the stream leaves a checkpoint
    ...
"""

from .config.schema import TrainConfig, config_from, read_config
from .errors import TrainingError
from .evaluate.metrics import Scores, bicubic, load_lpips, score
from .loop.logger import read_log
from .loop.trainer import StepReport, train
from .smoother.trainer import PathTrainConfig, train_path_net

__all__ = [
    "PathTrainConfig",
    "Scores",
    "StepReport",
    "TrainConfig",
    "TrainingError",
    "bicubic",
    "config_from",
    "load_lpips",
    "read_config",
    "read_log",
    "score",
    "train",
    "train_path_net",
]
