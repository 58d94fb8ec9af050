"""What a run needs before its first step: a device, pictures, and what judges them."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from ..config.schema import TrainConfig
from ..data.dataset import CachedImageDataset, find_files, min_image_side
from ..errors import TrainingError
from ..evaluate.metrics import MIN_LPIPS_SIDE, PerceptualMetric, load_lpips
from ..losses.perceptual_features import FeatureExtractor, default_layers, load_features

log = logging.getLogger(__name__)

MIN_SSIM_SIDE = 16  # pixels a side, at input size, of the smallest picture that SSIM's window fits into


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """auto is a GPU where there is one; of several, the one with the number `local`. Raises TrainingError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise TrainingError(f"machine.device: {name} is no device; take auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise TrainingError(f"machine.device is {name}, but there is no CUDA device here; take auto or cpu")
    return torch.device("cuda", local_rank) if device.type == "cuda" and device.index is None else device


def load_training_images(config: TrainConfig) -> CachedImageDataset:
    """The pictures that crops are cut from. Raises TrainingError."""
    if not config.data.train:
        raise TrainingError("data.train is empty; name pictures, folders of them, or videos")
    data = config.data
    return CachedImageDataset(
        data.train, min_side=min_image_side(config), frames_per_video=data.frames, cache_bytes=data.memory_gb * 1e9
    )


def load_validation_images(config: TrainConfig) -> CachedImageDataset | None:
    """The pictures that the network is measured on and never shown; None, with a warning, where none are named."""
    if not config.data.validate:
        log.warning("data.validate is empty, so nothing will be measured")
        return None
    learnt = {file.resolve() for file in find_files(config.data.train)}
    held_out = find_files(config.data.validate)
    if both := [file for file in held_out if file.resolve() in learnt]:
        log.warning(
            "%d of the %d files in data.validate are in data.train too, such as %s: what is learnt by heart scores too "
            "well; take them out of one of the two",
            *(len(both), len(held_out), both[0]),
        )
    smallest = max(MIN_SSIM_SIDE * max(config.network.scales), MIN_LPIPS_SIDE if config.keeping.lpips else 0)
    return CachedImageDataset(
        config.data.validate, min_side=smallest, frames_per_video=2, cache_bytes=config.data.memory_gb * 1e9
    )


def load_perceptual_metric(config: TrainConfig) -> PerceptualMetric | None:
    """What says at validations how different pictures look, if that is wanted. Raises TrainingError."""
    return load_lpips() if config.keeping.lpips and config.data.validate else None


def load_perceptual_features(config: TrainConfig, device: torch.device) -> FeatureExtractor | None:
    """What sees for the perceptual and the content loss, if either has a weight. Raises TrainingError."""
    settings = config.losses
    if not (settings.perceptual or settings.content):
        return None
    layers = settings.layers or default_layers(settings.backbone)
    return load_features(settings.backbone, layers, Path(settings.weights) if settings.weights else None).to(device)
