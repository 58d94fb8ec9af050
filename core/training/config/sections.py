"""The tables of a training run's settings: one class each, with its limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import TrainingError
from .choices import (
    AdversarialLossKind,
    AutocastDtype,
    Backbone,
    DiscriminatorKind,
    FrequencyLossKind,
    NetworkKind,
    OptimizerKind,
    PixelLossKind,
)


def check(condition: bool, message: str) -> None:
    """Raise TrainingError with the message unless the condition holds."""
    if not condition:
        raise TrainingError(message)


def check_min(minimum: float, section: str, settings: object, *names: str) -> None:
    """Raise TrainingError where one of these settings is below the minimum.

    section: of the TOML key, with its dot, for the message.
    """
    for name in names:
        value = getattr(settings, name)
        check(value >= minimum, f"{section}{name} must be at least {minimum:g}, not {value}")


@dataclass(frozen=True)
class NetworkConfig:
    """The generator.

    kind: architecture; a span has six attention blocks of `features`, which are 48 in its paper. scales: one body with
    one head per scale; steps alternate between the scales. features: channels inside. convs:
    convolutions of a compact network between the first and the last. blocks, growth, unshuffle: of an RRDBNet, see
    models/arch/rrdb.py; other programs read only growth 32. separable: depthwise-separable convolutions between the
    first and the last (models/arch/separable.py), which pays from about 32 features; the equivalent dense network is
    then written too. init_from: weights to start from, of the same shape: a file, or a name of `steadyscale models
    list`.
    """

    kind: NetworkKind = NetworkKind.COMPACT
    scales: tuple[int, ...] = (4,)
    features: int = 64
    convs: int = 16
    blocks: int = 23
    growth: int = 32
    unshuffle: int = 1
    separable: bool = False
    init_from: str = ""

    def __post_init__(self) -> None:
        check_min(1, "network.", self, "features", "blocks", "growth")
        check_min(0, "network.", self, "convs")
        check(self.unshuffle in (1, 2, 4), f"network.unshuffle must be 1, 2 or 4, not {self.unshuffle}")
        check(len(self.scales) > 0, "network.scales is empty; name one or more scales, such as [2, 4]")
        check(len(set(self.scales)) == len(self.scales), f"network.scales names a scale twice: {self.scales}")
        allowed = (1, 2, 4, 8) if self.kind is NetworkKind.RRDB else range(1, 17)
        for scale in self.scales:
            check(
                scale in allowed,
                f"network.scales: {self.kind.value} does not support scale {scale}; use {', '.join(map(str, allowed))}",
            )
        check(
            not self.separable or self.kind is not NetworkKind.SPAN,
            "network.separable: a span has no separable form; set it to false, or network.kind to compact or rrdb",
        )
        check(
            self.unshuffle == 1 or len(self.scales) == 1,
            "network.unshuffle changes the input of the shared body; with several scales it must be 1",
        )


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The discriminators of images and of neighboring frames.

    Each is trained if its loss, losses.adversarial or losses.temporal_adversarial, is above 0.

    kind: vgg gives one logit per crop and becomes useful within a few hundred steps; unet gives one per pixel and takes
    longer. features: channels of the first layers.
    """

    kind: DiscriminatorKind = DiscriminatorKind.UNET
    features: int = 64

    def __post_init__(self) -> None:
        check_min(1, "discriminator.", self, "features")


