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

from ..config.degradation import Degradation, Stage
from . import compression_artifacts

SMALLEST = 8  # pixels a side that pictures are never reduced below on the way


def degrade(picture: Tensor, height: int, width: int, settings: Degradation, rng: np.random.Generator) -> Tensor:
    """(3, H, W) in [0, 1] -> (3, height, width) in [0, 1], in steps of 1/255. Nothing moves: areas map to areas."""
    source = picture.shape[-2:]
    picture = _blurred(picture, settings.first, rng)
    picture = _resized(picture, *_drawn_size(source, settings.first, rng), rng)
    picture = compression_artifacts.jpeg(_noisy(picture, settings.first, rng), _quality(settings.first, rng))

    picture = _blurred(picture, settings.second, rng)
    picture = _resized(picture, *_drawn_size((height, width), settings.second, rng), rng)
    picture = _noisy(picture, settings.second, rng)
    # Either order is met in the wild; Real-ESRGAN found that others twist lines.
    if rng.random() < 0.5:
        picture = _compressed(_finished(picture, height, width, settings, rng), settings, rng)
    else:
        picture = _finished(_compressed(picture, settings, rng), height, width, settings, rng)
    return (picture.clamp(0, 1) * 255).round() / 255


# ---- blur ----


def gaussian_kernel(reach: int, sigma_x: float, sigma_y: float, angle: float) -> Tensor:
    """(2 reach + 1, 2 reach + 1), sum 1: a Gaussian with its axes turned by `angle`, in radians, from x to y."""
    steps = torch.arange(-reach, reach + 1, dtype=torch.float64)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    along, across = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    kernel = torch.exp(-0.5 * ((along / sigma_x) ** 2 + (across / sigma_y) ** 2))
    return (kernel / kernel.sum()).float()


def ring_kernel(reach: int, cutoff: float) -> Tensor:
    """(2 reach + 1, 2 reach + 1), sum 1: the circular sinc filter, which passes frequencies up to `cutoff` in radians a
    pixel (pi: all) and leaves the ripples of oversharpened and compressed pictures."""
    steps = torch.arange(-reach, reach + 1, dtype=torch.float64)
    radius = torch.hypot(*torch.meshgrid(steps, steps, indexing="ij"))
    kernel = cutoff * torch.special.bessel_j1(cutoff * radius) / (2 * math.pi * radius.clamp_min(1e-9))
    kernel[reach, reach] = cutoff**2 / (4 * math.pi)
    return (kernel / kernel.sum()).float()


def filtered(picture: Tensor, kernel: Tensor) -> Tensor:
    """(3, h, w) -> the same size, each channel convolved with an odd square kernel; edges are repeated."""
    reach = len(kernel) // 2
    wide = F.pad(picture[None], (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(wide, kernel.flip(0, 1).expand(3, 1, -1, -1), groups=3)[0]


def _blurred(picture: Tensor, stage: Stage, rng: np.random.Generator) -> Tensor:
    if rng.random() >= stage.blur:
        return picture
    reach = int(rng.integers(3, 11))
    if rng.random() < stage.ring:
        return filtered(picture, _drawn_ring(reach, rng))
    sigma_x, sigma_y = rng.uniform(*stage.sigma, size=2)
    if rng.random() < 0.5:  # as often round as not
        sigma_y = sigma_x
    return filtered(picture, gaussian_kernel(reach, sigma_x, sigma_y, rng.uniform(0, math.pi)))


def _drawn_ring(reach: int, rng: np.random.Generator) -> Tensor:
    return ring_kernel(reach, rng.uniform(math.pi / 3 if reach < 7 else math.pi / 5, math.pi))


def _finished(picture: Tensor, height: int, width: int, settings: Degradation, rng: np.random.Generator) -> Tensor:
    """Brought to its last size, and sometimes oversharpened."""
    picture = _resized(picture, height, width, rng)
    ring = rng.random() < settings.last_ring
    return filtered(picture, _drawn_ring(int(rng.integers(3, 11)), rng)).clamp(0, 1) if ring else picture


# ---- size ----


def _drawn_size(around: tuple[int, ...], stage: Stage, rng: np.random.Generator) -> tuple[int, int]:
    low, high = stage.resize
    choice, factor = rng.random(), 1.0
    if choice < stage.up:
        factor = rng.uniform(1.0, max(1.0, high))
    elif choice < stage.up + stage.down:
        factor = rng.uniform(min(1.0, low), 1.0)
    height, width = (max(SMALLEST, round(side * factor)) for side in around)
    return height, width


def _resized(picture: Tensor, height: int, width: int, rng: np.random.Generator) -> Tensor:
    """By one of the ways that programs know. The draw is made even where the size stays, so that later ones do not
    depend on it."""
    mode = ("area", "bilinear", "bicubic")[int(rng.integers(3))]
    careless = bool(rng.random() < 0.5)  # many programs leave the antialiasing out
    if picture.shape[-2:] == (height, width):
        return picture
    if mode == "area":
        return F.interpolate(picture[None], size=(height, width), mode="area")[0]
    result = F.interpolate(picture[None], size=(height, width), mode=mode, align_corners=False, antialias=not careless)
    return result[0].clamp(0, 1)


# ---- noise and compression ----


def _noisy(picture: Tensor, stage: Stage, rng: np.random.Generator) -> Tensor:
    if rng.random() >= stage.noise:
        return picture
    grey = rng.random() < stage.grey
    shape = (1, *picture.shape[1:]) if grey else tuple(picture.shape)
    if rng.random() < stage.gaussian:
        sigma = rng.uniform(*stage.gaussian_sigma) / 255
        noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)) * sigma
    else:
        light = picture.mean(dim=0, keepdim=True) if grey else picture
        photons = rng.poisson(light.clamp(0, 1).double().numpy() * 255)
        noise = (torch.from_numpy(photons / 255).float() - light) * rng.uniform(*stage.poisson)
    return (picture + noise).clamp(0, 1)


def _quality(stage: Stage, rng: np.random.Generator) -> int:
    return round(rng.uniform(*stage.quality))


def _compressed(picture: Tensor, settings: Degradation, rng: np.random.Generator) -> Tensor:
    codecs = compression_artifacts.available()
    by_video, which = rng.random() < settings.video, rng.random()
    crf, quality = round(rng.uniform(*settings.crf)), _quality(settings.second, rng)
    if by_video and codecs:
        return compression_artifacts.video(picture, codecs[int(which * len(codecs))], crf)
    return compression_artifacts.jpeg(picture, quality)
