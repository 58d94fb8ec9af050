"""One training step of generator and discriminator.

They share a batch, and both skip the step on inf or NaN.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import torch
from torch import Tensor, nn

from ...runtime.typed_torch import to_list
from ..config.choices import AutocastDtype, OptimizerKind
from ..config.schema import TrainConfig
from ..config.sections import OptimConfig
from ..data.clips import Motion
from ..data.dataset import Batch
from ..losses import losses, structure, temporal
from ..losses.perceptual_features import FeatureExtractor, default_layers
from .distributed import SINGLE_PROCESS, Distributed
from .train_state import TrainedModel, TrainState

_AUTOCAST_DTYPES = {AutocastDtype.BF16: torch.bfloat16, AutocastDtype.FP16: torch.float16}


@dataclass(frozen=True)
class StepResult:
    """Result of a step.

    losses: by name, unweighted; "discriminator" is its loss, "real" and "fake" are the means of its probabilities for
    real and for generated images; those of the temporal discriminator begin with "temporal_". applied: False if an inf
    or NaN caused the step to be skipped.
    """

    losses: Mapping[str, float]
    applied: bool


@dataclass(frozen=True)
class _Adversary:
    """A discriminator in a step.

    prefix: of its names in the log: empty for images, "temporal_" for neighboring frames.
    """

    model: TrainedModel
    prefix: str

    def input_from(self, images: Tensor, motion: Motion | None, clip_frames: int) -> Tensor:
        """Return what the discriminator compares of these images."""
        if not self.prefix:
            return images
        assert motion is not None  # the settings demand clips
        return temporal.neighbor_pairs(images, motion.flow, motion.confidence, clip_frames)


def train_step(
    state: TrainState,
    batch: Batch,
    config: TrainConfig,
    *,
    features: FeatureExtractor | None = None,
    distributed: Distributed = SINGLE_PROCESS,
) -> StepResult:
    """Take one step, in place. The batch must be on the device of the networks.

    All networks compute their gradients before any is updated, so their order does not matter. If any gradient is inf
    or NaN, neither a network nor the averaged weights are updated.
    """
    adversaries = _adversaries(state, config)
    weights = loss_weights_at(config, state.step)
    sums: dict[str, Tensor] = {}
    models = [state.trained_generator, *(adversary.model for adversary in adversaries)]
    for model in models:
        model.network.train()
        model.optimizer.zero_grad(set_to_none=True)

    parts = config.accumulate
    clip_frames = config.data.clip_frames
    for small, large, motion in _split(batch, parts):
        with _autocast(config, small):
            pred = _deflickered(state.generator(small, batch.scale), motion, config)
        terms = _image_losses(pred, large, batch.shift, config, weights, features)
        if motion is not None and "temporal" in weights:
            terms["temporal"] = temporal.temporal_consistency(pred, large, motion.flow, motion.confidence)
        if "artifacts" in weights:
            with torch.no_grad(), _autocast(config, small):
                average = _deflickered(state.ema_generator(small, batch.scale), motion, config)
            terms["artifacts"] = structure.artifacts(pred, average, large)
        reals = [adversary.input_from(large, motion, clip_frames) for adversary in adversaries]
        for adversary, real in zip(adversaries, reals, strict=True):
            fake = adversary.input_from(pred, motion, clip_frames)
            name = f"{adversary.prefix}adversarial"
            terms[name] = _generator_adversarial_loss(adversary.model.network, fake, real, config)
        torch.autograd.backward(losses.total(terms, weights) * (state.trained_generator.scaler.scale / parts))
        for adversary, real in zip(adversaries, reals, strict=True):
            fake = adversary.input_from(pred.detach(), motion, clip_frames)
            results = _backward_discriminator(adversary.model, fake, real, config, parts)
            terms |= {adversary.prefix + name: value for name, value in results.items()}
        for name, term in terms.items():
            sums[name] = sums.get(name, torch.zeros((), device=term.device)) + term.detach().float() / parts

    norms = [_reduce_and_clip(model, config.optim.max_grad_norm, distributed) for model in models]
    # The only synchronization with the device in a step.
    values: list[float] = to_list(torch.stack([*norms, *sums.values()]))
    finite = [math.isfinite(norm) for norm in values[: len(norms)]]
    applied = all(finite)
    for model, is_finite in zip(models, finite, strict=True):
        model.scaler.update(is_finite)
    if applied:
        _apply_step(state, models, config)
    state.step += 1
    state.skipped_steps = 0 if applied else state.skipped_steps + 1
    return StepResult(dict(zip(sums, values[len(norms) :], strict=True)), applied)


def _adversaries(state: TrainState, config: TrainConfig) -> list[_Adversary]:
    """List the discriminators that take part in this step."""
    if state.step < config.optim.gan_start_step:
        return []
    models = {"": state.discriminator, "temporal_": state.temporal_discriminator}
    return [_Adversary(model, prefix) for prefix, model in models.items() if model is not None]


def _deflickered(pred: Tensor, motion: Motion | None, config: TrainConfig) -> Tensor:
    """Return the frames as the losses see them."""
    if motion is None or not config.losses.deflicker:
        return pred
    return temporal.deflickered(pred, motion.flow, motion.confidence, config.data.clip_frames, config.losses.deflicker)


def _split(batch: Batch, parts: int) -> Iterator[tuple[Tensor, Tensor, Motion | None]]:
    """Yield the batch in equal parts."""
    motion = batch.motion
    motions = (
        [None] * parts if motion is None else map(Motion, motion.flow.chunk(parts), motion.confidence.chunk(parts))
    )
    yield from zip(batch.small.chunk(parts), batch.large.chunk(parts), motions, strict=True)


def loss_weights_at(config: TrainConfig, step: int) -> dict[str, float]:
    """Return the weight of each loss in a step, without those of weight 0.

    The names are those of the log and of `_image_losses`: "steady" is the shift consistency, as in earlier logs.
    """
    settings, optim = config.losses, config.optim
    weights = {
        "pixel": settings.pixel,
        "variation": settings.variation,
        "frequency": settings.frequency,
        "steady": settings.shift_consistency,
        "temporal": settings.temporal,
        "ms_ssim": settings.ms_ssim,
        "wavelet": settings.wavelet,
        "color": settings.color,
    }
    if step >= optim.gan_start_step:
        ramp = min(1.0, (step - optim.gan_start_step + 1) / max(1, optim.gan_ramp_steps))
        weights |= {"perceptual": settings.perceptual, "content": settings.content, "artifacts": settings.artifacts}
        weights["adversarial"] = settings.adversarial * ramp
        weights["temporal_adversarial"] = settings.temporal_adversarial * ramp
    return {name: weight for name, weight in weights.items() if weight}


def learning_rate_at(optim: OptimConfig, base_rate: float, step: int, total_steps: int) -> float:
    """Return the learning rate of a step: a linear warm-up, then half a cosine.

    base_rate: maximum of this network; the minimum is scaled in proportion. A schedule-free optimizer has no cosine.
    """
    if step < optim.warmup_steps:
        return base_rate * (step + 1) / optim.warmup_steps
    if optim.kind is OptimizerKind.SCHEDULE_FREE:
        return base_rate
    progress = (step - optim.warmup_steps) / max(1, total_steps - optim.warmup_steps)
    min_rate = base_rate * optim.min_learning_rate / optim.learning_rate
    return min_rate + (base_rate - min_rate) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def _image_losses(
    pred: Tensor,
    target: Tensor,
    shift: tuple[int, int],
    config: TrainConfig,
    weights: Mapping[str, float],
    features: FeatureExtractor | None,
) -> dict[str, Tensor]:
    """Compute the losses that need no discriminator, by name."""
    settings = config.losses
    terms: dict[str, Tensor] = {}
    if "pixel" in weights:
        terms["pixel"] = losses.pixel(pred, target, settings.pixel_kind)
    if "variation" in weights:
        terms["variation"] = losses.total_variation(pred)
    if "frequency" in weights:
        terms["frequency"] = losses.frequency(pred, target, settings.frequency_kind)
    if "ms_ssim" in weights:
        terms["ms_ssim"] = structure.ms_ssim(pred, target)
    if "wavelet" in weights:
        terms["wavelet"] = structure.wavelet(pred, target)
    if "color" in weights:
        terms["color"] = structure.color(pred, target)
    if "steady" in weights:
        terms["steady"] = losses.shift_consistency(pred, shift)
    if features is not None and ("perceptual" in weights or "content" in weights):
        layers = settings.layer_weights or default_layers(settings.backbone)
        with torch.no_grad():
            target_features = features(target)
        pred_features = features(pred)
        if "perceptual" in weights:
            terms["perceptual"] = losses.perceptual(pred_features, target_features, layers)
        if "content" in weights:
            terms["content"] = losses.content(pred_features, target_features, layers)
    return terms


def _generator_adversarial_loss(discriminator: nn.Module, pred: Tensor, target: Tensor, config: TrainConfig) -> Tensor:
    """Compute the generator's loss; the discriminator gets no gradients from it."""
    discriminator.requires_grad_(False)
    with _autocast(config, pred):
        with torch.no_grad():
            real = discriminator(target)
        fake = discriminator(pred)
    return losses.generator_loss(real, fake, config.losses.adversarial_kind)


