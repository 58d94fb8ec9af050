"""MS-SSIM against torchmetrics, wavelet subbands against PyWavelets' definition, and where artifacts are penalized."""

import pytest
import torch
from steadyscale.core.training.losses import structure
from torch.autograd import gradcheck


def images(side: int, dtype=torch.float32):
    generator = torch.Generator().manual_seed(side)
    target = torch.rand(2, 3, side, side, generator=generator, dtype=dtype)
    return (target + 0.3 * torch.rand(target.shape, generator=generator, dtype=dtype)).clamp(0, 1), target


def test_ms_ssim_agrees_with_torchmetrics():
    metric = pytest.importorskip("torchmetrics.functional.image").multiscale_structural_similarity_index_measure
    pred, target = images(192)
    expected = 1 - metric(pred, target, data_range=1.0, kernel_size=11, sigma=1.5)
    # torchmetrics mirrors the edges, which are left out here.
    assert structure.ms_ssim(pred, target) == pytest.approx(float(expected), rel=0.05)
    assert structure.ms_ssim(target, target) == pytest.approx(0, abs=1e-6)
    assert structure.ms_ssim(1 - target, target) > 0.9


def test_ms_ssim_of_small_crops_uses_the_scales_that_fit():
    pred, target = images(11)
    luminance, contrast = structure._ssim_parts(pred, target)
    assert luminance.shape == (2, 3, 1, 1)
    assert structure.ms_ssim(pred, target) == pytest.approx(float(1 - (luminance * contrast).mean()), abs=1e-5)
    # The brightness counts at the coarsest scale alone.
    pred, target = images(44)
    assert structure.ms_ssim(target * 0.5 + 0.25, target) > structure.ms_ssim(target, target) + 0.01


def test_wavelet_subbands_of_edges():
    flat = torch.zeros(1, 1, 16, 16)
    assert structure.wavelet(flat + 0.3, flat) == 0  # a constant has no detail
    across = flat.clone()
    across[..., 8:] = 1  # one edge: 1 in one of 15 columns of one of three bands
    first = (1 / 15) / 3
    # The low band goes from 0 to 1/2 to 1, two pixels apart: 1/2, 1 and 1/2 in three of 13 columns.
    second = ((0.5 + 1 + 0.5) / 13) / 3
    assert structure.wavelet(across, flat) == pytest.approx((first + second) / 2, rel=1e-5)
    assert structure.wavelet(across.transpose(2, 3), flat) == pytest.approx((first + second) / 2, rel=1e-5)
    rolled = across.roll(1, 3)
    rolled[..., 0] = 0
    assert structure.wavelet(rolled, flat) == pytest.approx((first + second) / 2, rel=1e-5)


def test_color_is_the_tint_of_squares_and_not_their_detail():
    target = torch.full((1, 3, 32, 48), 0.5)
    tinted = target.clone()
    tinted[:, 2, :16, 16:32] += 0.3  # one of six squares of one of three channels
    assert structure.color(tinted, target) == pytest.approx(0.3 / 18, rel=1e-5)
    detail = target + 0.2 * (-1.0) ** torch.arange(48)
    assert structure.color(detail, target) < 1e-6
    assert structure.color(target[..., :9, :9] + 0.1, target[..., :9, :9]) == pytest.approx(0.1, rel=1e-5)


def test_only_artifacts_that_the_averaged_network_does_not_have_cost():
    target = torch.full((1, 3, 32, 32), 0.5)
    spots = target.clone()
    spots[..., 4:12:2, 4:12:2] += 0.3
    assert structure.artifacts(target, target, target) == 0
    assert structure.artifacts(spots, target, target) > 0
    assert structure.artifacts(spots + 0.01, spots + 0.02, target) < 1e-6  # the average is worse everywhere
    even = target + 0.3  # a constant error is no artifact
    assert structure.artifacts(even, target, target) < 1e-6
    pred = spots.clone().requires_grad_()
    structure.artifacts(pred, target, target).backward()
    assert pred.grad[..., 20:, 20:].abs().max() == 0
    assert pred.grad[..., 4, 4].abs().min() > 0


def test_gradients_and_half_precision():
    pred, target = images(14, torch.float64)
    pred.requires_grad_()
    small = (slice(0, 1), slice(0, 1))
    for loss in (structure.ms_ssim, structure.wavelet, structure.color):
        assert gradcheck(lambda x, loss=loss: loss(x, target[small]), pred[small])
    half = [x.detach().half() for x in images(14)]
    for value in (
        structure.ms_ssim(*half),
        structure.wavelet(*half),
        structure.color(*half),
        structure.artifacts(half[0], half[1], half[1]),
    ):
        assert value.dtype == torch.float32
        assert value.isfinite()
