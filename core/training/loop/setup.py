"""Prepare a run: device, images, feature network and metrics."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from ...clip import ClipError
from ...runtime.device.device_names import resolve_device
from ..config.schema import TrainConfig
from ..data.dataset import load_images
from ..data.image_files import CachedImageDataset, find_files
from ..data.paired import PairedImageDataset
from ..errors import TrainingError
from ..evaluate.metrics import MIN_LPIPS_SIDE, PerceptualMetric, load_lpips
from ..losses.perceptual_features import FeatureExtractor, default_layers, load_features

log = logging.getLogger(__name__)

MIN_SSIM_SIDE = 16  # minimum side of a validation image divided by the scale, for the window of SSIM


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device of a name, see `resolve_device`. Raises TrainingError.

    A name without a number stands for the device of `local_rank`.
    """
    try:
        device = torch.device(resolve_device(name))
        if device.type != "cpu" and device.index is None:  # pyright: ignore[reportUnnecessaryComparison]  # torch annotates int
            device = torch.device(resolve_device(f"{device.type}:{local_rank}"))
    except ClipError as error:
        raise TrainingError(f"runtime.device: {error}") from error
    return device


def load_training_images(config: TrainConfig) -> CachedImageDataset | PairedImageDataset:
    """Load the images that crops are cut from. Raises TrainingError."""
    if not config.data.train:
        raise TrainingError("data.train is empty; name images, folders of images, or videos")
    return load_images(config)


def load_validation_images(config: TrainConfig) -> CachedImageDataset | PairedImageDataset | None:
    """Load the validation images. Raises TrainingError.

    Logs a warning and returns None if data.validate is empty.
    """
    if not config.data.validate:
        log.warning("data.validate is empty: the run will not be validated")
        return None
    train_files = {file.resolve() for file in find_files(config.data.train)}
    held_out = find_files(config.data.validate)
    if shared := [file for file in held_out if file.resolve() in train_files]:
        log.warning(
            "%d of the %d files in data.validate are in data.train too, such as %s: the scores will be too high; "
            "remove them from one of the two",
            *(len(shared), len(held_out), shared[0]),
        )
    min_side = max(MIN_SSIM_SIDE * max(config.network.scales), MIN_LPIPS_SIDE if config.output.lpips else 0)
    if config.data.paired:
        (scale,) = config.network.scales
        return PairedImageDataset(config.data.validate, scale, min_side=-(-min_side // scale))
    return CachedImageDataset(
        config.data.validate, min_side=min_side, frames_per_video=2, cache_bytes=config.data.cache_gb * 1e9
    )


def load_perceptual_metric(config: TrainConfig) -> PerceptualMetric | None:
    """Load LPIPS if the settings ask for it, else return None. Raises TrainingError."""
    return load_lpips() if config.output.lpips and config.data.validate else None


def load_perceptual_features(config: TrainConfig, device: torch.device) -> FeatureExtractor | None:
    """Load the feature network if a loss needs it, else return None.

    Raises TrainingError.
    """
    settings = config.losses
    if not (settings.perceptual or settings.content):
        return None
    layers = settings.layer_weights or default_layers(settings.backbone)
    path = Path(settings.backbone_weights) if settings.backbone_weights else None
    return load_features(settings.backbone, layers, path).to(device)
