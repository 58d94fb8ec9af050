"""Second-order degradations of Real-ESRGAN, with video compression in addition.

Wang et al. 2021, arXiv:2107.10833: blur, resize, noise and compression, applied twice with values drawn for each image.
All random numbers come from the generator that is passed in, so that a seed gives the same image.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...runtime.typed_torch import bessel_j1, from_numpy
from ..config.degradation import DegradationConfig, DegradationStage
from . import compression_artifacts

MIN_SIDE = 8  # minimum side of the intermediate sizes in pixels


def degrade(image: Tensor, height: int, width: int, settings: DegradationConfig, rng: np.random.Generator) -> Tensor:
    """Degrade an image to a given size, without a shift of the content.

    (3, H, W) in [0, 1] -> (3, height, width) in [0, 1], in steps of 1/255. The frames of a short clip (T, 3, H, W) go
    through one camera and one codec: filters, sizes, qualities and strengths are the same for all, noise is not.
    """
    if image.ndim == 3:
        return degrade(image[None], height, width, settings, rng)[0]
    source_size = image.shape[-2:]
    image = _random_blur(image, settings.first, rng)
    image = _random_resize(image, *_random_size(source_size, settings.first, rng), rng)
    image = compression_artifacts.jpeg_round_trip(
        _add_noise(image, settings.first, rng), _random_quality(settings.first, rng)
    )

    image = _random_blur(image, settings.second, rng)
    image = _random_resize(image, *_random_size((height, width), settings.second, rng), rng)
    image = _add_noise(image, settings.second, rng)
    # Both orders occur in practice; Real-ESRGAN reports that a fixed one leads to twisted lines.
    if rng.random() < 0.5:
        image = _random_compress(_final_resize(image, height, width, settings, rng), settings, rng)
    else:
        image = _final_resize(_random_compress(image, settings, rng), height, width, settings, rng)
    return (image.clamp(0, 1) * 255).round() / 255


# ---- blur ----


def gaussian_kernel(half_width: int, sigma_x: float, sigma_y: float, angle: float) -> Tensor:
    """Gaussian kernel with rotated axes, sum 1.

    (2 half_width + 1, 2 half_width + 1). angle: rotation of the axes in radians, from x to y.
    """
    steps = torch.arange(-half_width, half_width + 1, dtype=torch.float64)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    along, across = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    kernel = torch.exp(-0.5 * ((along / sigma_x) ** 2 + (across / sigma_y) ** 2))
    return (kernel / kernel.sum()).float()


def sinc_kernel(half_width: int, cutoff: float) -> Tensor:
    """Circular low-pass filter, which leaves ringing, sum 1.

    (2 half_width + 1, 2 half_width + 1). cutoff: in radians per pixel; pi passes everything.
    """
    steps = torch.arange(-half_width, half_width + 1, dtype=torch.float64)
    radius = torch.hypot(*torch.meshgrid(steps, steps, indexing="ij"))
    kernel = cutoff * bessel_j1(cutoff * radius) / (2 * math.pi * radius.clamp_min(1e-9))
    kernel[half_width, half_width] = cutoff**2 / (4 * math.pi)
    return (kernel / kernel.sum()).float()


def filter_image(image: Tensor, kernel: Tensor) -> Tensor:
    """Convolve each channel with an odd square kernel.

    (3, h, w) or (T, 3, h, w) -> the same; edges are replicated.
    """
    if image.ndim == 3:
        return filter_image(image[None], kernel)[0]
    half_width = len(kernel) // 2
    padded = F.pad(image, (half_width, half_width, half_width, half_width), mode="replicate")
    return F.conv2d(padded, kernel.flip(0, 1).expand(3, 1, -1, -1), groups=3)


def _random_blur(image: Tensor, stage: DegradationStage, rng: np.random.Generator) -> Tensor:
    if rng.random() >= stage.blur_prob:
        return image
    half_width = int(rng.integers(3, 11))
    if rng.random() < stage.sinc_prob:
        return filter_image(image, _random_sinc_kernel(half_width, rng))
    sigma_x, sigma_y = rng.uniform(*stage.blur_sigma, size=2)
    if rng.random() < 0.5:  # half of the kernels are isotropic
        sigma_y = sigma_x
    return filter_image(image, gaussian_kernel(half_width, sigma_x, sigma_y, rng.uniform(0, math.pi)))


def _random_sinc_kernel(half_width: int, rng: np.random.Generator) -> Tensor:
    return sinc_kernel(half_width, rng.uniform(math.pi / 3 if half_width < 7 else math.pi / 5, math.pi))


def _final_resize(
    image: Tensor, height: int, width: int, settings: DegradationConfig, rng: np.random.Generator
) -> Tensor:
    """Resize to the final size and, with `final_sinc_prob`, apply a sinc filter."""
    image = _random_resize(image, height, width, rng)
    if rng.random() < settings.final_sinc_prob:
        return filter_image(image, _random_sinc_kernel(int(rng.integers(3, 11)), rng)).clamp(0, 1)
    return image


# ---- size ----


def _random_size(base_size: tuple[int, ...], stage: DegradationStage, rng: np.random.Generator) -> tuple[int, int]:
    low, high = stage.resize_range
    choice, factor = rng.random(), 1.0
    if choice < stage.up_prob:
        factor = rng.uniform(1.0, max(1.0, high))
    elif choice < stage.up_prob + stage.down_prob:
        factor = rng.uniform(min(1.0, low), 1.0)
    height, width = (max(MIN_SIDE, round(side * factor)) for side in base_size)
    return height, width


def _random_resize(image: Tensor, height: int, width: int, rng: np.random.Generator) -> Tensor:
    """Resize with a random filter.

    The filter is drawn even if the size stays, so that later draws do not depend on it.
    """
    mode = ("area", "bilinear", "bicubic")[int(rng.integers(3))]
    antialias = bool(rng.random() >= 0.5)  # many programs resize without antialiasing
    if image.shape[-2:] == (height, width):
        return image
    if mode == "area":
        return F.interpolate(image, size=(height, width), mode="area")
    result = F.interpolate(image, size=(height, width), mode=mode, align_corners=False, antialias=antialias)
    return result.clamp(0, 1)


# ---- noise and compression ----


def _add_noise(image: Tensor, stage: DegradationStage, rng: np.random.Generator) -> Tensor:
    if rng.random() >= stage.noise_prob:
        return image
    is_gray = rng.random() < stage.gray_noise_prob
    shape = (len(image), 1, *image.shape[2:]) if is_gray else tuple(image.shape)
    if rng.random() < stage.gaussian_noise_prob:
        sigma = rng.uniform(*stage.gaussian_sigma) / 255
        noise = from_numpy(rng.standard_normal(shape, dtype=np.float32)) * sigma
    else:
        light = image.mean(dim=1, keepdim=True) if is_gray else image
        photons = rng.poisson(light.clamp(0, 1).double().numpy() * 255)
        noise = (from_numpy(photons / 255).float() - light) * rng.uniform(*stage.poisson_scale_range)
    return (image + noise).clamp(0, 1)


def _random_quality(stage: DegradationStage, rng: np.random.Generator) -> int:
    return round(rng.uniform(*stage.jpeg_quality))


def _random_compress(image: Tensor, settings: DegradationConfig, rng: np.random.Generator) -> Tensor:
    codecs = compression_artifacts.available_codecs()
    use_video, codec_draw = rng.random() < settings.video_prob, rng.random()
    crf, quality = round(rng.uniform(*settings.crf_range)), _random_quality(settings.second, rng)
    if use_video and codecs:
        return compression_artifacts.video_round_trip(image, codecs[int(codec_draw * len(codecs))], crf)
    return compression_artifacts.jpeg_round_trip(image, quality)
