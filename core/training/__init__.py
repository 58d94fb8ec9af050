"""Train ESRGAN networks on images and videos, and write weight files.

config = read_config("compact_2x.toml", ["data.crop=96"])
for report in train(config):            # each item is one step; closing the generator leaves a checkpoint
    ...
"""

import warnings

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

DEPRECATED_NAMES = {
    "Config": "TrainConfig",
    "PathTraining": "PathTrainConfig",
    "Report": "StepReport",
    "lpips": "load_lpips",
}
"""Old name -> present name; the old ones are removed in version 0.2."""


def __getattr__(name: str) -> object:
    new = DEPRECATED_NAMES.get(name)
    if new is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"steadyscale.core.training.{name} is now {new}", DeprecationWarning, stacklevel=2)
    return globals()[new]
