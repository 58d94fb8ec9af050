"""Distances between the output of a compressed model and that of its teacher.

PSNR to the photograph cannot judge a compression: bicubic interpolation has more of it than most networks for real
video, and less detail than all of them. The teacher's output is therefore the reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..training.config.choices import Backbone
from ..training.errors import TrainingError
from ..training.evaluate.metrics import UpscaleFn, bicubic, make_lr_pair, psnr
from ..training.losses import losses
from ..training.losses.perceptual_features import default_layers, load_features
from ..upscaling.resize import resize

ROUNDING_RMS = math.sqrt(1 / 12) / 255  # of rounding to 8 bits: differences below it are invisible

FeatureDistance = Callable[[Tensor, Tensor], float]
"""Two images (1, 3, H, W) in [0, 1] -> their perceptual distance."""


@dataclass(frozen=True)
class Fidelity:
    """How close a model is to its teacher. Levels are steps of 1/255.

    kept: 1 - rms(output - teacher) / rms(bicubic - teacher); 1 for the teacher, 0 for bicubic interpolation of the
    input. teacher_psnr: PSNR-Y to the teacher in dB. perceptual_kept: like kept, with the distance of HED-VGG16
    features; None without its weights. detail: energy of what the input cannot hold (above its Nyquist frequency), as
    a factor of the teacher's. grid: rms over the scale x scale sub-pixel phases of their mean offsets, in levels.
    unevenness: standard deviation over the phases of their detail energy, as a share of the mean. drift: mean absolute
    difference of the crops' mean colors, of the worst channel, in levels. flicker: rms difference of two results for
    the same place seen with a sub-pixel offset, in levels.
    """

    kept: float
    teacher_psnr: float
    perceptual_kept: float | None
    detail: float
    grid: float
    unevenness: float
    drift: float
    flicker: float


@dataclass(frozen=True)
class _Crop:
    """Two low-resolution views (1, 3, h, w) of one place.

    The second starts `shift` high-resolution pixels (rows, columns) further down and to the right.
    """

    first: Tensor
    second: Tensor
    shift: tuple[int, int]


@dataclass(frozen=True)
class _Statistics:
    """Statistics of one model's outputs on all crops, for the comparison.

    images: results of the first views, in [0, 1]. phase_means (3, scale, scale), phase_energy (scale, scale): mean and
    mean square of the detail per sub-pixel phase. colors: (crops, 3), mean colors. flicker: rms.
    """

    images: Sequence[Tensor]
    phase_means: Tensor
    phase_energy: Tensor
    colors: Tensor
    flicker: float

    @property
    def grid(self) -> float:
        offsets = self.phase_means - self.phase_means.mean(dim=(1, 2), keepdim=True)
        return float(offsets.square().mean(dim=(1, 2)).amax().sqrt())

    @property
    def unevenness(self) -> float:
        energy = self.phase_energy + ROUNDING_RMS**2
        return float(energy.std(correction=0) / energy.mean())


class TeacherComparison:
    """Compare models with their teacher on crops of images.

    teacher: (1, 3, h, w) -> (1, 3, h * scale, w * scale). images: (3, H, W), uint8. feature_distance: None for no
    perceptual distance.
    """

    def __init__(
        self,
        teacher: UpscaleFn,
        images: Sequence[Tensor],
        scale: int,
        feature_distance: FeatureDistance | None = None,
    ) -> None:
        self._scale = scale
        self._crops = [_make_crop(image, scale, number) for number, image in enumerate(images)]
        self._teacher = self._run(teacher)
        self._feature_distance = feature_distance

    def measure(self, model: UpscaleFn) -> Fidelity:
        """Run a model on the crops, and compare its results with the teacher's."""
        result, teacher = self._run(model), self._teacher
        return Fidelity(
            kept=1 - _rms(result.images, teacher.images) / max(self._bicubic_rms, ROUNDING_RMS),
            teacher_psnr=_mean([psnr(a, b, self._scale) for a, b in self._pairs(result)]),
            perceptual_kept=self._perceptual_kept(result),
            detail=float(
                (result.phase_energy.mean() + ROUNDING_RMS**2) / (teacher.phase_energy.mean() + ROUNDING_RMS**2)
            ),
            grid=255 * result.grid,
            unevenness=result.unevenness,
            drift=255 * float((result.colors - teacher.colors).abs().mean(dim=0).amax()),
            flicker=255 * result.flicker,
        )

    @cached_property
    def _bicubic(self) -> _Statistics:
        return self._run(bicubic(self._scale))

    @cached_property
    def _bicubic_rms(self) -> float:
        return _rms(self._bicubic.images, self._teacher.images)

    @cached_property
    def _bicubic_feature_distance(self) -> float:
        assert self._feature_distance is not None
        return _mean([self._feature_distance(a, b) for a, b in self._pairs(self._bicubic)])

    def _perceptual_kept(self, result: _Statistics) -> float | None:
        if self._feature_distance is None or not self._bicubic_feature_distance:
            return None
        distance = _mean([self._feature_distance(a, b) for a, b in self._pairs(result)])
        return 1 - distance / self._bicubic_feature_distance

    def _pairs(self, result: _Statistics) -> list[tuple[Tensor, Tensor]]:
        return list(zip(result.images, self._teacher.images, strict=True))

    @torch.no_grad()
    def _run(self, model: UpscaleFn) -> _Statistics:
        images: list[Tensor] = []
        means, energy, pixels = torch.zeros(3, self._scale, self._scale), torch.zeros(self._scale, self._scale), 0
        flicker: list[float] = []
        for crop in self._crops:
            first, second = (model(view).float().cpu().clamp(0, 1) for view in (crop.first, crop.second))
            images.append(first)
            flicker.append(float(losses.shift_consistency(torch.cat([first, second]), crop.shift)))
            phases = _split_phases(detail(first, self._scale), self._scale)
            means += phases.sum(dim=(1, 3))
            energy += phases.square().mean(dim=0).sum(dim=(0, 2))
            pixels += phases.shape[1] * phases.shape[3]
        colors = torch.stack([image.mean(dim=(0, 2, 3)) for image in images])
        return _Statistics(images, means / pixels, energy / pixels, colors, math.sqrt(_mean(flicker)))


