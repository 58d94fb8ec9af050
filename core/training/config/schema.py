"""Settings of a training run: one tree of dataclasses, read from TOML.

A file names what differs from the defaults; an unknown key is an error. `--set data.crop=128` overrides one value, and
the run's folder keeps the complete settings as config.toml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

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
from .degradation import DegradationConfig
from .renamed_keys import rename_keys
from .toml_dataclass import from_table, merge_tables, parse_override, read_toml

_SSIM_WINDOW_SIDE = 11
_MAX_ERROR = 500  # characters of an error, which may quote a value of the file


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise TrainingError(message)


def _check_min(minimum: float, section: str, settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        _check(value >= minimum, f"{section}{name} must be at least {minimum:g}, not {value}")


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
        _check_min(1, "network.", self, "features", "blocks", "growth")
        _check_min(0, "network.", self, "convs")
        _check(self.unshuffle in (1, 2, 4), f"network.unshuffle must be 1, 2 or 4, not {self.unshuffle}")
        _check(len(self.scales) > 0, "network.scales is empty; name one or more scales, such as [2, 4]")
        _check(len(set(self.scales)) == len(self.scales), f"network.scales names a scale twice: {self.scales}")
        allowed = (1, 2, 4, 8) if self.kind is NetworkKind.RRDB else range(1, 17)
        for scale in self.scales:
            _check(
                scale in allowed,
                f"network.scales: {self.kind.value} does not support scale {scale}; use {', '.join(map(str, allowed))}",
            )
        _check(
            not self.separable or self.kind is not NetworkKind.SPAN,
            "network.separable: a span has no separable form; set it to false, or network.kind to compact or rrdb",
        )
        _check(
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
        _check_min(1, "discriminator.", self, "features")


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
        _check(
            0 < self.min_resize <= 1, f"data.min_resize must be a factor above 0 and at most 1, not {self.min_resize}"
        )
        _check_min(1, "data.", self, "crop", "crop_candidates", "frames_per_video", "clip_frames")
        _check(
            not self.paired or self.clip_frames == 1,
            f"data.clip_frames is {self.clip_frames}, but pairs (data.paired) are single images; remove one of the two",
        )
        _check(
            not self.paired or self.min_resize == 1,
            f"data.min_resize is {self.min_resize}, but pairs (data.paired) are not resized; remove data.min_resize",
        )
        _check_min(0, "data.", self, "cache_gb")
        _check(
            0 <= self.permute_colors <= 1,
            f"data.permute_colors must be a probability from 0 to 1, not {self.permute_colors}",
        )
        _check_min(1, "data.", self, "max_saturation")


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
        _check_min(
            0,
            "losses.",
            self,
            *("pixel", "perceptual", "content", "adversarial", "variation", "frequency", "shift_consistency"),
            *("temporal", "temporal_adversarial", "deflicker", "ms_ssim", "wavelet", "artifacts", "color"),
        )
        _check(self.deflicker <= 1, f"losses.deflicker must be at most 1, not {self.deflicker}")

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
        _check(
            self.kind is not OptimizerKind.ADAM or not self.weight_decay,
            'optim.weight_decay is of AdamW; set optim.kind to "adamw", or optim.weight_decay to 0',
        )
        for name in ("learning_rate", "discriminator_learning_rate"):
            _check(getattr(self, name) > 0, f"optim.{name} must be above 0, not {getattr(self, name)}")
        _check_min(
            0, "optim.", self, "warmup_steps", "gan_start_step", "gan_ramp_steps", "max_grad_norm", "weight_decay"
        )
        _check(
            all(0 <= beta < 1 for beta in self.betas), f"optim.betas must be at least 0 and below 1, not {self.betas}"
        )
        _check(
            0 < self.min_learning_rate <= self.learning_rate,
            f"optim.min_learning_rate must be above 0 and at most learning_rate ({self.learning_rate}), "
            f"not {self.min_learning_rate}",
        )
        _check(0 <= self.ema_decay < 1, f"optim.ema_decay must be at least 0 and below 1, not {self.ema_decay}")


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
        _check_min(0, "runtime.", self, "num_workers")


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
        _check_min(1, "output.", self, "checkpoint_every", "keep_checkpoints", "validate_every")
        _check_min(0, "output.", self, "patience", "samples")


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a run.

    name: stem of the weight files. run: folder of the run (default: runs/NAME). seed: of all random numbers. steps: of
    both optimizers. batch: crops per step, over all processes. accumulate: parts that the crops of a step are processed
    in, one after the other, to save memory.
    """

    name: str = "model"
    run: str = ""
    seed: int = 0
    steps: int = 100_000
    batch: int = 16
    accumulate: int = 1
    network: NetworkConfig = field(default_factory=NetworkConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    data: DataConfig = field(default_factory=DataConfig)
    degrade: DegradationConfig = field(default_factory=DegradationConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    output: OutputConfig = field(default_factory=OutputConfig)

    def __post_init__(self) -> None:
        _check(bool(self.name) and Path(self.name).name == self.name, f"name must be a file name, not {self.name!r}")
        _check_min(0, "", self, "seed")
        _check_min(1, "", self, "steps", "batch", "accumulate")
        self._check_batch()
        self._check_losses()
        self._check_crop()
        self._check_pairs()
        self._check_clips()

    def _check_batch(self) -> None:
        part = self.batch / self.accumulate
        _check(
            part >= 1 and part.is_integer(),
            f"batch {self.batch} cannot be divided into {self.accumulate} equal parts; change batch or accumulate",
        )
        _check(
            not self.losses.shift_consistency or part % 2 == 0,
            f"losses.shift_consistency needs pairs of crops; batch {self.batch} in {self.accumulate} parts is odd",
        )

    def _check_losses(self) -> None:
        losses = self.losses
        early = (losses.pixel, losses.variation, losses.frequency, losses.shift_consistency, losses.temporal)
        early += (losses.ms_ssim, losses.wavelet, losses.color)
        late = (losses.perceptual, losses.content, losses.adversarial, losses.temporal_adversarial, losses.artifacts)
        _check(
            any(early) or (any(late) and not self.optim.gan_start_step),
            "no loss has a weight in the first step; set losses.pixel above 0"
            + (", or optim.gan_start_step to 0" if any(late) else ""),
        )

    def _check_pairs(self) -> None:
        if not self.data.paired:
            return
        scales = self.network.scales
        _check(len(scales) == 1, f"data.paired: pairs have one scale, but network.scales is {scales}; name one")
        _check(
            not self.losses.shift_consistency or self.degrade.enabled,
            "losses.shift_consistency compares two degradations of one pair; set degrade.enabled",
        )

    def _check_clips(self) -> None:
        frames, losses, part = self.data.clip_frames, self.losses, self.batch // self.accumulate
        if frames == 1:
            for name in ("temporal", "temporal_adversarial", "deflicker"):
                _check(
                    not getattr(losses, name),
                    f"losses.{name} compares neighboring frames; set data.clip_frames to 2 or more",
                )
            return
        _check(
            part % frames == 0,
            f"data.clip_frames is {frames}, but a step computes {part} crops at a time; choose a batch that is a "
            f"multiple of {frames * self.accumulate}",
        )
        _check(
            not losses.shift_consistency,
            "losses.shift_consistency and data.clip_frames group the crops of a step in two ways; use losses.temporal "
            "with clips",
        )

    def _check_crop(self) -> None:
        crop = self.data.crop
        for scale in self.network.scales:
            multiple = scale * self.network.unshuffle
            _check(
                crop % multiple == 0,
                f"data.crop {crop} is not a multiple of {multiple}, which scale {scale} needs",
            )
        if self.losses.has_discriminator and self.discriminator.kind is DiscriminatorKind.VGG:
            is_power_of_two = crop >= 16 and crop & (crop - 1) == 0
            _check(is_power_of_two, f"data.crop is {crop}; discriminator.kind vgg needs 16, 32, 64, 128, ... pixels")
        _check(
            not self.losses.ms_ssim or crop >= _SSIM_WINDOW_SIDE,
            f"losses.ms_ssim compares windows of {_SSIM_WINDOW_SIDE} pixels, but data.crop is {crop}; raise it",
        )
        if self.losses.has_discriminator:
            _check(crop % 8 == 0, f"data.crop is {crop}; discriminator.kind unet needs a multiple of 8")

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return Path(self.run or f"runs/{self.name}")


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read settings from a TOML file. Raises TrainingError.

    overrides: such as "data.crop=128".
    """
    table = rename_keys(read_toml(Path(path)))
    for override in overrides:
        table = merge_tables(table, rename_keys(parse_override(override)))
    try:
        return from_table(TrainConfig(), table)
    except TrainingError as error:
        raise TrainingError(f"{path}: {str(error)[:_MAX_ERROR]}") from error


def config_from(table: Mapping[str, Any]) -> TrainConfig:
    """Return the settings in nested tables over the defaults.

    table: as TOML gives it. Raises TrainingError.
    """
    return from_table(TrainConfig(), rename_keys(table))


def strip_folders(config: TrainConfig) -> TrainConfig:
    """Reduce all paths to file names, for settings that are published."""

    def basenames(paths: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(Path(path).name for path in paths)

    return replace(
        config,
        run="",
        network=replace(config.network, init_from=Path(config.network.init_from).name),
        data=replace(config.data, train=basenames(config.data.train), validate=basenames(config.data.validate)),
        losses=replace(config.losses, backbone_weights=Path(config.losses.backbone_weights).name),
    )
