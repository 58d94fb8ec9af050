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

from ..training.config.schema import Config, Data, Learning, Machine, Network
from ..training.data.dataset import Album, Batch, batches
from ..training.loop.networks import Generator as Heads
from ..training.loop.train_state import fresh
from ..training.loop.train_step import advance
from .errors import CompressionError

# The teacher's share in what is asked for. Photographs alone give the best PSNR, but would take from a network that has
# learnt to draw sharp detail just that; the teacher alone also teaches its faults.
TEACHER = 0.5
LAST_RATE = 1e-6
CANDIDATES = 3  # places drawn for each crop, of which the busiest is taken
PATIENCE_WITH_INF = 20  # steps in a row that may be void


@dataclass(frozen=True)
class Tuning:
    """How a smaller network is trained. steps: of the optimiser. batch: crops in each. crop: their side at input size,
    in pixels. shrink: crops are cut from pictures reduced by a factor between this and 1. rate: of learning, at first.
    seed: decides everything that is drawn.
    """

    steps: int = 2000
    batch: int = 8
    crop: int = 48
    shrink: float = 1.0
    rate: float = 1e-3
    seed: int = 0


def tuned(
    network: nn.Module, teacher: nn.Module, scale: int, pictures: Album, tuning: Tuning, device: torch.device
) -> Generator[float, None, nn.Module]:
    """Train the network; yields each step's loss, and returns the network with the averaged weights.

    pictures: (3, H, W), uint8, at least 8 * scale larger than the crop a side, divided by the shrink. Raises
    CompressionError where it fails.
    """
    # The average looks back over a twentieth of the run, so that short runs do not end on where they began.
    average = max(0.5, min(0.999, 1 - 20 / tuning.steps))
    config = Config(
        seed=tuning.seed,
        steps=tuning.steps,
        batch=tuning.batch,
        network=Network(scales=(scale,)),
        data=Data(crop=tuning.crop * scale, candidates=CANDIDATES, shrink=tuning.shrink),
        learning=Learning(rate=tuning.rate, last_rate=LAST_RATE, average=average, clip=1.0),
        machine=Machine(loaders=0 if device.type == "cpu" else 4),
    )
    state = fresh(config, device, Heads({scale: network.requires_grad_(True)}))
    teacher = teacher.to(device).eval()
    with closing(batches(config, pictures, 0)) as pairs:
        for batch in taught(pairs, teacher, device):
            outcome = advance(state, batch, config)
            if state.skipped >= PATIENCE_WITH_INF:
                raise CompressionError(f"training gave inf or NaN {state.skipped} steps in a row; lower the rate")
            yield outcome.losses["pixel"]
    return state.averaged.at(scale).requires_grad_(False).eval()


def taught(pairs: Iterator[Batch], teacher: nn.Module, device: torch.device, share: float = TEACHER) -> Iterator[Batch]:
    """The batches on the device, with `share` of the teacher's picture in what is asked for."""
    for batch in pairs:
        small, large = batch.small.to(device), batch.large.to(device)
        with torch.no_grad():
            wanted = large.lerp(teacher(small), share)
        yield replace(batch, small=small, large=wanted)
