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
from .choices import DiscriminatorKind
from .degradation import DegradationConfig
from .renamed_keys import rename_keys
from .sections import (
    DataConfig,
    DiscriminatorConfig,
    LossConfig,
    NetworkConfig,
    OptimConfig,
    OutputConfig,
    RuntimeConfig,
    check,
    check_min,
)
from .toml_dataclass import from_table, merge_tables, parse_override, read_toml

_SSIM_WINDOW_SIDE = 11
_MAX_ERROR = 500  # characters of an error, which may quote a value of the file


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
        check(bool(self.name) and Path(self.name).name == self.name, f"name must be a file name, not {self.name!r}")
        check_min(0, "", self, "seed")
        check_min(1, "", self, "steps", "batch", "accumulate")
        self._check_batch()
        self._check_losses()
        self._check_crop()
        self._check_pairs()
        self._check_clips()

    def _check_batch(self) -> None:
        part = self.batch / self.accumulate
        check(
            part >= 1 and part.is_integer(),
            f"batch {self.batch} cannot be divided into {self.accumulate} equal parts; change batch or accumulate",
        )
        check(
            not self.losses.shift_consistency or part % 2 == 0,
            f"losses.shift_consistency needs pairs of crops; batch {self.batch} in {self.accumulate} parts is odd",
        )

    def _check_losses(self) -> None:
        losses = self.losses
        early = (losses.pixel, losses.variation, losses.frequency, losses.shift_consistency, losses.temporal)
        early += (losses.ms_ssim, losses.wavelet, losses.color)
        late = (losses.perceptual, losses.content, losses.adversarial, losses.temporal_adversarial, losses.artifacts)
        check(
            any(early) or (any(late) and not self.optim.gan_start_step),
            "no loss has a weight in the first step; set losses.pixel above 0"
            + (", or optim.gan_start_step to 0" if any(late) else ""),
        )

    def _check_pairs(self) -> None:
        if not self.data.paired:
            return
        scales = self.network.scales
        check(len(scales) == 1, f"data.paired: pairs have one scale, but network.scales is {scales}; name one")
        check(
            not self.losses.shift_consistency or self.degrade.enabled,
            "losses.shift_consistency compares two degradations of one pair; set degrade.enabled",
        )

    def _check_clips(self) -> None:
        frames, losses, part = self.data.clip_frames, self.losses, self.batch // self.accumulate
        if frames == 1:
            for name in ("temporal", "temporal_adversarial", "deflicker"):
                check(
                    not getattr(losses, name),
                    f"losses.{name} compares neighboring frames; set data.clip_frames to 2 or more",
                )
            return
        check(
            part % frames == 0,
            f"data.clip_frames is {frames}, but a step computes {part} crops at a time; choose a batch that is a "
            f"multiple of {frames * self.accumulate}",
        )
        check(
            not losses.shift_consistency,
            "losses.shift_consistency and data.clip_frames group the crops of a step in two ways; use losses.temporal "
            "with clips",
        )

    def _check_crop(self) -> None:
        crop = self.data.crop
        for scale in self.network.scales:
            multiple = scale * self.network.unshuffle
            check(
                crop % multiple == 0,
                f"data.crop {crop} is not a multiple of {multiple}, which scale {scale} needs",
            )
        if self.losses.has_discriminator and self.discriminator.kind is DiscriminatorKind.VGG:
            is_power_of_two = crop >= 16 and crop & (crop - 1) == 0
            check(is_power_of_two, f"data.crop is {crop}; discriminator.kind vgg needs 16, 32, 64, 128, ... pixels")
        check(
            not self.losses.ms_ssim or crop >= _SSIM_WINDOW_SIDE,
            f"losses.ms_ssim compares windows of {_SSIM_WINDOW_SIDE} pixels, but data.crop is {crop}; raise it",
        )
        if self.losses.has_discriminator:
            check(crop % 8 == 0, f"data.crop is {crop}; discriminator.kind unet needs a multiple of 8")

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
