"""Training configurations from a few choices, for the nodes."""

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
from math import lcm
from pathlib import Path

from ..runtime.files.atomic_write import atomic_path, temp_path
from .config.choices import NetworkKind
from .config.degradation import DegradationConfig
from .config.renamed_keys import hash_text
from .config.schema import TrainConfig
from .config.sections import DataConfig, LossConfig, NetworkConfig, OptimConfig, OutputConfig, RuntimeConfig
from .config.toml_dataclass import to_table
from .data.dataset import CROP_MARGIN
from .data.image_files import CachedImageDataset
from .data.sources import TrainingSources, hash_parts
from .errors import TrainingError
from .evaluate.metrics import bicubic, score
from .loop.trainer import train
from .losses.perceptual_features import installed_backbone

MIN_CROP = 16
TRIAL_STEPS = 8  # steps that are timed to plan a run
TRIAL_WARMUP_STEPS = 3  # the first of them, not counted: they wait for the disk and for memory
MIN_STEPS = 20
PLAN_FILE = "plan.json"


class NetworkSize(str, Enum):
    """Size of the network, which decides its quality and its speed."""

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
"""Learning rates at which training of each size is fast and stable."""


@dataclass(frozen=True)
class TrainPreset:
    """Choices of a run.

    minutes: of training, if steps is 0. crop: side of the high-resolution crops in pixels; smaller images reduce it.
    learning_rate: 0 for the default of the size. realistic: train on blurred, noisy and compressed inputs instead of
    plain reductions. adversarial: weight of the adversarial loss, from the middle of the run on; 0 for none.
    multi_scale: train 2x and 4x as well, with one body and a weight file for each scale. perceptual: as adversarial, of
    the perceptual loss, on the features of an installed network.
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
    multi_scale: bool = False
    perceptual: float = 0.0

    @property
    def scales(self) -> tuple[int, ...]:
        """All scales that are trained, `scale` first."""
        others = [scale for scale in (2, 4) if self.multi_scale and scale != self.scale]
        return (self.scale, *others)


def preset_config(preset: TrainPreset, sources: TrainingSources, folder: Path, device: str = "auto") -> TrainConfig:
    """Return the settings of the run. Raises TrainingError.

    They have 1 step if `fit_to_time` has yet to find the number.
    """
    crop = preset.crop
    if sources.min_side is not None:
        crop = min(crop, sources.min_side - 2 * CROP_MARGIN * max(preset.scales))
    multiple = lcm(*preset.scales)
    crop -= crop % (8 * multiple if preset.adversarial else multiple)
    if crop < MIN_CROP:
        raise TrainingError(
            f"images of {sources.min_side} pixels and a crop of {preset.crop} allow crops of {crop} for "
            f"{max(preset.scales)}x; at least {MIN_CROP} are needed: use larger images, or a larger crop"
        )
    steps = preset.steps or 1
    learning_rate = preset.learning_rate or LEARNING_RATES[preset.size]
    return TrainConfig(
        name=preset.name,
        run=os.fspath(folder),
        seed=preset.seed,
        steps=steps,
        batch=preset.batch,
        network=replace(NETWORK_PRESETS[preset.size], scales=preset.scales),
        data=DataConfig(train=sources.train, validate=(sources.held_out,), crop=crop),
        degrade=DegradationConfig(enabled=preset.realistic),
        losses=_loss_config(preset),
        optim=OptimConfig(
            learning_rate=learning_rate,
            min_learning_rate=min(learning_rate, 1e-7),
            ema_decay=_ema_decay(steps),
            gan_start_step=steps // 2,
            max_grad_norm=1.0,
        ),
        runtime=RuntimeConfig(device=device),
        output=_output_config(steps),
    )


def _loss_config(preset: TrainPreset) -> LossConfig:
    losses = LossConfig(adversarial=preset.adversarial)
    return replace(losses, perceptual=preset.perceptual, backbone=installed_backbone()) if preset.perceptual else losses


def _ema_decay(steps: int) -> float:
    """Return a decay that averages over a twentieth of the run.

    More would include the start of a short run.
    """
    return max(0.5, min(0.999, 1 - 20 / steps))


def _output_config(steps: int) -> OutputConfig:
    return OutputConfig(checkpoint_every=max(1, min(1000, steps // 4)), validate_every=max(1, steps // 20), samples=1)


def fit_to_time(config: TrainConfig, minutes: float, on_step: Callable[[], None] = lambda: None) -> TrainConfig:
    """Return the run with as many steps as fit into the time.

    The number is stored in the run's folder: a resumed run keeps it, so that its learning rate schedule stays the same.
    on_step: called after each step of the trial; an exception from it ends the trial.
    """
    plan_file = config.folder / PLAN_FILE
    try:
        plan = json.loads(plan_file.read_text(encoding="utf-8"))
        if plan["minutes"] == minutes:
            return _with_steps(config, int(plan["steps"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no plan yet, or an unreadable one
    with temp_path(config.folder / "trial") as folder:
        trial = replace(_with_steps(config, 10**6), run=os.fspath(folder))
        with closing(train(trial)) as reports:
            seconds: list[float] = []
            for report in islice(reports, TRIAL_STEPS):
                seconds.append(report.seconds)
                on_step()
        shutil.rmtree(folder, ignore_errors=True)
    steps = max(MIN_STEPS, round(minutes * 60 / statistics.median(seconds[TRIAL_WARMUP_STEPS:])))
    with atomic_path(plan_file) as partial:
        partial.write_text(json.dumps({"minutes": minutes, "steps": steps}), encoding="utf-8")
    return _with_steps(config, steps)


def _with_steps(config: TrainConfig, steps: int) -> TrainConfig:
    optim = replace(config.optim, ema_decay=_ema_decay(steps), gan_start_step=steps // 2)
    return replace(config, steps=steps, optim=optim, output=_output_config(steps))


def config_hash(config: TrainConfig, sources: TrainingSources) -> str:
    """Hash the settings and the training data: 8 hexadecimal digits.

    Length, device and paths are left out. Runs with the same hash can resume each other. It does not depend on the
    present names of the settings.
    """
    fixed = replace(
        _with_steps(config, 1), run="", data=replace(config.data, train=(), validate=()), runtime=RuntimeConfig()
    )
    return hash_parts([hash_text(to_table(fixed)).encode(), sources.digest.encode()])[:8]


def weights_path(config: TrainConfig, scale: int | None = None) -> Path:
    """Return the path of the weight file that the run writes at its end.

    scale: None for the first one.
    """
    return config.folder / f"{config.name}_{scale or config.network.scales[0]}x.safetensors"


def bicubic_score(sources: TrainingSources, scale: int) -> float:
    """Return the PSNR of bicubic upscaling on the held-out image, in dB."""
    return score(bicubic(scale), CachedImageDataset((sources.held_out,), min_side=1), scale).psnr
