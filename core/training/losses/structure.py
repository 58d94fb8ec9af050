"""Losses of local structure: MS-SSIM, wavelet subbands, mean color, artifacts.

Images are (B, C, H, W) in [0, 1]; every loss is a scalar in float32, also for half-precision images.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

# Weights of the scales of MS-SSIM and constants of SSIM: Wang, Simoncelli and Bovik 2003; Wang et al. 2004.
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW_SIDE, WINDOW_SIGMA = 11, 1.5
LUMINANCE_CONSTANT, CONTRAST_CONSTANT = 0.01**2, 0.03**2
# A contrast below this, which is negative for anticorrelated images, has no power of a fraction; it costs all the same.
MIN_CONTRAST = 1e-4
WAVELET_LEVELS = 2
COLOR_WINDOW = 16  # side of the squares whose mean colors are compared, in pixels
ARTIFACT_WINDOW = 7  # side of the neighborhood whose variance marks an artifact, in pixels


def ms_ssim(pred: Tensor, target: Tensor) -> Tensor:
    """1 - MS-SSIM.

    MS-SSIM is the product of the contrast at five scales and the luminance at the last. Scales at which the 11 x 11
    window does not fit are left out, and the weights of the others rescaled, so that crops of any size from 11 pixels
    on can be compared.
    """
    pred, target = _to_float32(pred), _to_float32(target)
    scales = max(1, sum(min(pred.shape[-2:]) >> scale >= WINDOW_SIDE for scale in range(len(MS_SSIM_WEIGHTS))))
    weights = MS_SSIM_WEIGHTS[:scales]
    result = pred.new_ones(pred.shape[:2])
    for scale, weight in enumerate(weights):
        luminance, contrast = _ssim_parts(pred, target)
        part = luminance * contrast if scale == scales - 1 else contrast
        result = result * part.mean((2, 3)).clamp_min(MIN_CONTRAST) ** (weight / sum(weights))
        pred, target = F.avg_pool2d(pred, 2), F.avg_pool2d(target, 2)
    return 1 - result.mean()


def wavelet(pred: Tensor, target: Tensor) -> Tensor:
    """L1 distance of the detail subbands of a stationary Haar transform.

    Mean over horizontal, vertical and diagonal detail of two levels, without decimation, so that it does not depend on
    even and odd positions. After Korkmaz, Tekalp and Dogan 2024, arXiv:2402.19215, who use longer wavelets.
    """
    difference = _to_float32(pred) - _to_float32(target)
    total = difference.new_zeros(())
    for level in range(WAVELET_LEVELS):
        low, *details = _haar_subbands(difference, 2**level)
        total = total + torch.stack([band.abs().mean() for band in details]).mean()
        difference = low
    return total / WAVELET_LEVELS


def color(pred: Tensor, target: Tensor) -> Tensor:
    """L1 distance of the mean colors of squares of 16 pixels.

    An image with a side below 16 pixels is compared in squares of its shorter side. The minimum of an L1 loss is a
    median, which lies beside the mean where errors are skewed, as in nearly black or saturated channels: the result
    then has another tint than the target.
    """
    side = min(COLOR_WINDOW, *pred.shape[-2:])
    return F.avg_pool2d(_to_float32(pred) - _to_float32(target), side).abs().mean()


def artifacts(pred: Tensor, average: Tensor, target: Tensor) -> Tensor:
    """L1 distance where a network draws artifacts rather than detail.

    Locally discriminative learning, Liang, Zeng and Zhang 2022, arXiv:2203.09195: a pixel counts by the variance of the
    error around it, and only where the network's error is larger than that of the averaged network, which is stable.
    average: the result of the averaged network.
    """
    pred, average, target = (_to_float32(x) for x in (pred, average, target))
    with torch.no_grad():
        error, average_error = ((target - x).abs().sum(1, keepdim=True) for x in (pred, average))
        overall = error.var((1, 2, 3), keepdim=True) ** 0.2
        weight = overall * _local_variance(error) * (error >= average_error)
    return F.l1_loss(weight * pred, weight * target)


def _to_float32(image: Tensor) -> Tensor:
    return image.float() if image.dtype in (torch.float16, torch.bfloat16) else image


def _ssim_parts(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return luminance and contrast of SSIM at each position of the window."""
    window = _gaussian_window().to(pred).expand(pred.shape[1], 1, -1, -1)

    def blur(image: Tensor) -> Tensor:
        return F.conv2d(image, window, groups=image.shape[1])

    a, b = blur(pred), blur(target)
    variances = blur(pred**2) + blur(target**2) - a**2 - b**2
    luminance = (2 * a * b + LUMINANCE_CONSTANT) / (a**2 + b**2 + LUMINANCE_CONSTANT)
    return luminance, (2 * (blur(pred * target) - a * b) + CONTRAST_CONSTANT) / (variances + CONTRAST_CONSTANT)


@cache
def _gaussian_window() -> Tensor:
    steps = torch.arange(WINDOW_SIDE, dtype=torch.float64) - WINDOW_SIDE // 2
    line = torch.exp(-0.5 * (steps / WINDOW_SIGMA) ** 2)
    return torch.outer(line, line) / line.sum() ** 2


def _haar_subbands(image: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the low band and the differences across, down and diagonally.

    Each pixel is combined with those that are `step` pixels further on.
    """
    a, b = image[..., :-step, :-step], image[..., :-step, step:]
    c, d = image[..., step:, :-step], image[..., step:, step:]
    return (a + b + c + d) / 4, (a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2


def _local_variance(image: Tensor) -> Tensor:
    """Unbiased variance in a window around each pixel; edges are mirrored."""
    pad, count = ARTIFACT_WINDOW // 2, ARTIFACT_WINDOW**2
    padded = F.pad(image, (pad, pad, pad, pad), mode="reflect")
    mean, square = (F.avg_pool2d(x, ARTIFACT_WINDOW, 1) for x in (padded, padded**2))
    return (square - mean**2).clamp_min(0) * (count / (count - 1))
