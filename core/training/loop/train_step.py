"""One step: both players look at the same crops, and both move or neither does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config.schema import AutocastDtype, OptimConfig, TrainConfig
from ..data.dataset import Batch
from ..losses import losses
from ..losses.perceptual_features import FeatureExtractor, default_layers
from .distributed import SINGLE_PROCESS, Distributed
from .train_state import TrainedModel, TrainState

_AUTOCAST_DTYPES = {AutocastDtype.BF16: torch.bfloat16, AutocastDtype.FP16: torch.float16}


@dataclass(frozen=True)
class StepResult:
    """What a step has shown. losses: by name, unweighted, and those of the discriminator: its loss, the mean of its
    probabilities for photographs and for made pictures. moved: False where an inf or NaN has made the step void.
    """

    losses: Mapping[str, float]
    applied: bool


def train_step(
    state: TrainState,
    batch: Batch,
    config: TrainConfig,
    *,
    features: FeatureExtractor | None = None,
    distributed: Distributed = SINGLE_PROCESS,
) -> StepResult:
    """Take one step, in place. The batch lies on the networks' device.

    The discriminator learns from pictures made before the generator moves, and the generator from a discriminator that
    has not moved either, so the order of the two plays no part, and one decision serves both: with inf or NaN in any
    gradient neither moves, and neither do the averages.
    """
    playing = state.discriminator if state.step >= config.learning.gan_from else None
    weights = loss_weights_at(config, state.step)
    seen: dict[str, Tensor] = {}
    players = [state.trained_generator] + ([playing] if playing else [])
    for player in players:
        player.network.train()
        player.optimizer.zero_grad(set_to_none=True)

    parts = config.accumulate
    for small, large in zip(batch.small.chunk(parts), batch.large.chunk(parts), strict=True):
        with _autocast(config, small):
            made = state.generator(small, batch.scale)
        terms = _image_losses(made, large, batch.shift, config, weights, features)
        if playing:
            terms["adversarial"] = _generator_adversarial_loss(playing.network, made, large, config)
        (losses.total(terms, weights) * (state.trained_generator.scaler.scale / parts)).backward()
        if playing:
            terms |= _backward_discriminator(playing, made.detach(), large, config, parts)
        for name, term in terms.items():
            seen[name] = seen.get(name, torch.zeros((), device=term.device)) + term.detach().float() / parts

    norms = [_reduce_and_clip(player, config.learning.clip, distributed) for player in players]
    values = torch.stack([*norms, *seen.values()]).tolist()  # the step's one wait for the device
    finite = [math.isfinite(norm) for norm in values[: len(norms)]]
    moved = all(finite)
    for player, well in zip(players, finite, strict=True):
        player.scaler.update(well)
    if moved:
        _apply_step(state, players, config)
    state.step += 1
    state.skipped_steps = 0 if moved else state.skipped_steps + 1
    return StepResult(dict(zip(seen, values[len(norms) :], strict=True)), moved)


def loss_weights_at(config: TrainConfig, step: int) -> dict[str, float]:
    """The weight of each loss in a step: those that a discriminator or features judge by come in at `gan_from`."""
    settings, learning = config.losses, config.learning
    weights = {name: getattr(settings, name) for name in ("pixel", "variation", "frequency", "steady")}
    if step >= learning.gan_from:
        ramp = min(1.0, (step - learning.gan_from + 1) / max(1, learning.gan_ramp))
        weights |= {"perceptual": settings.perceptual, "content": settings.content}
        weights["adversarial"] = settings.adversarial * ramp
    return {name: weight for name, weight in weights.items() if weight}


def learning_rate_at(optim: OptimConfig, base_rate: float, step: int, total_steps: int) -> float:
    """The learning rate of a step: up in a straight line, then down along half a cosine."""
    if step < optim.warm_up:
        return base_rate * (step + 1) / optim.warm_up
    way = (step - optim.warm_up) / max(1, total_steps - optim.warm_up)
    last = base_rate * optim.last_rate / optim.rate
    return last + (base_rate - last) * (1 + math.cos(math.pi * min(1.0, way))) / 2


def _image_losses(
    pred: Tensor,
    target: Tensor,
    shift: tuple[int, int],
    config: TrainConfig,
    weights: Mapping[str, float],
    features: FeatureExtractor | None,
) -> dict[str, Tensor]:
    """The losses that look at the picture itself, by name."""
    settings = config.losses
    terms: dict[str, Tensor] = {}
    if "pixel" in weights:
        terms["pixel"] = losses.pixel(pred, target, settings.pixel_kind)
    if "variation" in weights:
        terms["variation"] = losses.total_variation(pred)
    if "frequency" in weights:
        terms["frequency"] = losses.frequency(pred, target, settings.frequency_kind)
    if "steady" in weights:
        terms["steady"] = losses.shift_consistency(pred, shift)
    if features is not None and ("perceptual" in weights or "content" in weights):
        layers = settings.layers or default_layers(settings.backbone)
        with torch.no_grad():
            wanted = features(target)
        shown = features(pred)
        if "perceptual" in weights:
            terms["perceptual"] = losses.perceptual(shown, wanted, layers)
        if "content" in weights:
            terms["content"] = losses.content(shown, wanted, layers)
    return terms


def _generator_adversarial_loss(discriminator: nn.Module, pred: Tensor, target: Tensor, config: TrainConfig) -> Tensor:
    """The generator's part of the game; the discriminator gets no gradients from it."""
    discriminator.requires_grad_(False)
    with _autocast(config, pred):
        with torch.no_grad():
            real = discriminator(target)
        fake = discriminator(pred)
    return losses.generator_loss(real, fake, config.losses.adversarial_kind)


def _backward_discriminator(
    discriminator: TrainedModel, pred: Tensor, target: Tensor, config: TrainConfig, parts: int
) -> dict[str, Tensor]:
    """The discriminator's part: its gradients, and what there is to tell. Photographs and made pictures go through
    apart from each other, for batch normalisation would otherwise tell it which are which."""
    discriminator.network.requires_grad_(True)
    with _autocast(config, pred):
        real, fake = discriminator.network(target), discriminator.network(pred)
    loss = losses.discriminator_loss(real, fake, config.losses.adversarial_kind)
    (loss * (discriminator.scaler.scale / parts)).backward()
    sure = {"real": real.detach().sigmoid().mean(), "fake": fake.detach().sigmoid().mean()}
    return {"discriminator": loss, **sure}


def _reduce_and_clip(model: TrainedModel, max_norm: float, distributed: Distributed) -> Tensor:
    """Average the gradients over processes, take the loss scale out, clip, and return their length before that."""
    gradients = model.gradients()
    distributed.all_reduce_mean(gradients)
    if model.scaler.scale != 1:
        for gradient in gradients:
            gradient /= model.scaler.scale
    return torch.nn.utils.clip_grad_norm_(model.network.parameters(), max_norm or math.inf)


def _apply_step(state: TrainState, models: list[TrainedModel], config: TrainConfig) -> None:
    learning = config.learning
    for player, rate in zip(models, (learning.rate, learning.discriminator_rate), strict=False):
        for group in player.optimizer.param_groups:
            group["lr"] = learning_rate_at(learning, rate, state.step, config.steps)
        player.optimizer.step()
    state.ema.update_parameters(state.generator)


def _autocast(config: TrainConfig, tensor: Tensor) -> AbstractContextManager[object]:
    half = _AUTOCAST_DTYPES.get(config.machine.arithmetic)
    return torch.autocast(tensor.device.type, dtype=half or torch.bfloat16, enabled=half is not None)