def _backward_discriminator(
    discriminator: TrainedModel, pred: Tensor, target: Tensor, config: TrainConfig, parts: int
) -> dict[str, Tensor]:
    """Accumulate the discriminator's gradients.

    Returns its loss and its mean probabilities. Real and generated images are separate batches: the batch normalization
    of a mixed one would mix their statistics.
    """
    discriminator.network.requires_grad_(True)
    with _autocast(config, pred):
        real, fake = discriminator.network(target), discriminator.network(pred)
    loss = losses.discriminator_loss(real, fake, config.losses.adversarial_kind)
    torch.autograd.backward(loss * (discriminator.scaler.scale / parts))
    probabilities = losses.mean_probabilities(
        real.detach().float(), fake.detach().float(), config.losses.adversarial_kind
    )
    return {"discriminator": loss, **dict(zip(("real", "fake"), probabilities, strict=True))}


def _reduce_and_clip(model: TrainedModel, max_norm: float, distributed: Distributed) -> Tensor:
    """Average the gradients over processes, unscale and clip them.

    Returns their norm before clipping.
    """
    gradients = model.gradients()
    distributed.all_reduce_mean(gradients)
    if model.scaler.scale != 1:
        for gradient in gradients:
            gradient /= model.scaler.scale
    return torch.nn.utils.clip_grad_norm_(model.network.parameters(), max_norm or math.inf)


def _apply_step(state: TrainState, models: list[TrainedModel], config: TrainConfig) -> None:
    optim = config.optim
    base_rates = chain([optim.learning_rate], repeat(optim.discriminator_learning_rate))
    for model, base_rate in zip(models, base_rates, strict=False):
        for group in model.optimizer.param_groups:
            group["lr"] = learning_rate_at(optim, base_rate, state.step, config.steps)
        model.optimizer.step()  # pyright: ignore[reportUnknownMemberType]  # its hooks have no type
    with _averaged_weights(state.trained_generator.optimizer, optim):
        state.ema.update_parameters(state.generator)


@contextmanager
def _averaged_weights(optimizer: torch.optim.Optimizer, optim: OptimConfig) -> Generator[None, None, None]:
    """Set the weights to the average of a schedule-free optimizer for the block."""
    if optim.kind is not OptimizerKind.SCHEDULE_FREE:
        yield
        return
    switch: Any = optimizer
    switch.eval()
    try:
        yield
    finally:
        switch.train()


def _autocast(config: TrainConfig, tensor: Tensor) -> AbstractContextManager[object]:
    dtype = _AUTOCAST_DTYPES.get(config.runtime.autocast_dtype)
    return torch.autocast(tensor.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)
