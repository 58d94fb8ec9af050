"""Everything that a step changes: the networks, their optimisers, the average of the weights, and where we are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..config.schema import Arithmetic, Config
from .networks import Generator, make_discriminator, make_generator


@dataclass
class LossScale:
    """The factor that keeps small gradients within the range of float16: halved by each inf, doubled after a long calm.

    value: 1 and unchanging where nothing can underflow.
    """

    value: float = 1.0
    moving: bool = False
    calm: int = 0  # steps since the last inf

    def learn(self, finite: bool) -> None:
        """Take note of how a step went."""
        if not self.moving:
            return
        if not finite:
            self.value, self.calm = max(1.0, self.value / 2), 0
            return
        self.calm += 1
        if self.calm == 2000:
            self.value, self.calm = self.value * 2, 0


@dataclass
class Player:
    """A network, its optimiser and its loss scale."""

    network: nn.Module
    optimiser: torch.optim.Adam
    scale: LossScale

    def gradients(self) -> list[Tensor]:
        """Those that the last backward pass has left; a head that took no part has none."""
        return [p.grad for p in self.network.parameters() if p.grad is not None]


@dataclass
class State:
    """step: how many have been taken. average: the exponential mean of the generator's weights, which is what comes out
    in the end. best, stale: the best mean PSNR so far, and validations since. skipped: steps in a row that an inf or
    NaN has made void.
    """

    step: int
    generator: Generator
    average: AveragedModel
    player: Player
    opponent: Player | None
    best: float = float("-inf")
    stale: int = 0
    skipped: int = 0

    @property
    def averaged(self) -> Generator:
        """The generator with the averaged weights."""
        network = self.average.module
        assert isinstance(network, Generator)
        return network


def fresh(config: Config, device: torch.device, generator: Generator | None = None) -> State:
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
        opponent = _player(discriminator, config.learning.discriminator_rate, config)
    return State(0, network, average, _player(network, config.learning.rate, config), opponent)


def _player(network: nn.Module, rate: float, config: Config) -> Player:
    scale = LossScale(2.0**16, moving=True) if config.machine.arithmetic is Arithmetic.FP16 else LossScale()
    return Player(network, torch.optim.Adam(network.parameters(), lr=rate, betas=config.learning.betas), scale)