@dataclass(frozen=True)
class DataConfig:
    """Training and validation images.

    train, validate: images, folders of images, and videos. crop: side of the high-resolution crop in pixels.
    crop_candidates: random positions drawn per crop, of which the one with the most detail is taken, because large
    parts of most photographs are out of focus. min_resize: crops are cut from an image that is reduced by a random
    factor between this and 1, so that detail of many sizes occurs. frames_per_video: frames taken from each video,
    evenly spaced. cache_gb: decoded images kept in memory, in 10^9 bytes; the others are decoded again each time.
    paired: train and validate name folders with the subfolders `lq` (inputs) and `gt` (targets), whose images have the
    same names; inputs are then used as they are, or degraded further if degrade.enabled is set. clip_frames: with 2 or
    more, crops come in clips of so many neighboring frames, which the temporal losses need: of videos, which then give
    `frames_per_video` clips each, or of a simulated camera that moves over an image. permute_colors: probability that
    the color channels of a crop are permuted, 0 to 1, so that colors which the images lack are learned. max_saturation:
    the saturation of each crop is multiplied by a random factor between 1 and this, for the same reason.
    """

    train: tuple[str, ...] = ()
    validate: tuple[str, ...] = ()
    crop: int = 128
    crop_candidates: int = 2
    min_resize: float = 1.0
    frames_per_video: int = 24
    cache_gb: float = 8.0
    paired: bool = False
    clip_frames: int = 1
    permute_colors: float = 0.0
    max_saturation: float = 1.0

    def __post_init__(self) -> None:
        check(
            0 < self.min_resize <= 1, f"data.min_resize must be a factor above 0 and at most 1, not {self.min_resize}"
        )
        check_min(1, "data.", self, "crop", "crop_candidates", "frames_per_video", "clip_frames")
        check(
            not self.paired or self.clip_frames == 1,
            f"data.clip_frames is {self.clip_frames}, but pairs (data.paired) are single images; remove one of the two",
        )
        check(
            not self.paired or self.min_resize == 1,
            f"data.min_resize is {self.min_resize}, but pairs (data.paired) are not resized; remove data.min_resize",
        )
        check_min(0, "data.", self, "cache_gb")
        check(
            0 <= self.permute_colors <= 1,
            f"data.permute_colors must be a probability from 0 to 1, not {self.permute_colors}",
        )
        check_min(1, "data.", self, "max_saturation")


