"""The settings of a training run: one tree of values, read from TOML.

A file names only what differs from the defaults; a name that is no setting is an error. `--set data.crop=128` changes
one value, and what a run was started with lies in its folder as config.toml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from ..errors import TrainingError
from .choices import AdversarialLossKind, Backbone, FrequencyLossKind, PixelLossKind
from .degradation import DegradationConfig
from .toml_dataclass import apply_overrides, from_table, read_toml


class NetworkKind(Enum):
    COMPACT = "compact"
    RRDB = "rrdb"


class DiscriminatorKind(Enum):
    VGG = "vgg"
    UNET = "unet"


class AutocastDtype(Enum):
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise TrainingError(message)


def _check_min(minimum: float, section: str, settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        _check(value >= minimum, f"{section}{name} is at least {minimum:g}, not {value}")


@dataclass(frozen=True)
class NetworkConfig:
    """The generator. scales: one body with a head for each; steps take turns. features: channels inside. convs: of a
    compact network, between the first and the last. blocks, growth, unshuffle: of an RRDBNet, see models/rrdb.py;
    other programs know only growth 32. separable: make the convolutions between the first and the last
    depthwise-separable (models/separable.py), which pays from about 32 features; each network is then also written as
    the dense one that it equals. begin_with: a weight file of the same shape to go on from, or a name of `steadyscale
    models list`.
    """

    kind: NetworkKind = NetworkKind.COMPACT
    scales: tuple[int, ...] = (4,)
    features: int = 64
    convs: int = 16
    blocks: int = 23
    growth: int = 32
    unshuffle: int = 1
    separable: bool = False
    begin_with: str = ""

    def __post_init__(self) -> None:
        _check_min(1, "network.", self, "features", "blocks", "growth")
        _check_min(0, "network.", self, "convs")
        _check(self.unshuffle in (1, 2, 4), f"network.unshuffle is 1, 2 or 4, not {self.unshuffle}")
        _check(len(self.scales) > 0, "network.scales is empty; name one scale or several, such as [2, 4]")
        _check(len(set(self.scales)) == len(self.scales), f"network.scales names a scale twice: {self.scales}")
        allowed = (1, 2, 4, 8) if self.kind is NetworkKind.RRDB else range(1, 17)
        for scale in self.scales:
            _check(scale in allowed, f"network.scales: {self.kind.value} has no scale {scale}")
        _check(
            self.unshuffle == 1 or len(self.scales) == 1,
            "network.unshuffle changes what the shared body sees; with several scales it must be 1",
        )


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The opponent, which is there where losses.adversarial is above 0. vgg judges a crop and begins to tell within a
    few hundred steps; unet judges every pixel and takes its time. features: channels of its first layers.
    """

    kind: DiscriminatorKind = DiscriminatorKind.UNET
    features: int = 64

    def __post_init__(self) -> None:
        _check_min(1, "discriminator.", self, "features")


@dataclass(frozen=True)
class DataConfig:
    """What is learnt from. train, validate: pictures, folders of them, and videos.

    crop: side of the large picture that a step sees, in pixels. candidates: places drawn for a crop, of which the
    busiest is taken, for most photographs are mostly out of focus. shrink: crops are cut from a picture reduced by a
    factor between this and 1, so that detail of many sizes is seen. frames: taken from each video, evenly spaced.
    memory_gb: decoded pictures that are kept; the others are read again each time.
    """

    train: tuple[str, ...] = ()
    validate: tuple[str, ...] = ()
    crop: int = 128
    candidates: int = 2
    shrink: float = 1.0
    frames: int = 24
    memory_gb: float = 8.0

    def __post_init__(self) -> None:
        _check(0 < self.shrink <= 1, f"data.shrink is a factor above 0 and up to 1, not {self.shrink}")
        _check_min(1, "data.", self, "crop", "candidates", "frames")
        _check_min(0, "data.", self, "memory_gb")


@dataclass(frozen=True)
class LossConfig:
    """The weight of each loss (losses.py); 0 leaves it out. backbone, weights, layers: what sees for the perceptual and
    the content loss, its file (empty: where it usually is) and the weight of each of its layers (empty: its own).
    steady: with it crops come in pairs, two views of one place a part of a small pixel apart, and detail that depends
    on which of them is seen costs; its error is squared, so that weights from about 10 to 100 are felt.
    """

    pixel: float = 1.0
    perceptual: float = 0.0
    content: float = 0.0
    adversarial: float = 0.0
    variation: float = 0.0
    frequency: float = 0.0
    steady: float = 0.0
    pixel_kind: PixelLossKind = PixelLossKind.L1
    adversarial_kind: AdversarialLossKind = AdversarialLossKind.RELATIVISTIC
    frequency_kind: FrequencyLossKind = FrequencyLossKind.COMPLEX
    backbone: Backbone = Backbone.VGG19
    weights: str = ""
    layers: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("pixel", "perceptual", "content", "adversarial", "variation", "frequency", "steady"):
            _check(getattr(self, name) >= 0, f"losses.{name} is a weight, 0 or above, not {getattr(self, name)}")


