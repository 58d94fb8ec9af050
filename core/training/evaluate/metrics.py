"""PSNR and SSIM on luma, as papers report them, and optionally LPIPS.

Protocol: the input is an antialiased bicubic reduction (a = -0.5, as MATLAB's imresize), rounded to 8 bits; the result
is clamped and rounded to 8 bits; both are compared in Y of BT.601 (16 to 235) without a border of `scale` pixels; the
mean is taken over images. Bicubic interpolation has 33.7 dB on Set5 at 2x with this protocol.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...upscaling.resize import resize
from ..errors import TrainingError

UpscaleFn = Callable[[Tensor], Tensor]
"""(1, 3, h, w) -> (1, 3, h * scale, w * scale)."""
PerceptualMetric = Callable[[Tensor, Tensor], Tensor]
"""Two images (1, 3, H, W) in [0, 1] -> their perceptual distance, a scalar."""
MIN_LPIPS_SIDE = 64  # pixels a side that AlexNet needs


@dataclass(frozen=True)
class Scores:
    """Means over images.

    psnr: in dB. ssim: up to 1. lpips: from 0 (equal) up, None if not measured.
    """

    psnr: float
    ssim: float
    lpips: float | None = None


def make_lr_pair(image: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Reduce an image: (3, H, W), uint8 -> small and large images.

    small (1, 3, h, w) and large (1, 3, h * scale, w * scale), both in steps of 1/255.
    """
    height, width = image.shape[1] // scale, image.shape[2] // scale
    large = image[None, :, : height * scale, : width * scale].float() / 255
    return round_to_8bit(resize(large, width, height)), large


def bicubic(scale: int) -> UpscaleFn:
    """Return bicubic upscaling, the baseline of every network."""
    return lambda small: resize(small, small.shape[-1] * scale, small.shape[-2] * scale)


def round_to_8bit(image: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to steps of 1/255."""
    return (image.clamp(0, 1) * 255).round() / 255


def bt601_luma(image: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> (B, 1, H, W), Y of BT.601 in [16, 235]."""
    red, green, blue = torch.split(image, 1, dim=1)
    return 16 + 65.481 * red + 128.553 * green + 24.966 * blue


def score_image(pred: Tensor, target: Tensor, crop_border: int) -> Scores:
    """Return PSNR and SSIM of one image against the ground truth.

    Both (1, 3, H, W) in [0, 1].
    """
    pred_luma, target_luma = _inner_luma(pred, crop_border), _inner_luma(target, crop_border)
    # SSIM in float32: in float64 torch unfolds the image for the window, for a difference in the sixth digit.
    return Scores(_psnr(pred_luma, target_luma), ssim(pred_luma.float(), target_luma.float()))


def psnr(pred: Tensor, target: Tensor, crop_border: int) -> float:
    """Return the PSNR of `score_image` alone, which takes a small part of the time."""
    return _psnr(_inner_luma(pred, crop_border), _inner_luma(target, crop_border))


def _inner_luma(image: Tensor, crop_border: int) -> Tensor:
    inside = slice(crop_border, -crop_border or None)
    return bt601_luma(round_to_8bit(image))[..., inside, inside].double()


def _psnr(pred: Tensor, target: Tensor) -> float:
    # A peak of 255, not 219: the convention of the papers for values that go from 16 to 235.
    error = float(((pred - target) ** 2).mean())
    return min(10 * math.log10(255.0**2 / error), 100.0) if error else 100.0  # finite for equal images


def ssim(pred: Tensor, target: Tensor, data_range: float = 255.0) -> float:
    """Mean structural similarity of (1, 1, H, W).

    With an 11x11 Gaussian window and reflected edges. Wang et al., Image Quality Assessment: From Error Visibility to
    Structural Similarity (2004): sigma 1.5, k1 = 0.01, k2 = 0.03. Raises TrainingError for images smaller than the
    window.
    """
    height, width = pred.shape[-2:]
    if min(height, width) < 11:
        raise TrainingError(f"SSIM needs 11x11 pixels, but {width}x{height} are left; use larger images")
    line = torch.exp(-0.5 * (torch.arange(-5.0, 6.0, dtype=pred.dtype, device=pred.device) / 1.5) ** 2)
    line = line / line.sum()
    pred, target = (F.pad(x, (5, 5, 5, 5), mode="reflect") for x in (pred, target))
    moments = torch.cat([pred, target, pred * pred, target * target, pred * target])
    means = F.conv2d(F.conv2d(moments, line.view(1, 1, 11, 1)), line.view(1, 1, 1, 11))
    a, b, aa, bb, ab = means
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    numerator = (2 * a * b + c1) * (2 * (ab - a * b) + c2)
    return float((numerator / ((a * a + b * b + c1) * (aa - a * a + bb - b * b + c2))).mean())


def load_lpips() -> PerceptualMetric:
    """Load LPIPS with AlexNet (Zhang et al. 2018, arXiv:1801.03924).

    torchvision downloads AlexNet's weights once and caches them. Raises TrainingError if they are not available.
    """
    advice = "let torchvision download them once while online, or set output.lpips to false"
    try:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        network = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)  # normalize: input in [0, 1]
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(f"LPIPS has no AlexNet weights here ({reason}): {advice}") from error

    def metric(pred: Tensor, target: Tensor) -> Tensor:
        network.reset()  # torchmetrics would average over all calls
        return network(pred, target)

    return metric


def score(
    upscale: UpscaleFn,
    images: Iterable[Tensor],
    scale: int,
    device: torch.device | str = "cpu",
    metric: PerceptualMetric | None = None,
) -> Scores:
    """Return the mean scores of an upscaler over images (3, H, W), uint8.

    metric: LPIPS from `load_lpips`, measured on whole images in steps of 1/255.
    """
    return score_pairs(upscale, (make_lr_pair(image, scale) for image in images), scale, device, metric)


@torch.no_grad()
def score_pairs(
    upscale: UpscaleFn,
    pairs: Iterable[tuple[Tensor, Tensor]],
    scale: int,
    device: torch.device | str = "cpu",
    metric: PerceptualMetric | None = None,
) -> Scores:
    """Return the mean scores over pairs as `make_lr_pair` returns them; see `score`."""
    image_scores: list[Scores] = []
    distances: list[float] = []
    for small, large in pairs:
        pred = upscale(small.to(device)).float().cpu()
        image_scores.append(score_image(pred, large, scale))
        if metric is not None:
            distances.append(float(metric(round_to_8bit(pred), large)))
    mean_psnr = sum(s.psnr for s in image_scores) / len(image_scores)
    mean_ssim = sum(s.ssim for s in image_scores) / len(image_scores)
    return Scores(mean_psnr, mean_ssim, sum(distances) / len(distances) if distances else None)
