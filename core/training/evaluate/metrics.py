"""How close a network comes to pictures that it has not seen: PSNR and SSIM of brightness, as papers report them, and
LPIPS where that is asked for.

The small picture is made by antialiased bicubic reduction (a = -0.5, as MATLAB's imresize) and rounded to 8 bits; the
result is clamped and rounded to 8 bits; both are compared in Y of BT.601 (16 to 235), without a border of `scale`
pixels; the mean is taken over pictures. With this protocol bicubic enlargement has 33.7 dB on Set5 at 2x.
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
PerceptualMetric = Callable[
    [Tensor, Tensor], Tensor
]  # two pictures (1, 3, H, W) in [0, 1] -> how different they look, a scalar
MIN_LPIPS_SIDE = 64  # pixels a side that AlexNet wants to see


@dataclass(frozen=True)
class Scores:
    """psnr: in dB. ssim: up to 1. lpips: 0 and up, the less the better; None where it was not asked for. Means over
    pictures."""

    psnr: float
    ssim: float
    lpips: float | None = None


def make_lr_pair(image: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """(3, H, W), uint8 -> small (1, 3, H', W') and large (1, 3, H' * scale, W' * scale), both in steps of 1/255."""
    height, width = image.shape[1] // scale, image.shape[2] // scale
    large = image[None, :, : height * scale, : width * scale].float() / 255
    return round_to_8bit(resize(large, width, height)), large


def bicubic(scale: int) -> UpscaleFn:
    """Plain enlargement, the least that a network has to beat."""
    return lambda small: resize(small, small.shape[-1] * scale, small.shape[-2] * scale)


def round_to_8bit(image: Tensor) -> Tensor:
    """As it is after it was stored in 8 bits."""
    return (image.clamp(0, 1) * 255).round() / 255


def bt601_luma(image: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> (B, 1, H, W), Y of BT.601 in [16, 235]."""
    red, green, blue = image.split(1, dim=1)
    return 16 + 65.481 * red + 128.553 * green + 24.966 * blue


def score_image(pred: Tensor, target: Tensor, crop_border: int) -> Scores:
    """The scores of one picture (1, 3, H, W) against the true one, both in [0, 1]."""
    ours, wanted = _inner_luma(pred, crop_border), _inner_luma(target, crop_border)
    # In double precision torch unfolds the picture for SSIM's window; in single the score differs in the sixth digit.
    return Scores(_psnr(ours, wanted), ssim(ours.float(), wanted.float()))


def psnr(pred: Tensor, target: Tensor, crop_border: int) -> float:
    """The first of these scores alone, which takes a small part of the time."""
    return _psnr(_inner_luma(pred, crop_border), _inner_luma(target, crop_border))


def _inner_luma(image: Tensor, crop_border: int) -> Tensor:
    inside = slice(crop_border, -crop_border or None)
    return bt601_luma(round_to_8bit(image))[..., inside, inside].double()


def _psnr(pred: Tensor, target: Tensor) -> float:
    # 255, not 219: the papers' convention for values that go from 16 to 235.
    error = float(((pred - target) ** 2).mean())
    return min(10 * math.log10(255.0**2 / error), 100.0) if error else 100.0  # equal pictures would be infinitely good


def ssim(pred: Tensor, target: Tensor, data_range: float = 255.0) -> float:
    """Structural similarity of (1, 1, H, W), mean over an 11x11 Gaussian window around each pixel; edges are mirrored.

    Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity (2004): sigma 1.5, k1 = 0.01,
    k2 = 0.03. Pictures smaller than the window raise TrainingError.
    """
    height, width = pred.shape[-2:]
    if min(height, width) < 11:
        raise TrainingError(f"SSIM looks at 11x11 pixels, and {width}x{height} are left; take larger pictures")
    line = torch.exp(-0.5 * (torch.arange(-5.0, 6.0, dtype=pred.dtype, device=pred.device) / 1.5) ** 2)
    line = line / line.sum()
    pred, target = (F.pad(x, (5, 5, 5, 5), mode="reflect") for x in (pred, target))
    moments = torch.cat([pred, target, pred * pred, target * target, pred * target])
    means = F.conv2d(F.conv2d(moments, line.view(1, 1, 11, 1)), line.view(1, 1, 1, 11))
    a, b, aa, bb, ab = means
    steady, lively = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    alike = (2 * a * b + steady) * (2 * (ab - a * b) + lively)
    return float((alike / ((a * a + b * b + steady) * (aa - a * a + bb - b * b + lively))).mean())


def load_lpips() -> PerceptualMetric:
    """How different two pictures look (Zhang et al. 2018, arXiv:1801.03924; AlexNet). Raises TrainingError, with the
    way out, where there are no weights: AlexNet's come from torchvision, which keeps what it downloads."""
    advice = "let torchvision download them once where there is a network, or set keeping.lpips to false"
    try:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        # Pictures are given in [0, 1]; each call is a measurement of its own.
        network = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(f"LPIPS has no AlexNet weights here ({reason}): {advice}") from error

    def metric(pred: Tensor, target: Tensor) -> Tensor:
        network.reset()
        return network(pred, target)

    return metric


@torch.no_grad()
def score(
    upscale: UpscaleFn,
    images: Iterable[Tensor],
    scale: int,
    device: torch.device | str = "cpu",
    metric: PerceptualMetric | None = None,
) -> Scores:
    """The mean scores of (1, 3, h, w) -> (1, 3, h * scale, w * scale) over pictures (3, H, W), uint8.

    judge: what `lpips` returns, to be asked too; it sees whole pictures in 8 bits.
    """
    found, looks = [], []
    for picture in images:
        small, large = make_lr_pair(picture, scale)
        made = upscale(small.to(device)).float().cpu()
        found.append(score_image(made, large, scale))
        if metric is not None:
            looks.append(float(metric(round_to_8bit(made), large)))
    psnr, ssim = sum(s.psnr for s in found) / len(found), sum(s.ssim for s in found) / len(found)
    return Scores(psnr, ssim, sum(looks) / len(looks) if looks else None)
