"""From a good picture to a bad small one: what lenses, sensors, programs and platforms do to pictures, done twice.

The second-order degradations of Real-ESRGAN (Wang et al. 2021, arXiv:2107.10833): blur, resize, noise and compression,
and all of it again, with values drawn anew for every picture. Video compression is ours. Everything that is drawn comes
from the generator that is passed in, so that the same seed gives the same picture.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..config.degradation import DegradationConfig, DegradationStage
from . import compression_artifacts

MIN_SIDE = 8  # pixels a side that pictures are never reduced below on the way


def degrade(image: Tensor, height: int, width: int, settings: DegradationConfig, rng: np.random.Generator) -> Tensor:
    """(3, H, W) in [0, 1] -> (3, height, width) in [0, 1], in steps of 1/255. Nothing moves: areas map to areas."""
    source = image.shape[-2:]
    image = _random_blur(image, settings.first, rng)
    image = _random_resize(image, *_random_size(source, settings.first, rng), rng)
    image = compression_artifacts.jpeg_round_trip(
        _add_noise(image, settings.first, rng), _random_quality(settings.first, rng)
    )

    image = _random_blur(image, settings.second, rng)
    image = _random_resize(image, *_random_size((height, width), settings.second, rng), rng)
    image = _add_noise(image, settings.second, rng)
    # Either order is met in the wild; Real-ESRGAN found that others twist lines.
    if rng.random() < 0.5:
        image = _random_compress(_final_resize(image, height, width, settings, rng), settings, rng)
    else:
        image = _final_resize(_random_compress(image, settings, rng), height, width, settings, rng)
    return (image.clamp(0, 1) * 255).round() / 255


# ---- blur ----


def gaussian_kernel(half_width: int, sigma_x: float, sigma_y: float, angle: float) -> Tensor:
    """(2 reach + 1, 2 reach + 1), sum 1: a Gaussian with its axes turned by `angle`, in radians, from x to y."""
    steps = torch.arange(-half_width, half_width + 1, dtype=torch.float64)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    along, across = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    kernel = torch.exp(-0.5 * ((along / sigma_x) ** 2 + (across / sigma_y) ** 2))
    return (kernel / kernel.sum()).float()


def sinc_kernel(half_width: int, cutoff: float) -> Tensor:
    """(2 reach + 1, 2 reach + 1), sum 1: the circular sinc filter, which passes frequencies up to `cutoff` in radians a
    pixel (pi: all) and leaves the ripples of oversharpened and compressed pictures."""
    steps = torch.arange(-half_width, half_width + 1, dtype=torch.float64)
    radius = torch.hypot(*torch.meshgrid(steps, steps, indexing="ij"))
    kernel = cutoff * torch.special.bessel_j1(cutoff * radius) / (2 * math.pi * radius.clamp_min(1e-9))
    kernel[half_width, half_width] = cutoff**2 / (4 * math.pi)
    return (kernel / kernel.sum()).float()


def filter_image(image: Tensor, kernel: Tensor) -> Tensor:
    """(3, h, w) -> the same size, each channel convolved with an odd square kernel; edges are repeated."""
    reach = len(kernel) // 2
    wide = F.pad(image[None], (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(wide, kernel.flip(0, 1).expand(3, 1, -1, -1), groups=3)[0]


def _random_blur(image: Tensor, stage: DegradationStage, rng: np.random.Generator) -> Tensor:
    if rng.random() >= stage.blur:
        return image
    reach = int(rng.integers(3, 11))
    if rng.random() < stage.ring:
        return filter_image(image, _random_sinc_kernel(reach, rng))
    sigma_x, sigma_y = rng.uniform(*stage.sigma, size=2)
    if rng.random() < 0.5:  # as often round as not
        sigma_y = sigma_x
    return filter_image(image, gaussian_kernel(reach, sigma_x, sigma_y, rng.uniform(0, math.pi)))


def _random_sinc_kernel(half_width: int, rng: np.random.Generator) -> Tensor:
    return sinc_kernel(half_width, rng.uniform(math.pi / 3 if half_width < 7 else math.pi / 5, math.pi))


def _final_resize(
    image: Tensor, height: int, width: int, settings: DegradationConfig, rng: np.random.Generator
) -> Tensor:
    """Brought to its last size, and sometimes oversharpened."""
    image = _random_resize(image, height, width, rng)
    ring = rng.random() < settings.last_ring
    return filter_image(image, _random_sinc_kernel(int(rng.integers(3, 11)), rng)).clamp(0, 1) if ring else image


# ---- size ----


def _random_size(base_size: tuple[int, ...], stage: DegradationStage, rng: np.random.Generator) -> tuple[int, int]:
    low, high = stage.resize
    choice, factor = rng.random(), 1.0
    if choice < stage.up:
        factor = rng.uniform(1.0, max(1.0, high))
    elif choice < stage.up + stage.down:
        factor = rng.uniform(min(1.0, low), 1.0)
    height, width = (max(MIN_SIDE, round(side * factor)) for side in base_size)
    return height, width


def _random_resize(image: Tensor, height: int, width: int, rng: np.random.Generator) -> Tensor:
    """By one of the ways that programs know. The draw is made even where the size stays, so that later ones do not
    depend on it."""
    mode = ("area", "bilinear", "bicubic")[int(rng.integers(3))]
    careless = bool(rng.random() < 0.5)  # many programs leave the antialiasing out
    if image.shape[-2:] == (height, width):
        return image
    if mode == "area":
        return F.interpolate(image[None], size=(height, width), mode="area")[0]
    result = F.interpolate(image[None], size=(height, width), mode=mode, align_corners=False, antialias=not careless)
    return result[0].clamp(0, 1)


# ---- noise and compression ----


def _add_noise(image: Tensor, stage: DegradationStage, rng: np.random.Generator) -> Tensor:
    if rng.random() >= stage.noise:
        return image
    grey = rng.random() < stage.grey
    shape = (1, *image.shape[1:]) if grey else tuple(image.shape)
    if rng.random() < stage.gaussian:
        sigma = rng.uniform(*stage.gaussian_sigma) / 255
        noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)) * sigma
    else:
        light = image.mean(dim=0, keepdim=True) if grey else image
        photons = rng.poisson(light.clamp(0, 1).double().numpy() * 255)
        noise = (torch.from_numpy(photons / 255).float() - light) * rng.uniform(*stage.poisson)
    return (image + noise).clamp(0, 1)


def _random_quality(stage: DegradationStage, rng: np.random.Generator) -> int:
    return round(rng.uniform(*stage.quality))


def _random_compress(image: Tensor, settings: DegradationConfig, rng: np.random.Generator) -> Tensor:
    codecs = compression_artifacts.available_codecs()
    by_video, which = rng.random() < settings.video, rng.random()
    crf, quality = round(rng.uniform(*settings.crf)), _random_quality(settings.second, rng)
    if by_video and codecs:
        return compression_artifacts.video_round_trip(image, codecs[int(which * len(codecs))], crf)
    return compression_artifacts.jpeg_round_trip(image, quality)
