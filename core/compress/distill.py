"""Fine-tune a compressed network with knowledge distillation.

Hinton et al. 2015, arXiv:1503.02531. The target of a batch is the output of the original network, the teacher: the
result has to look like it, errors included. Data, losses, steps and averaged weights are those of training.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import torch
from torch import nn

from ..training.config.schema import TrainConfig
from ..training.config.sections import DataConfig, NetworkConfig, OptimConfig, RuntimeConfig
from ..training.data.dataset import Batch, batches
from ..training.data.image_files import ImageDataset
from ..training.loop.networks import MultiScaleGenerator
from ..training.loop.train_state import init_state
from ..training.loop.train_step import train_step
from .errors import CompressionError

MIN_LEARNING_RATE = 1e-6
CROP_CANDIDATES = 3
MAX_SKIPPED_STEPS = 20  # consecutive skipped steps after which training is aborted


@dataclass(frozen=True)
class FinetuneSettings:
    """Settings of the fine-tuning.

    batch: crops per step. crop: their side in low-resolution pixels. min_resize: see `DataConfig`. learning_rate: of
    the first step. seed: of all random numbers.
    """

    steps: int = 2000
    batch: int = 8
    crop: int = 48
    min_resize: float = 1.0
    learning_rate: float = 1e-3
    seed: int = 0


def finetune(
    network: nn.Module,
    teacher: nn.Module,
    scale: int,
    images: ImageDataset,
    settings: FinetuneSettings,
    device: torch.device,
) -> Generator[float, None, nn.Module]:
    """Fine-tune a network to reproduce the output of its teacher.

    Yields the loss of each step; returns the network with the moving average of its weights.
    images: (3, H, W), uint8, with sides of at least (crop + 2 * CROP_MARGIN) * scale / min_resize. Raises
    CompressionError if the loss stays inf or NaN.
    """
    # Average over a twentieth of the run, so that the average of a short run does not include its start.
    ema_decay = max(0.5, min(0.999, 1 - 20 / settings.steps))
    config = TrainConfig(
        seed=settings.seed,
        steps=settings.steps,
        batch=settings.batch,
        network=NetworkConfig(scales=(scale,)),
        data=DataConfig(crop=settings.crop * scale, crop_candidates=CROP_CANDIDATES, min_resize=settings.min_resize),
        optim=OptimConfig(
            learning_rate=settings.learning_rate,
            min_learning_rate=MIN_LEARNING_RATE,
            ema_decay=ema_decay,
            max_grad_norm=1.0,
        ),
        runtime=RuntimeConfig(num_workers=0 if device.type == "cpu" else 4),
    )
    state = init_state(config, device, MultiScaleGenerator({scale: network.requires_grad_(True)}))
    teacher = teacher.to(device).eval()
    with closing(batches(config, images, 0)) as pairs:
        for batch in distill(pairs, teacher, device):
            result = train_step(state, batch, config)
            if state.skipped_steps >= MAX_SKIPPED_STEPS:
                raise CompressionError(
                    f"training gave inf or NaN in {state.skipped_steps} steps in a row; prune less, or use another seed"
                )
            yield result.losses["pixel"]
    return state.ema_generator.for_scale(scale).requires_grad_(False).eval()


def distill(pairs: Iterator[Batch], teacher: nn.Module, device: torch.device) -> Iterator[Batch]:
    """Yield the batches on the device, with the teacher's output as the target.

    The ground truth would soften the sharp detail of a teacher that was trained with a GAN.
    """
    for batch in pairs:
        small = batch.small.to(device)
        with torch.no_grad():
            target = teacher(small).clamp(0, 1)  # as images are: its overshoot is nothing to learn
        yield replace(batch, small=small, large=target)
