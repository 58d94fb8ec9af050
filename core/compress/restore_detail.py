"""Restore the fine detail that fine-tuning loses.

A smaller network that cannot tell which of several results its teacher would give learns their mean, which is softer.
Its difference to bicubic interpolation is amplified until its detail has the energy of the teacher's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models import SRVGGNetCompact
from ..training.evaluate.metrics import bicubic
from .fidelity import detail
from .prune import capture_conv, fit_conv

MAX_GAIN = 1.25  # a network that would need more has learned too little, and more would amplify its errors


@torch.no_grad()
def restore_detail(network: SRVGGNetCompact, teacher: nn.Module, images: Sequence[Tensor]) -> float:
    """Amplify the difference of a network to bicubic interpolation, in place.

    images: low-resolution, (1, 3, h, w) in [0, 1]. Only the last convolution changes: it is the sum of one that
    interpolates, fitted by least squares, and of the rest, which is multiplied by the gain. Returns the gain, from 1
    for nothing to MAX_GAIN.
    """
    gain = _find_gain(network, teacher, images)
    if gain == 1:
        return gain
    conv, scale = network.body[-1], network.scale
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    smooth = bicubic(scale)

    def missing_from_nearest(image: Tensor) -> Tensor:
        return F.pixel_unshuffle(smooth(image) - F.interpolate(image, scale_factor=scale, mode="nearest"), scale)

    fitted = fit_conv((capture_conv(network, conv, image)[0], missing_from_nearest(image)) for image in images)
    weight, bias = fitted[:, :-1].reshape_as(conv.weight).to(conv.weight), fitted[:, -1].to(conv.bias)
    conv.weight.copy_(weight + gain * (conv.weight - weight))
    conv.bias.copy_(bias + gain * (conv.bias - bias))
    return gain


def _find_gain(network: SRVGGNetCompact, teacher: nn.Module, images: Sequence[Tensor]) -> float:
    """Solve |s + gain d|^2 = |t|^2, where s is the detail of bicubic interpolation.

    s + d is that of the network, t that of the teacher.
    """
    if network.scale == 1:
        return 1.0
    smooth = bicubic(network.scale)
    a, b, c = 0.0, 0.0, 0.0
    for image in images:
        # `detail` needs images within [0, 1], so the difference is taken after it.
        s, with_d, target = (detail(f(image).clamp(0, 1), network.scale) for f in (smooth, network, teacher))
        d = with_d - s
        a, b, c = a + float((d * d).sum()), b + 2 * float((s * d).sum()), c + float((s * s - target * target).sum())
    discriminant = b * b - 4 * a * c
    if a <= 0 or not discriminant >= 0:
        return 1.0
    return min(max((math.sqrt(discriminant) - b) / (2 * a), 1.0), MAX_GAIN)