@dataclass(frozen=True)
class LossConfig:
    """Weight of each loss (losses/losses.py), 0 for none, and the choices within them.

    pixel: distance of the pixels. perceptual: L1 distance of features before activation, as in ESRGAN. content: squared
    distance of the same features. adversarial: that the discriminator takes the result for an original. variation:
    total variation of the result, against noise and ringing. frequency: distance of the spectra. shift_consistency:
    crops then come in pairs of the same place with a sub-pixel offset, and differences between the two results are
    penalized; the error is squared, so that weights from about 10 to 100 have an effect. pixel_kind: mean absolute
    error, or its smooth form. adversarial_kind: objective of both networks. frequency_kind: amplitudes alone, or the
    complex spectrum. backbone: feature network of the perceptual and the content loss. backbone_weights: its file;
    empty for the usual place. layer_weights: weight of each of its layers; empty for the default layers. temporal:
    change of the error along the motion, against flicker. temporal_adversarial: that a second discriminator takes two
    neighboring frames of the result, aligned by their motion, for originals. deflicker: strength, 0 to 1, of the
    deflicker filter that the frames of a clip pass through before any loss is computed, for networks that are used with
    it. These three need data.clip_frames. ms_ssim: structure at five scales, instead of or beside `pixel`. wavelet:
    edges and texture, by direction. color: mean colors of small squares, against a tint. artifacts: beside
    `adversarial`, pixels that become worse than those of the averaged network; about 1.
    """

    pixel: float = 1.0
    perceptual: float = 0.0
    content: float = 0.0
    adversarial: float = 0.0
    variation: float = 0.0
    frequency: float = 0.0
    shift_consistency: float = 0.0
    pixel_kind: PixelLossKind = PixelLossKind.L1
    adversarial_kind: AdversarialLossKind = AdversarialLossKind.RELATIVISTIC
    frequency_kind: FrequencyLossKind = FrequencyLossKind.COMPLEX
    backbone: Backbone = Backbone.VGG19
    backbone_weights: str = ""
    layer_weights: Mapping[str, float] = field(default_factory=dict[str, float])
    temporal: float = 0.0
    temporal_adversarial: float = 0.0
    deflicker: float = 0.0
    ms_ssim: float = 0.0
    wavelet: float = 0.0
    artifacts: float = 0.0
    color: float = 0.0

    def __post_init__(self) -> None:
        check_min(
            0,
            "losses.",
            self,
            *("pixel", "perceptual", "content", "adversarial", "variation", "frequency", "shift_consistency"),
            *("temporal", "temporal_adversarial", "deflicker", "ms_ssim", "wavelet", "artifacts", "color"),
        )
        check(self.deflicker <= 1, f"losses.deflicker must be at most 1, not {self.deflicker}")

    @property
    def has_discriminator(self) -> bool:
        """Whether a discriminator is trained."""
        return bool(self.adversarial or self.temporal_adversarial)


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and schedules.

    kind: adam; adamw, which also shrinks the weights by `weight_decay`; or schedule-free, an AdamW whose rate stays at
    `learning_rate`, so that a run can be prolonged, and whose own average of the weights is exported instead of that of
    `ema_decay` (extra `train`). weight_decay: times the learning rate, per step. learning_rate: reached after
    `warmup_steps`, then falling along a cosine to `min_learning_rate`. min_learning_rate: in the last step.
    discriminator_learning_rate: of the discriminator; it falls in proportion. betas: decay of the averages of the
    gradients and of their squares. warmup_steps: in which the rates rise from near 0. gan_start_step: first step with
    the perceptual, content and adversarial losses. gan_ramp_steps: in which the adversarial weight then rises to its
    full value. max_grad_norm: gradients are clipped to this norm; 0 for no clipping. ema_decay: of the exponential
    moving average of the weights, per step; the average is what is exported.
    """

    learning_rate: float = 2e-4
    min_learning_rate: float = 1e-7
    discriminator_learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    warmup_steps: int = 0
    gan_start_step: int = 0
    gan_ramp_steps: int = 0
    max_grad_norm: float = 0.0
    ema_decay: float = 0.999
    kind: OptimizerKind = OptimizerKind.ADAM
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check(
            self.kind is not OptimizerKind.ADAM or not self.weight_decay,
            'optim.weight_decay is of AdamW; set optim.kind to "adamw", or optim.weight_decay to 0',
        )
        for name in ("learning_rate", "discriminator_learning_rate"):
            check(getattr(self, name) > 0, f"optim.{name} must be above 0, not {getattr(self, name)}")
        check_min(
            0, "optim.", self, "warmup_steps", "gan_start_step", "gan_ramp_steps", "max_grad_norm", "weight_decay"
        )
        check(
            all(0 <= beta < 1 for beta in self.betas), f"optim.betas must be at least 0 and below 1, not {self.betas}"
        )
        check(
            0 < self.min_learning_rate <= self.learning_rate,
            f"optim.min_learning_rate must be above 0 and at most learning_rate ({self.learning_rate}), "
            f"not {self.min_learning_rate}",
        )
        check(0 <= self.ema_decay < 1, f"optim.ema_decay must be at least 0 and below 1, not {self.ema_decay}")


@dataclass(frozen=True)
class RuntimeConfig:
    """Device and speed; apart from rounding, the result does not depend on these.

    device: auto, cpu, or any device of torch, such as cuda, cuda:1, xpu or mps. autocast_dtype: of the forward and
    backward passes; weights stay in float32. channels_last: memory format of the networks; faster on most devices.
    compile: use torch.compile, which needs torch 2.2 and takes a minute or
    more before the first step. num_workers: threads that prepare batches; 0 prepares them in the training thread.
    """

    device: str = "auto"
    autocast_dtype: AutocastDtype = AutocastDtype.FP32
    channels_last: bool = True
    compile: bool = False
    num_workers: int = 2

    def __post_init__(self) -> None:
        check_min(0, "runtime.", self, "num_workers")


@dataclass(frozen=True)
class OutputConfig:
    """Files that a run writes; intervals are in steps.

    checkpoint_every: interval of the checkpoints. keep_checkpoints: number of checkpoints kept. validate_every:
    interval of the validations. patience: validations without a better PSNR after which training
    stops, 0 for never. samples: sample images per validation. tensorboard: write TensorBoard logs too. lpips: measure
    LPIPS at each validation, which needs AlexNet's weights from torchvision. wandb: project of Weights & Biases that
    the log is sent to (extra `wandb`; WANDB_MODE=offline sends nothing). mlflow: experiment of MLflow that the log is
    written to, at MLFLOW_TRACKING_URI (extra `mlflow`).
    """

    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    validate_every: int = 1000
    patience: int = 0
    samples: int = 2
    tensorboard: bool = False
    lpips: bool = False
    wandb: str = ""
    mlflow: str = ""

    def __post_init__(self) -> None:
        check_min(1, "output.", self, "checkpoint_every", "keep_checkpoints", "validate_every")
        check_min(0, "output.", self, "patience", "samples")
