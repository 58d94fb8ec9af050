"""State of a run: networks, optimizers, averaged weights, and counters."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..config.choices import AutocastDtype, OptimizerKind
from ..config.schema import TrainConfig
from ..config.sections import OptimConfig
from ..errors import TrainingError
from .networks import MultiScaleGenerator, make_discriminator, make_generator, make_temporal_discriminator

GROWTH_INTERVAL = 2000  # steps without inf after which the loss scale is doubled, as in torch's GradScaler


@dataclass
class LossScaler:
    """Loss scale that keeps gradients within the range of float16.

    It is halved by an inf, and doubled after 2000 finite steps. With dynamic=False the scale stays 1, for dtypes in
    which nothing underflows.

    torch.amp.GradScaler is not used. It decides per optimizer whether to skip a step, but generator and discriminator
    have to skip together; each of its steps waits for the device once per optimizer, while `train_step` reads all norms
    and losses at once; and it skips steps only in float16, while `train_step` skips those with NaN in every dtype.
    """

    scale: float = 1.0
    dynamic: bool = False
    steps_since_inf: int = 0

    def update(self, finite: bool) -> None:
        """Adapt the scale after a step. finite: whether all gradients were finite."""
        if not self.dynamic:
            return
        if not finite:
            self.scale, self.steps_since_inf = max(1.0, self.scale / 2), 0
            return
        self.steps_since_inf += 1
        if self.steps_since_inf == GROWTH_INTERVAL:
            self.scale, self.steps_since_inf = self.scale * 2, 0


@dataclass
class TrainedModel:
    """A network with its optimizer and its loss scaler."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: LossScaler

    def gradients(self) -> list[Tensor]:
        """Return the gradients of the last backward pass.

        The head of a scale that took no part has none.
        """
        return [p.grad for p in self.network.parameters() if p.grad is not None]


@dataclass
class TrainState:
    """Everything that a step changes.

    step: steps done. ema: exponential moving average of the generator's weights, which is exported. discriminator: of
    images. temporal_discriminator: of neighboring frames. best_psnr: best mean PSNR of a validation, in dB.
    skipped_steps: consecutive steps skipped because of inf or NaN.
    """

    step: int
    generator: MultiScaleGenerator
    ema: AveragedModel
    trained_generator: TrainedModel
    discriminator: TrainedModel | None
    temporal_discriminator: TrainedModel | None = None
    best_psnr: float = float("-inf")
    validations_since_best: int = 0
    skipped_steps: int = 0

    @property
    def trained_models(self) -> dict[str, TrainedModel]:
        """The networks that a run trains, by name."""
        models = {
            "generator": self.trained_generator,
            "discriminator": self.discriminator,
            "temporal_discriminator": self.temporal_discriminator,
        }
        return {name: model for name, model in models.items() if model is not None}

    @property
    def ema_generator(self) -> MultiScaleGenerator:
        """The generator with the averaged weights."""
        network = self.ema.module
        assert isinstance(network, MultiScaleGenerator)
        return network.eval()  # reparameterized convolutions follow the averaged weights


def init_state(config: TrainConfig, device: torch.device, generator: MultiScaleGenerator | None = None) -> TrainState:
    """Create the state before the first step.

    generator: to train further (default: a new one from the seed).
    """
    layout = torch.channels_last if config.runtime.channels_last else torch.contiguous_format
    network = (make_generator(config.network, config.seed) if generator is None else generator).to(device)
    network.to(memory_format=layout)  # pyright: ignore[reportCallIssue]  # torch's stubs lack this overload
    # A schedule-free optimizer averages the weights itself, and the last average is taken.
    decay = 0.0 if config.optim.kind is OptimizerKind.SCHEDULE_FREE else config.optim.ema_decay
    ema = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay))  # pyright: ignore[reportUnknownArgumentType]  # untyped
    ema.requires_grad_(False).eval()
    discriminators: list[TrainedModel | None] = []
    for discriminator in (make_discriminator(config), make_temporal_discriminator(config)):
        if discriminator is not None:
            discriminator.to(device).to(memory_format=layout)  # pyright: ignore[reportCallIssue]  # as above
        rate = config.optim.discriminator_learning_rate
        discriminators.append(discriminator and _make_trained_model(discriminator, rate, config))
    trained_generator = _make_trained_model(network, config.optim.learning_rate, config)
    of_images, of_neighbors = discriminators
    return TrainState(0, network, ema, trained_generator, of_images, of_neighbors)


def _make_trained_model(network: nn.Module, learning_rate: float, config: TrainConfig) -> TrainedModel:
    is_float16 = config.runtime.autocast_dtype is AutocastDtype.FP16
    scaler = LossScaler(2.0**16, dynamic=True) if is_float16 else LossScaler()
    return TrainedModel(network, _make_optimizer(network, learning_rate, config.optim), scaler)


def _make_optimizer(network: nn.Module, learning_rate: float, optim: OptimConfig) -> torch.optim.Optimizer:
    parameters, betas, decay = network.parameters(), optim.betas, optim.weight_decay
    if optim.kind is OptimizerKind.ADAM:
        return torch.optim.Adam(parameters, lr=learning_rate, betas=betas)
    if optim.kind is OptimizerKind.ADAMW:
        return torch.optim.AdamW(parameters, lr=learning_rate, betas=betas, weight_decay=decay)
    try:
        library: Any = import_module("schedulefree")
    except ImportError as error:
        raise TrainingError("optim.kind schedule-free needs schedulefree: pip install 'steadyscale[train]'") from error
    optimizer = library.AdamWScheduleFree(parameters, lr=learning_rate, betas=betas, weight_decay=decay)
    optimizer.train()
    return optimizer