@dataclass(frozen=True)
class OptimConfig:
    """How fast and how far. rate: of Adam, reached after `warm_up` steps, then falling along a cosine to `last_rate`.
    gan_from: the step at which the perceptual, content and adversarial losses join the pixels'; the adversarial weight
    takes `gan_ramp` steps to full strength. clip: the longest gradient that is followed, 0 for any. average: of the
    weights, exponential, how much of it stays at each step.
    """

    rate: float = 2e-4
    last_rate: float = 1e-7
    discriminator_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    warm_up: int = 0
    gan_from: int = 0
    gan_ramp: int = 0
    clip: float = 0.0
    average: float = 0.999

    def __post_init__(self) -> None:
        for name in ("rate", "discriminator_rate"):
            _check(getattr(self, name) > 0, f"learning.{name} is above 0, not {getattr(self, name)}")
        _check_min(0, "learning.", self, "warm_up", "gan_from", "gan_ramp", "clip")
        _check(
            all(0 <= beta < 1 for beta in self.betas), f"learning.betas are at least 0 and below 1, not {self.betas}"
        )
        _check(0 < self.last_rate <= self.rate, f"learning.last_rate lies between 0 and rate, not {self.last_rate}")
        _check(0 <= self.average < 1, f"learning.average is at least 0 and below 1, not {self.average}")


@dataclass(frozen=True)
class RuntimeConfig:
    """What it runs on, which changes speed and, by rounding, little else. device: auto, cpu, cuda, cuda:1.
    arithmetic: of the networks; weights stay in float32. compile: with torch's compiler, which
    needs torch 2.2 and takes a minute or more before the first step. loaders: threads that prepare data, 0 for none.
    """

    device: str = "auto"
    arithmetic: AutocastDtype = AutocastDtype.FP32
    channels_last: bool = True
    compile: bool = False
    loaders: int = 2

    def __post_init__(self) -> None:
        _check_min(0, "machine.", self, "loaders")


@dataclass(frozen=True)
class OutputConfig:
    """What is written and when, in steps. checkpoints: how many stay. patience: validations without a better PSNR
    after which training ends, 0 for never. samples: pictures drawn at each validation. tensorboard: log for it too.
    lpips: measure that too at each validation, which takes AlexNet's weights from torchvision.
    """

    checkpoint_every: int = 1000
    checkpoints: int = 2
    validate_every: int = 1000
    patience: int = 0
    samples: int = 2
    tensorboard: bool = False
    lpips: bool = False

    def __post_init__(self) -> None:
        _check_min(1, "keeping.", self, "checkpoint_every", "checkpoints", "validate_every")
        _check_min(0, "keeping.", self, "patience", "samples")


@dataclass(frozen=True)
class TrainConfig:
    """name: of the files that come out. run: the folder for all that a run leaves (default: runs/NAME). seed: decides
    everything that is drawn. steps: of both optimisers. batch: crops in a step, over all processes. accumulate: parts
    that a step's crops are taken in, one after the other, where they do not fit into memory together.
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
    learning: OptimConfig = field(default_factory=OptimConfig)
    machine: RuntimeConfig = field(default_factory=RuntimeConfig)
    keeping: OutputConfig = field(default_factory=OutputConfig)

    def __post_init__(self) -> None:
        _check(bool(self.name) and Path(self.name).name == self.name, f"name is that of a file, not {self.name!r}")
        _check_min(0, "", self, "seed")
        _check_min(1, "", self, "steps", "batch", "accumulate")
        parts = self.batch / self.accumulate
        _check(
            parts >= 1 and parts.is_integer(), f"batch {self.batch} cannot be taken in {self.accumulate} equal parts"
        )
        _check(
            not self.losses.steady or parts % 2 == 0,
            f"losses.steady sees crops in pairs; batch {self.batch} in {self.accumulate} parts leaves one alone",
        )
        early = (self.losses.pixel, self.losses.variation, self.losses.frequency, self.losses.steady)
        late = (self.losses.perceptual, self.losses.content, self.losses.adversarial)
        _check(
            any(early) or (any(late) and not self.learning.gan_from),
            "no loss has a weight in the first step; give losses.pixel one above 0"
            + (", or set learning.gan_from to 0" if any(late) else ""),
        )
        crop = self.data.crop
        for scale in self.network.scales:
            _check(crop % (scale * self.network.unshuffle) == 0, f"data.crop {crop} is no multiple of scale {scale}")
        if self.losses.adversarial and self.discriminator.kind is DiscriminatorKind.VGG:
            fits = crop >= 16 and crop & (crop - 1) == 0
            _check(fits, f"data.crop is {crop}; discriminator.kind vgg sees 16, 32, 64, 128, ... pixels")
        if self.losses.adversarial:
            _check(crop % 8 == 0, f"data.crop is {crop}; discriminator.kind unet sees multiples of 8")

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return Path(self.run or f"runs/{self.name}")


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """The settings in a TOML file, with changes such as "data.crop=128". Raises TrainingError naming what is wrong."""
    return config_from(apply_overrides(read_toml(Path(path)), overrides))


def config_from(table: Mapping[str, Any]) -> TrainConfig:
    """Settings out of nested tables, as TOML gives them; those not named keep their defaults."""
    return from_table(TrainConfig(), table)


def strip_folders(config: TrainConfig) -> TrainConfig:
    """The settings with files and folders by their last names alone, as they may be given away: where things lie on
    somebody's disk is nobody else's business."""

    def basenames(paths: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(Path(path).name for path in paths)

    return replace(
        config,
        run="",
        network=replace(config.network, begin_with=Path(config.network.begin_with).name),
        data=replace(config.data, train=basenames(config.data.train), validate=basenames(config.data.validate)),
        losses=replace(config.losses, weights=Path(config.losses.weights).name),
    )