def load_feature_distance() -> FeatureDistance | None:
    """Load the perceptual distance of HED-VGG16, or return None without its weights."""
    layers = default_layers(Backbone.HED_VGG16)
    try:
        features = load_features(Backbone.HED_VGG16, layers)
    except TrainingError:
        return None

    @torch.no_grad()
    def distance(first: Tensor, second: Tensor) -> float:
        return float(losses.perceptual(features(first), features(second), layers))

    return distance


def _make_crop(image: Tensor, scale: int, number: int) -> _Crop:
    # All sub-pixel offsets occur in turn. At 1x there are none, and an offset of a pixel shows errors at the edges.
    offsets = range(1, max(2, scale))
    shift = offsets[number % len(offsets)], offsets[number // len(offsets) % len(offsets)]
    height, width = ((side - by) // scale * scale for side, by in zip(image.shape[-2:], shift, strict=True))
    first, second = (
        make_lr_pair(image[:, down : down + height, right : right + width], scale)[0] for down, right in ((0, 0), shift)
    )
    return _Crop(first, second, shift)


def detail(image: Tensor, scale: int) -> Tensor:
    """Return what is lost when the image is reduced by the scale and upscaled again.

    At 1x the image is halved instead.
    """
    height, width = image.shape[-2:]
    factor = max(2, scale)
    small = resize(image, max(1, width // factor), max(1, height // factor))
    return image - resize(small, width, height)


def _split_phases(image: Tensor, scale: int) -> Tensor:
    """(1, 3, h * scale, w * scale) -> (3, h, scale, w, scale)."""
    _, channels, height, width = image.shape
    return image.view(channels, height // scale, scale, width // scale, scale)


def _rms(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    squares = sum(float((a - b).square().sum()) for a, b in zip(first, second, strict=True))
    return math.sqrt(squares / sum(a.numel() for a in first))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
