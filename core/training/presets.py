"""A training run out of a handful of choices: for people who have footage and a few minutes, not a file of settings."""

from __future__ import annotations

import json
import os
import shutil
import statistics
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from enum import Enum
from itertools import islice
from pathlib import Path

from ..runtime.atomic_write import atomic_path, temp_path
from .config.degradation import DegradationConfig
from .config.schema import (
    DataConfig,
    LossConfig,
    NetworkConfig,
    NetworkKind,
    OptimConfig,
    OutputConfig,
    RuntimeConfig,
    TrainConfig,
)
from .config.toml_dataclass import to_toml
from .data.dataset import CROP_MARGIN, CachedImageDataset
from .data.sources import TrainingSources, hash_parts
from .errors import TrainingError
from .evaluate.metrics import bicubic, score
from .loop.trainer import train

MIN_CROP = 16
TRIAL_STEPS = 8  # steps that tell how many fit into the time
TRIAL_WARMUP_STEPS = 3  # of them, that do not count: the first ones wait for the disk and for memory
PLAN_FILE = "plan.json"


class NetworkSize(str, Enum):
    """How large the network is: what it can learn, and what it costs to train and to run."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"
    ESRGAN = "esrgan"


NETWORK_PRESETS = {
    NetworkSize.SMALL: NetworkConfig(features=16, convs=6),
    NetworkSize.MEDIUM: NetworkConfig(features=32, convs=10),
    NetworkSize.LARGE: NetworkConfig(features=64, convs=16),
    NetworkSize.ESRGAN: NetworkConfig(kind=NetworkKind.RRDB),
}
LEARNING_RATES = {NetworkSize.SMALL: 2e-3, NetworkSize.MEDIUM: 1e-3, NetworkSize.LARGE: 4e-4, NetworkSize.ESRGAN: 2e-4}
"""Learning rates at which each size learns fast and never falls apart: the smaller, the higher."""


@dataclass(frozen=True)
class TrainPreset:
    """What is asked of a run. minutes: of training, where steps is 0. crop: side of the pieces, of the large picture,
    that a step sees; pictures that are smaller make it smaller. rate: of learning, 0 for that of the size.
    realistic: learn to undo blur, noise and compression, not the plain reduction alone. adversarial: the weight of the
    discriminator, 0 for none, which begins at half of the steps.
    """

    name: str
    scale: int = 2
    size: NetworkSize = NetworkSize.SMALL
    minutes: float = 5.0
    steps: int = 0
    seed: int = 0
    crop: int = 96
    batch: int = 8
    learning_rate: float = 0.0
    realistic: bool = False
    adversarial: float = 0.0


def preset_config(preset: TrainPreset, sources: TrainingSources, folder: Path, device: str = "auto") -> TrainConfig:
    """The settings of the run, with as many steps as were wished for, or 1 where the time decides (`timed`)."""
    crop = preset.crop
    if sources.min_side is not None:
        crop = min(crop, sources.min_side - 2 * CROP_MARGIN * preset.scale)
    crop -= crop % (8 * preset.scale if preset.adversarial else preset.scale)
    if crop < MIN_CROP:
        raise TrainingError(
            f"pictures of {sources.min_side} pixels and a crop of {preset.crop} leave {crop} to learn {preset.scale}x "
            f"from; {MIN_CROP} are the least: give larger pictures, or a larger crop"
        )
    steps = preset.steps or 1
    rate = preset.learning_rate or LEARNING_RATES[preset.size]
    return TrainConfig(
        name=preset.name,
        run=os.fspath(folder),
        seed=preset.seed,
        steps=steps,
        batch=preset.batch,
        network=replace(NETWORK_PRESETS[preset.size], scales=(preset.scale,)),
        data=DataConfig(train=sources.train, validate=(sources.held_out,), crop=crop),
        degrade=DegradationConfig(on=preset.realistic),
        losses=LossConfig(adversarial=preset.adversarial),
        learning=OptimConfig(
            rate=rate, last_rate=min(rate, 1e-7), average=_ema_decay(steps), gan_from=steps // 2, clip=1.0
        ),
        machine=RuntimeConfig(device=device),
        keeping=_output_config(steps),
    )


def _ema_decay(steps: int) -> float:
    """The mean of the weights looks back over a twentieth of the run: in a short one, more would remember the start."""
    return max(0.5, min(0.999, 1 - 20 / steps))


def _output_config(steps: int) -> OutputConfig:
    often = max(1, steps // 20)
    return OutputConfig(checkpoint_every=max(1, min(1000, steps // 4)), validate_every=often, samples=1)


def fit_to_time(config: TrainConfig, minutes: float, on_step: Callable[[], None] = lambda: None) -> TrainConfig:
    """The same run with as many steps as fit into the time, found by a short trial. A run that goes on keeps what was
    found before, so that the end of its learning rate stays where it was.

    between: called after each step of the trial; what it raises ends it.
    """
    note = config.folder / PLAN_FILE
    try:
        known = json.loads(note.read_text())
        if known["minutes"] == minutes:
            return _with_steps(config, int(known["steps"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is no plan yet, or none that can be read
    with temp_path(config.folder / "trial") as folder:
        short = replace(_with_steps(config, 10**6), run=os.fspath(folder))
        with closing(train(short)) as reports:
            seconds = []
            for report in islice(reports, TRIAL_STEPS):
                seconds.append(report.seconds)
                on_step()
        shutil.rmtree(folder, ignore_errors=True)
    steps = max(20, round(minutes * 60 / statistics.median(seconds[TRIAL_WARMUP_STEPS:])))
    with atomic_path(note) as partial:
        partial.write_text(json.dumps({"minutes": minutes, "steps": steps}))
    return _with_steps(config, steps)


def _with_steps(config: TrainConfig, steps: int) -> TrainConfig:
    learning = replace(config.learning, average=_ema_decay(steps), gan_from=steps // 2)
    return replace(config, steps=steps, learning=learning, keeping=_output_config(steps))


def config_hash(config: TrainConfig, sources: TrainingSources) -> str:
    """Eight letters that runs share where one can go on with what the other has learnt: all settings but how long."""
    fixed = replace(
        _with_steps(config, 1), run="", data=replace(config.data, train=(), validate=()), machine=RuntimeConfig()
    )
    return hash_parts([to_toml(fixed).encode(), sources.digest.encode()])[:8]


def weights_path(config: TrainConfig) -> Path:
    """The weight file that the run leaves when it is over."""
    return config.folder / f"{config.name}_{config.network.scales[0]}x.safetensors"


def bicubic_score(sources: TrainingSources, scale: int) -> float:
    """PSNR of plain enlargement on the picture that is held out, in dB: what the run has to beat."""
    return score(bicubic(scale), CachedImageDataset((sources.held_out,), min_side=1), scale).psnr
