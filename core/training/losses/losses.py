"""What a made picture costs: distances to the true one, and the verdict of a discriminator.

Pictures are (B, C, H, W), RGB in [0, 1]; every loss is one number, the mean over the batch, computed in float32 (or
float64, if given) also under autocast. The whole is their weighted sum,

    L = l_pixel L_pixel + l_perceptual L_perceptual + l_content L_content
        + l_adversarial L_adversarial + l_variation L_variation + l_frequency L_frequency + l_steady L_steady.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import ParamSpec

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config.choices import AdversarialLossKind, FrequencyLossKind, PixelLossKind

P = ParamSpec("P")

IGNORED_EDGE_PIXELS = 4  # large pixels at which the two of a pair see other things beyond their crops


def _in_full_precision(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """The same loss with autocast off and half-precision tensors widened."""

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
    """`l1` or `charbonnier`."""
    return l1(pred, target) if kind is PixelLossKind.L1 else charbonnier(pred, target)


@_in_full_precision
def l1(pred: Tensor, target: Tensor) -> Tensor:
    """mean |made - true|."""
    return F.l1_loss(pred, target)


@_in_full_precision
def charbonnier(pred: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """mean sqrt((made - true)^2 + epsilon^2): L1 with a rounded tip (Lai et al. 2017, LapSRN, arXiv:1704.03915)."""
    return torch.sqrt((pred - target) ** 2 + epsilon**2).mean()


@_in_full_precision
def total_variation(pred: Tensor) -> Tensor:
    """mean |made[y + 1] - made[y]| + mean |made[x + 1] - made[x]|: anisotropic total variation, which punishes noise
    and ringing (after Rudin, Osher and Fatemi 1992; Mahendran and Vedaldi 2015, arXiv:1412.0035)."""
    return (pred[..., 1:, :] - pred[..., :-1, :]).abs().mean() + (pred[..., 1:] - pred[..., :-1]).abs().mean()


@_in_full_precision
def frequency(pred: Tensor, target: Tensor, kind: FrequencyLossKind = FrequencyLossKind.COMPLEX) -> Tensor:
    """The distance of the two spectra F (orthonormal rfft2, so that it does not grow with the picture).

    complex: mean of |Re F(made - true)| and |Im F(made - true)| (Cho et al. 2021, MIMO-UNet, arXiv:2108.05054).
    amplitude: mean ||F(made)| - |F(true)||, which lets detail be where it likes (Fuoli et al. 2021, arXiv:2106.00783).
    """
    made_spectrum, true_spectrum = (torch.fft.rfft2(x, norm="ortho") for x in (pred, target))
    if kind is FrequencyLossKind.AMPLITUDE:
        return (made_spectrum.abs() - true_spectrum.abs()).abs().mean()
    return torch.view_as_real(made_spectrum - true_spectrum).abs().mean()


@_in_full_precision
def shift_consistency(pred: Tensor, shift: tuple[int, int]) -> Tensor:
    """mean (first - second)^2 where the two of each pair show the same: pictures 2 n and 2 n + 1 were made from two
    views of one place, of which the second begins `shift` pixels, rows and columns, further down and to the right.

    A camera that moves by less than a small pixel sees its small pictures change, and detail that is guessed from them
    flickers; the truth, carried along, does not change. So this is the flicker of a still scene, and it is what
    `metrics.warping_error` measures on films.
    """
    (down, right), (height, width) = shift, pred.shape[-2:]
    rows, columns = (min(IGNORED_EDGE_PIXELS, (side - by - 1) // 2) for side, by in ((height, down), (width, right)))
    difference = pred[0::2, :, down:, right:] - pred[1::2, :, : height - down, : width - right]
    return difference[..., rows : height - down - rows, columns : width - right - columns].square().mean()


# ---- features: what a network trained on photographs sees in both pictures, layer by layer (features.py) ----


def perceptual(pred: Mapping[str, Tensor], target: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """sum over layers of weight * mean |phi(made) - phi(true)|, on features before their activation (ESRGAN)."""
    return torch.stack([weight * l1(pred[layer], target[layer]) for layer, weight in weights.items()]).sum()


def content(pred: Mapping[str, Tensor], target: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """sum over layers of weight * ||phi(made) - phi(true)||^2 / (C H W), the mean over the batch: the feature
    reconstruction loss of Johnson, Alahi and Fei-Fei 2016 (arXiv:1603.08155)."""
    return torch.stack([weight * _feature_mse(pred[layer], target[layer]) for layer, weight in weights.items()]).sum()


@_in_full_precision
def _feature_mse(pred: Tensor, target: Tensor) -> Tensor:
    _, channels, height, width = pred.shape
    return ((pred - target) ** 2).sum(dim=(1, 2, 3)).mean() / (channels * height * width)


# ---- the discriminator's verdict, on logits of any shape ----


@_in_full_precision
def discriminator_loss(real: Tensor, fake: Tensor, kind: AdversarialLossKind) -> Tensor:
    """What the discriminator pays, with r and f its logits for photographs and for made pictures.

    vanilla: (E softplus(-r) + E softplus(f)) / 2 (Goodfellow et al. 2014, arXiv:1406.2661).
    lsgan: (E (r - 1)^2 + E f^2) / 2 (Mao et al. 2017, arXiv:1611.04076).
    relativistic: vanilla of r - E f and f - E r (Jolicoeur-Martineau 2018, arXiv:1807.00734; ESRGAN).
    Halved everywhere, so that one who knows nothing pays log 2 = 0.693 (0.25 for lsgan at logits of 1/2).
    """
    if kind is AdversarialLossKind.LSGAN:
        return (((real - 1) ** 2).mean() + (fake**2).mean()) / 2
    if kind is AdversarialLossKind.RELATIVISTIC:
        real, fake = real - fake.mean(), fake - real.mean()
    return (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2


@_in_full_precision
def generator_loss(real: Tensor, fake: Tensor, kind: AdversarialLossKind) -> Tensor:
    """What the generator pays for not deceiving: r, f and sources as in `discriminator_loss`.

    vanilla: E softplus(-f), which does not fade where the discriminator is sure. lsgan: E (f - 1)^2.
    relativistic: (E softplus(r - E f) + E softplus(-(f - E r))) / 2, so that it also gains by making photographs look
    less certain.
    """
    if kind is AdversarialLossKind.LSGAN:
        return ((fake - 1) ** 2).mean()
    if kind is AdversarialLossKind.VANILLA:
        return F.softplus(-fake).mean()
    return (F.softplus(real - fake.mean()).mean() + F.softplus(real.mean() - fake).mean()) / 2


# ---- the whole ----


def total(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """sum of weights[name] * terms[name] over the terms at hand."""
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()
