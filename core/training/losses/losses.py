"""Losses of the generator and the discriminator.

Images are (B, C, H, W), RGB in [0, 1]. Every loss is a scalar, the mean over the batch, computed in float32 (float64 if
given) also under autocast. The generator's loss is the weighted sum

    L = l_pixel L_pixel + l_perceptual L_perceptual + l_content L_content + l_adversarial L_adversarial
        + l_variation L_variation + l_frequency L_frequency + l_shift_consistency L_shift_consistency
        + l_temporal L_temporal + l_temporal_adversarial L_temporal_adversarial
        + l_ms_ssim L_ms_ssim + l_wavelet L_wavelet + l_color L_color + l_artifacts L_artifacts;

those of neighboring frames are in temporal.py, and those of local structure in structure.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import ParamSpec

import torch
import torch.nn.functional as F
from torch import Tensor

from ...runtime.typed_torch import rfft2
from ..config.choices import AdversarialLossKind, FrequencyLossKind, PixelLossKind

P = ParamSpec("P")

IGNORED_EDGE_PIXELS = 4  # high-resolution pixels at the edges, where the two crops of a pair have different context


def _in_full_precision(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Turn autocast off for the loss, and convert half-precision tensors to float32."""

    @wraps(loss)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        device = next((value.device.type for value in args if isinstance(value, Tensor)), "cpu")
        with torch.autocast(device, enabled=False):
            return loss(*(_to_float32(value) for value in args), **kwargs)  # pyright: ignore[reportCallIssue]

    return wrapper


def _to_float32(value: object) -> object:
    if isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16):
        return value.float()
    return value


# ---- pixels ----


def pixel(pred: Tensor, target: Tensor, kind: PixelLossKind) -> Tensor:
    """Compute `l1` or `charbonnier`."""
    return l1(pred, target) if kind is PixelLossKind.L1 else charbonnier(pred, target)


@_in_full_precision
def l1(pred: Tensor, target: Tensor) -> Tensor:
    """mean |pred - target|."""
    return F.l1_loss(pred, target)


