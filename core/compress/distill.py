"""Training after the cut: a smaller network learns to give what the larger one gives (Hinton et al. 2015,
arXiv:1503.02531), and what the photograph shows.

The teacher is one more stage between the data and the step: what a batch asks for becomes the mean of the photograph
and the teacher's picture. Data, degradations, losses, steps and the average of the weights are those of training.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import torch
from torch import nn

from ..training.config.schema import DataConfig, NetworkConfig, OptimConfig, RuntimeConfig, TrainConfig
from ..training.data.dataset import Batch, ImageDataset, batches
from ..training.loop.networks import MultiScaleGenerator as Heads
from ..training.loop.train_state import init_state
from ..training.loop.train_step import train_step
from .errors import CompressionError

# The teacher's share in what is asked for. Photographs alone give the best PSNR, but would take from a network that has
# learnt to draw sharp detail just that; the teacher alone also teaches its faults.
TEACHER_WEIGHT = 0.5
MIN_LEARNING_RATE = 1e-6
CROP_CANDIDATES = 3  # places drawn for each crop, of which the busiest is taken
MAX_SKIPPED_STEPS = 20  # steps in a row that may be void


@dataclass(frozen=True)
class FinetuneSettings:
    """How a smaller network is trained. steps: of the optimiser. batch: crops in each. crop: their side at input size,
    in pixels. shrink: crops are cut from pictures reduced by a factor between this and 1. rate: of learning, at first.
    seed: decides everything that is drawn.
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
    """Train the network; yields each step's loss, and returns the network with the averaged weights.

    pictures: (3, H, W), uint8, at least 8 * scale larger than the crop a side, divided by the shrink. Raises
    CompressionError where it fails.
    """
    # The average looks back over a twentieth of the run, so that short runs do not end on where they began.
    average = max(0.5, min(0.999, 1 - 20 / settings.steps))
    config = TrainConfig(
        seed=settings.seed,
        steps=settings.steps,
        batch=settings.batch,
        network=NetworkConfig(scales=(scale,)),
        data=DataConfig(crop=settings.crop * scale, candidates=CROP_CANDIDATES, shrink=settings.min_resize),
        learning=OptimConfig(rate=settings.learning_rate, last_rate=MIN_LEARNING_RATE, average=average, clip=1.0),
        machine=RuntimeConfig(loaders=0 if device.type == "cpu" else 4),
    )
    state = init_state(config, device, Heads({scale: network.requires_grad_(True)}))
    teacher = teacher.to(device).eval()
    with closing(batches(config, images, 0)) as pairs:
        for batch in distill(pairs, teacher, device):
            outcome = train_step(state, batch, config)
            if state.skipped_steps >= MAX_SKIPPED_STEPS:
                raise CompressionError(f"training gave inf or NaN {state.skipped_steps} steps in a row; lower the rate")
            yield outcome.losses["pixel"]
    return state.ema_generator.for_scale(scale).requires_grad_(False).eval()


def distill(
    pairs: Iterator[Batch], teacher: nn.Module, device: torch.device, teacher_weight: float = TEACHER_WEIGHT
) -> Iterator[Batch]:
    """The batches on the device, with `share` of the teacher's picture in what is asked for."""
    for batch in pairs:
        small, large = batch.small.to(device), batch.large.to(device)
        with torch.no_grad():
            wanted = large.lerp(teacher(small), teacher_weight)
        yield replace(batch, small=small, large=wanted)
