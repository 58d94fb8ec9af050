"""What a run needs before its first step: a device, pictures, and what judges them."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from ..config.schema import Config
from ..data.dataset import Pictures, found_files, smallest_picture
from ..errors import TrainingError
from ..evaluate.metrics import SMALLEST_JUDGED, Judge, lpips
from ..losses.perceptual_features import Features, default_layers, load_features

log = logging.getLogger(__name__)

SMALLEST_MEASURED = 16  # pixels a side, at input size, of the smallest picture that SSIM's window fits into


def pick_device(name: str, local: int = 0) -> torch.device:
    """auto is a GPU where there is one; of several, the one with the number `local`. Raises TrainingError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise TrainingError(f"machine.device: {name} is no device; take auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise TrainingError(f"machine.device is {name}, but there is no CUDA device here; take auto or cpu")
    return torch.device("cuda", local) if device.type == "cuda" and device.index is None else device


def training_pictures(config: Config) -> Pictures:
    """The pictures that crops are cut from. Raises TrainingError."""
    if not config.data.train:
        raise TrainingError("data.train is empty; name pictures, folders of them, or videos")
    data = config.data
    return Pictures(data.train, smallest=smallest_picture(config), frames=data.frames, memory=data.memory_gb * 1e9)


def held_out_pictures(config: Config) -> Pictures | None:
    """The pictures that the network is measured on and never shown; None, with a warning, where none are named."""
    if not config.data.validate:
        log.warning("data.validate is empty, so nothing will be measured")
        return None
    learnt = {file.resolve() for file in found_files(config.data.train)}
    held_out = found_files(config.data.validate)
    if both := [file for file in held_out if file.resolve() in learnt]:
        log.warning(
            "%d of the %d files in data.validate are in data.train too, such as %s: what is learnt by heart scores too "
            "well; take them out of one of the two",
            *(len(both), len(held_out), both[0]),
        )
    smallest = max(SMALLEST_MEASURED * max(config.network.scales), SMALLEST_JUDGED if config.keeping.lpips else 0)
    return Pictures(config.data.validate, smallest=smallest, frames=2, memory=config.data.memory_gb * 1e9)


def looking_judge(config: Config) -> Judge | None:
    """What says at validations how different pictures look, if that is wanted. Raises TrainingError."""
    return lpips() if config.keeping.lpips and config.data.validate else None


def judging_features(config: Config, device: torch.device) -> Features | None:
    """What sees for the perceptual and the content loss, if either has a weight. Raises TrainingError."""
    settings = config.losses
    if not (settings.perceptual or settings.content):
        return None
    layers = settings.layers or default_layers(settings.backbone)
    return load_features(settings.backbone, layers, Path(settings.weights) if settings.weights else None).to(device)