@_in_full_precision
def charbonnier(pred: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Smooth L1: mean sqrt((pred - target)^2 + epsilon^2).

    Lai et al. 2017, LapSRN, arXiv:1704.03915.
    """
    return torch.sqrt((pred - target) ** 2 + epsilon**2).mean()


@_in_full_precision
def total_variation(pred: Tensor) -> Tensor:
    """Anisotropic total variation.

    mean |pred[y + 1] - pred[y]| + mean |pred[x + 1] - pred[x]|.

    Penalizes noise and ringing (after Rudin, Osher and Fatemi 1992; Mahendran and Vedaldi 2015, arXiv:1412.0035).
    """
    return (pred[..., 1:, :] - pred[..., :-1, :]).abs().mean() + (pred[..., 1:] - pred[..., :-1]).abs().mean()


@_in_full_precision
def frequency(pred: Tensor, target: Tensor, kind: FrequencyLossKind = FrequencyLossKind.COMPLEX) -> Tensor:
    """Distance between the Fourier spectra F of two images.

    F is the orthonormal rfft2, so that the loss does not grow with the image size.

    complex: mean of |Re F(pred - target)| and |Im F(pred - target)| (Cho et al. 2021, MIMO-UNet, arXiv:2108.05054).
    amplitude: mean ||F(pred)| - |F(target)||, independent of position (Fuoli et al. 2021, arXiv:2106.00783).
    """
    pred_spectrum, target_spectrum = (rfft2(x, norm="ortho") for x in (pred, target))
    if kind is FrequencyLossKind.AMPLITUDE:
        return (pred_spectrum.abs() - target_spectrum.abs()).abs().mean()
    return torch.view_as_real(pred_spectrum - target_spectrum).abs().mean()


@_in_full_precision
def shift_consistency(pred: Tensor, shift: tuple[int, int]) -> Tensor:
    """mean (first - second)^2 over the overlap of the two images of each pair.

    Images 2 n and 2 n + 1 are results of crops of the same place; the second starts `shift` pixels (rows, columns)
    further down and to the right. Under sub-pixel camera motion the low-resolution input changes, and detail inferred
    from it flickers, while the ground truth only moves along. This loss is the flicker of a static scene, which
    `metrics.warping_error` measures on videos.
    """
    (down, right), (height, width) = shift, pred.shape[-2:]
    rows, columns = (min(IGNORED_EDGE_PIXELS, (side - by - 1) // 2) for side, by in ((height, down), (width, right)))
    difference = pred[0::2, :, down:, right:] - pred[1::2, :, : height - down, : width - right]
    return difference[..., rows : height - down - rows, columns : width - right - columns].square().mean()


# ---- distances of features, layer by layer (perceptual_features.py) ----


def perceptual(pred: Mapping[str, Tensor], target: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Perceptual loss on features before activation (ESRGAN).

    sum over layers of weight * mean |phi(pred) - phi(target)|.
    """
    return torch.stack([weight * l1(pred[layer], target[layer]) for layer, weight in weights.items()]).sum()


def content(pred: Mapping[str, Tensor], target: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Feature reconstruction loss (Johnson, Alahi and Fei-Fei 2016, arXiv:1603.08155).

    sum over layers of weight * ||phi(pred) - phi(target)||^2 / (C H W), the mean over the batch.
    """
    return torch.stack([weight * _feature_mse(pred[layer], target[layer]) for layer, weight in weights.items()]).sum()


@_in_full_precision
def _feature_mse(pred: Tensor, target: Tensor) -> Tensor:
    _, channels, height, width = pred.shape
    return ((pred - target) ** 2).sum(dim=(1, 2, 3)).mean() / (channels * height * width)


# ---- adversarial losses, on logits of any shape ----


@_in_full_precision
def discriminator_loss(real: Tensor, fake: Tensor, kind: AdversarialLossKind) -> Tensor:
    """Loss of the discriminator.

    r and f are its logits for real images and for generated ones.

    vanilla: (E softplus(-r) + E softplus(f)) / 2 (Goodfellow et al. 2014, arXiv:1406.2661).
    lsgan: (E (r - 1)^2 + E f^2) / 2 (Mao et al. 2017, arXiv:1611.04076).
    relativistic: vanilla of r - E f and f - E r (Jolicoeur-Martineau 2018, arXiv:1807.00734; ESRGAN).
    All are halved, so that an undecided discriminator has a loss of log 2 = 0.693 (0.25 for lsgan at logits of 1/2).
    """
    if kind is AdversarialLossKind.LSGAN:
        return (((real - 1) ** 2).mean() + (fake**2).mean()) / 2
    if kind is AdversarialLossKind.RELATIVISTIC:
        real, fake = real - fake.mean(), fake - real.mean()
    return (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2


@_in_full_precision
def generator_loss(real: Tensor, fake: Tensor, kind: AdversarialLossKind) -> Tensor:
    """Adversarial loss of the generator; r, f and sources as in `discriminator_loss`.

    vanilla: E softplus(-f), whose gradient does not vanish when the discriminator is certain. lsgan: E (f - 1)^2.
    relativistic: (E softplus(r - E f) + E softplus(-(f - E r))) / 2, which has gradients through r too.
    """
    if kind is AdversarialLossKind.LSGAN:
        return ((fake - 1) ** 2).mean()
    if kind is AdversarialLossKind.VANILLA:
        return F.softplus(-fake).mean()
    return (F.softplus(real - fake.mean()).mean() + F.softplus(real.mean() - fake).mean()) / 2


def mean_probabilities(real: Tensor, fake: Tensor, kind: AdversarialLossKind) -> tuple[Tensor, Tensor]:
    """Return the discriminator's mean probability of being real for each batch.

    vanilla: of r and f. relativistic: of r - E f and f - E r, as in its loss; 1/2 when it is undecided.
    lsgan: r and f limited to [0, 1], as they are trained towards 1 and 0 without a sigmoid.
    """
    if kind is AdversarialLossKind.LSGAN:
        return real.clamp(0, 1).mean(), fake.clamp(0, 1).mean()
    if kind is AdversarialLossKind.RELATIVISTIC:
        real, fake = real - fake.mean(), fake - real.mean()
    return real.sigmoid().mean(), fake.sigmoid().mean()


# ---- weighted sum ----


def total(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return the sum of weights[name] * terms[name] over the given terms."""
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()
