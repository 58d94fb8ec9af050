"""Everything that a step changes: the networks, their optimisers, the average of the weights, and where we are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..config.schema import AutocastDtype, TrainConfig
from .networks import MultiScaleGenerator, make_discriminator, make_generator


@dataclass
class LossScaler:
    """The factor that keeps small gradients within the range of float16: halved by each inf, doubled after a long calm.

    value: 1 and unchanging where nothing can underflow.
    """

    scale: float = 1.0
    dynamic: bool = False
    steps_since_inf: int = 0  # steps since the last inf

    def update(self, finite: bool) -> None:
        """Take note of how a step went."""
        if not self.dynamic:
            return
        if not finite:
            self.scale, self.steps_since_inf = max(1.0, self.scale / 2), 0
            return
        self.steps_since_inf += 1
        if self.steps_since_inf == 2000:
            self.scale, self.steps_since_inf = self.scale * 2, 0


@dataclass
class TrainedModel:
    """A network, its optimiser and its loss scale."""

    network: nn.Module
    optimizer: torch.optim.Adam
    scaler: LossScaler

    def gradients(self) -> list[Tensor]:
        """Those that the last backward pass has left; a head that took no part has none."""
        return [p.grad for p in self.network.parameters() if p.grad is not None]


@dataclass
class TrainState:
    """step: how many have been taken. average: the exponential mean of the generator's weights, which is what comes out
    in the end. best, stale: the best mean PSNR so far, and validations since. skipped: steps in a row that an inf or
    NaN has made void.
    """

    step: int
    generator: MultiScaleGenerator
    ema: AveragedModel
    trained_generator: TrainedModel
    discriminator: TrainedModel | None
    best_psnr: float = float("-inf")
    validations_since_best: int = 0
    skipped_steps: int = 0

    @property
    def ema_generator(self) -> MultiScaleGenerator:
        """The generator with the averaged weights."""
        network = self.ema.module
        assert isinstance(network, MultiScaleGenerator)
        return network


def init_state(config: TrainConfig, device: torch.device, generator: MultiScaleGenerator | None = None) -> TrainState:
    """The state before the first step, which the seed decides. generator: one to go on with (default: made anew)."""
    layout = torch.channels_last if config.machine.channels_last else torch.contiguous_format
    network = (make_generator(config.network, config.seed) if generator is None else generator).to(device)
    network = network.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.learning.average))
    average.requires_grad_(False).eval()
    discriminator = make_discriminator(config)
    opponent = None
    if discriminator is not None:
        discriminator = discriminator.to(device)
        discriminator = discriminator.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
        opponent = _make_trained_model(discriminator, config.learning.discriminator_rate, config)
    return TrainState(0, network, average, _make_trained_model(network, config.learning.rate, config), opponent)


def _make_trained_model(network: nn.Module, learning_rate: float, config: TrainConfig) -> TrainedModel:
    scale = LossScaler(2.0**16, dynamic=True) if config.machine.arithmetic is AutocastDtype.FP16 else LossScaler()
    return TrainedModel(
        network, torch.optim.Adam(network.parameters(), lr=learning_rate, betas=config.learning.betas), scale
    )
