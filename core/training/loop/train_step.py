"""One step: both players look at the same crops, and both move or neither does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config.schema import Arithmetic, Config, Learning
from ..data.dataset import Batch
from ..losses import losses
from ..losses.perceptual_features import Features, default_layers
from .distributed import ALONE, Ranks
from .train_state import Player, State

_HALF = {Arithmetic.BF16: torch.bfloat16, Arithmetic.FP16: torch.float16}


@dataclass(frozen=True)
class Outcome:
    """What a step has shown. losses: by name, unweighted, and those of the discriminator: its loss, the mean of its
    probabilities for photographs and for made pictures. moved: False where an inf or NaN has made the step void.
    """

    losses: Mapping[str, float]
    moved: bool


def advance(
    state: State, batch: Batch, config: Config, *, features: Features | None = None, ranks: Ranks = ALONE
) -> Outcome:
    """Take one step, in place. The batch lies on the networks' device.

    The discriminator learns from pictures made before the generator moves, and the generator from a discriminator that
    has not moved either, so the order of the two plays no part, and one decision serves both: with inf or NaN in any
    gradient neither moves, and neither do the averages.
    """
    playing = state.opponent if state.step >= config.learning.gan_from else None
    weights = weights_at(config, state.step)
    seen: dict[str, Tensor] = {}
    players = [state.player] + ([playing] if playing else [])
    for player in players:
        player.network.train()
        player.optimiser.zero_grad(set_to_none=True)

    parts = config.accumulate
    for small, large in zip(batch.small.chunk(parts), batch.large.chunk(parts), strict=True):
        with _autocast(config, small):
            made = state.generator(small, batch.scale)
        terms = _picture_terms(made, large, batch.shift, config, weights, features)
        if playing:
            terms["adversarial"] = _deceive(playing.network, made, large, config)
        (losses.total(terms, weights) * (state.player.scale.value / parts)).backward()
        if playing:
            terms |= _judge(playing, made.detach(), large, config, parts)
        for name, term in terms.items():
            seen[name] = seen.get(name, torch.zeros((), device=term.device)) + term.detach().float() / parts

    norms = [_settled(player, config.learning.clip, ranks) for player in players]
    values = torch.stack([*norms, *seen.values()]).tolist()  # the step's one wait for the device
    finite = [math.isfinite(norm) for norm in values[: len(norms)]]
    moved = all(finite)
    for player, well in zip(players, finite, strict=True):
        player.scale.learn(well)
    if moved:
        _move(state, players, config)
    state.step += 1
    state.skipped = 0 if moved else state.skipped + 1
    return Outcome(dict(zip(seen, values[len(norms) :], strict=True)), moved)


def weights_at(config: Config, step: int) -> dict[str, float]:
    """The weight of each loss in a step: those that a discriminator or features judge by come in at `gan_from`."""
    settings, learning = config.losses, config.learning
    weights = {name: getattr(settings, name) for name in ("pixel", "variation", "frequency", "steady")}
    if step >= learning.gan_from:
        ramp = min(1.0, (step - learning.gan_from + 1) / max(1, learning.gan_ramp))
        weights |= {"perceptual": settings.perceptual, "content": settings.content}
        weights["adversarial"] = settings.adversarial * ramp
    return {name: weight for name, weight in weights.items() if weight}


def rate_at(learning: Learning, rate: float, step: int, steps: int) -> float:
    """The learning rate of a step: up in a straight line, then down along half a cosine."""
    if step < learning.warm_up:
        return rate * (step + 1) / learning.warm_up
    way = (step - learning.warm_up) / max(1, steps - learning.warm_up)
    last = rate * learning.last_rate / learning.rate
    return last + (rate - last) * (1 + math.cos(math.pi * min(1.0, way))) / 2


def _picture_terms(
    made: Tensor,
    large: Tensor,
    shift: tuple[int, int],
    config: Config,
    weights: Mapping[str, float],
    features: Features | None,
) -> dict[str, Tensor]:
    """The losses that look at the picture itself, by name."""
    settings = config.losses
    terms: dict[str, Tensor] = {}
    if "pixel" in weights:
        terms["pixel"] = losses.pixel(made, large, settings.pixel_kind)
    if "variation" in weights:
        terms["variation"] = losses.total_variation(made)
    if "frequency" in weights:
        terms["frequency"] = losses.frequency(made, large, settings.frequency_kind)
    if "steady" in weights:
        terms["steady"] = losses.steadiness(made, shift)
    if features is not None and ("perceptual" in weights or "content" in weights):
        layers = settings.layers or default_layers(settings.backbone)
        with torch.no_grad():
            wanted = features(large)
        shown = features(made)
        if "perceptual" in weights:
            terms["perceptual"] = losses.perceptual(shown, wanted, layers)
        if "content" in weights:
            terms["content"] = losses.content(shown, wanted, layers)
    return terms


def _deceive(discriminator: nn.Module, made: Tensor, large: Tensor, config: Config) -> Tensor:
    """The generator's part of the game; the discriminator gets no gradients from it."""
    discriminator.requires_grad_(False)
    with _autocast(config, made):
        with torch.no_grad():
            real = discriminator(large)
        fake = discriminator(made)
    return losses.generator_loss(real, fake, config.losses.adversarial_kind)


def _judge(opponent: Player, made: Tensor, large: Tensor, config: Config, parts: int) -> dict[str, Tensor]:
    """The discriminator's part: its gradients, and what there is to tell. Photographs and made pictures go through
    apart from each other, for batch normalisation would otherwise tell it which are which."""
    opponent.network.requires_grad_(True)
    with _autocast(config, made):
        real, fake = opponent.network(large), opponent.network(made)
    loss = losses.discriminator_loss(real, fake, config.losses.adversarial_kind)
    (loss * (opponent.scale.value / parts)).backward()
    sure = {"real": real.detach().sigmoid().mean(), "fake": fake.detach().sigmoid().mean()}
    return {"discriminator": loss, **sure}


def _settled(player: Player, clip: float, ranks: Ranks) -> Tensor:
    """Average the gradients over processes, take the loss scale out, clip, and return their length before that."""
    gradients = player.gradients()
    ranks.average(gradients)
    if player.scale.value != 1:
        for gradient in gradients:
            gradient /= player.scale.value
    return torch.nn.utils.clip_grad_norm_(player.network.parameters(), clip or math.inf)


def _move(state: State, players: list[Player], config: Config) -> None:
    learning = config.learning
    for player, rate in zip(players, (learning.rate, learning.discriminator_rate), strict=False):
        for group in player.optimiser.param_groups:
            group["lr"] = rate_at(learning, rate, state.step, config.steps)
        player.optimiser.step()
    state.average.update_parameters(state.generator)


def _autocast(config: Config, near: Tensor) -> AbstractContextManager[object]:
    half = _HALF.get(config.machine.arithmetic)
    return torch.autocast(near.device.type, dtype=half or torch.bfloat16, enabled=half is not None)
