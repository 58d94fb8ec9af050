"""Degradations: reproducible, without a shift, and each with the effect that its settings say."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from steadyscale.core.training.config.degradation import DegradationConfig, DegradationStage
from steadyscale.core.training.data import compression_artifacts
from steadyscale.core.training.data.degradations import degrade, filter_image, gaussian_kernel, sinc_kernel

NOTHING = DegradationStage(blur_prob=0.0, noise_prob=0.0, up_prob=0.0, down_prob=0.0, jpeg_quality=(95.0, 95.0))


def blob(height: int, width: int, y: float, x: float, radius: float) -> torch.Tensor:
    """(3, height, width): a bright Gaussian spot on dark gray, its center at (y, x) as fractions of the sides."""
    rows, columns = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width
    squared_distance = ((rows[:, None] - y) * height) ** 2 + ((columns[None] - x) * width) ** 2
    return (0.2 + 0.7 * torch.exp(-squared_distance / (2 * radius**2))).expand(3, -1, -1).contiguous()


def center(image: torch.Tensor) -> tuple[float, float]:
    """Center of mass of the spot, as fractions of the sides."""
    light = (image.mean(0) - 0.35).clamp_min(0)
    rows = (torch.arange(light.shape[0]) + 0.5) / light.shape[0]
    columns = (torch.arange(light.shape[1]) + 0.5) / light.shape[1]
    return float((light.sum(1) * rows).sum() / light.sum()), float((light.sum(0) * columns).sum() / light.sum())


def test_a_seed_determines_the_result():
    image, settings = blob(64, 64, 0.4, 0.6, 9), DegradationConfig(enabled=True, video_prob=0.5)
    first, again, other = (degrade(image, 32, 32, settings, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("seed", range(12))
def test_results_have_the_size_are_8_bit_and_not_shifted(seed):
    image = blob(96, 120, 0.4, 0.6, 14)
    mild = DegradationStage(noise_prob=0.0, resize_range=(0.5, 1.5))  # noise moves the centre of mass
    result = degrade(
        image, 33, 41, DegradationConfig(enabled=True, first=mild, second=mild), np.random.default_rng(seed)
    )
    assert result.shape == (3, 33, 41)
    assert torch.equal((result * 255).round() / 255, result)
    assert center(result) == pytest.approx(center(image), abs=0.012)  # half a small pixel
    assert result.amax() > 0.6  # the spot is still there


def test_without_degradations_the_image_is_only_reduced():
    image = blob(64, 64, 0.4, 0.6, 9)
    plain = DegradationConfig(enabled=True, video_prob=0.0, final_sinc_prob=0.0, first=NOTHING, second=NOTHING)
    result = degrade(image, 32, 32, plain, np.random.default_rng(0))
    expected = F.interpolate(image[None], size=(32, 32), mode="area")[0]
    assert (result - expected).abs().mean() < 0.01


def test_default_stages_degrade_the_image():
    image = blob(64, 64, 0.4, 0.6, 9)
    expected = F.interpolate(image[None], size=(32, 32), mode="area")[0]
    errors = [
        (degrade(image, 32, 32, DegradationConfig(enabled=True), np.random.default_rng(s)) - expected).abs().mean()
        for s in range(10)
    ]
    assert sum(errors) / 10 > 0.02


def test_gaussian_kernels_have_the_given_widths_and_angle():
    kernel = gaussian_kernel(10, 2.0, 1.0, math.pi / 2).double()  # the longer axis turned from x to y
    steps = torch.arange(-10, 11).double()
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert (kernel.sum(1) * steps**2).sum() == pytest.approx(4, abs=0.02)  # variance along y
    assert (kernel.sum(0) * steps**2).sum() == pytest.approx(1, abs=0.01)
    tilted = gaussian_kernel(10, 3.0, 1.0, math.pi / 4)
    assert tilted[12, 12] > 10 * tilted[12, 8]  # down and right together: y grows downwards, as x does to the right


def test_filtering_is_convolution_and_preserves_constant_images():
    kernel = torch.zeros(3, 3)
    kernel[0, 2] = 1  # up and right of the centre: a convolution moves the image that way
    image = torch.rand(3, 6, 7)
    assert torch.equal(filter_image(image, kernel)[:, :-1, 1:], image[:, 1:, :-1])
    flat = torch.full((3, 9, 9), 0.3)
    assert torch.allclose(filter_image(flat, gaussian_kernel(4, 1.5, 1.5, 0.0)), flat, atol=1e-6)


def test_sinc_kernel_passes_low_frequencies_and_rings_at_edges():
    kernel = sinc_kernel(10, math.pi / 2)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    wave = torch.arange(64.0)
    slow, fast = (torch.sin(wave * f).expand(3, 64, 64) for f in (0.3, 2.8))
    inside = (..., slice(16, -16), slice(16, -16))
    assert filter_image(slow, kernel)[inside].std() / slow[inside].std() == pytest.approx(1, abs=0.1)
    assert filter_image(fast, kernel)[inside].std() / fast[inside].std() < 0.1
    step = (wave > 32).float().expand(3, 64, 64)
    assert filter_image(step, kernel)[inside].max() > 1.03


@pytest.mark.parametrize("gray", [0.0, 1.0])
def test_noise_has_the_given_strength_and_color(gray):
    flat = torch.full((3, 64, 64), 0.5)
    for gaussian, expected in ((1.0, 20 / 255), (0.0, math.sqrt(0.5 / 255))):
        stage = DegradationStage(
            blur_prob=0,
            up_prob=0,
            down_prob=0,
            gaussian_noise_prob=gaussian,
            gaussian_sigma=(20, 20),
            poisson_scale_range=(1, 1),
            gray_noise_prob=gray,
            jpeg_quality=(95, 95),
        )
        settings = DegradationConfig(enabled=True, video_prob=0, final_sinc_prob=0, first=NOTHING, second=stage)
        noise = degrade(flat, 64, 64, settings, np.random.default_rng(3)) - 0.5
        # JPEG subsamples chroma, which removes a part of color noise.
        assert noise[1].std() == pytest.approx(expected, rel=0.15 if gray else 0.4)
        assert ((noise[0] - noise[1]).std() < 0.2 * expected) == bool(gray)


def error_of(result: torch.Tensor, image: torch.Tensor) -> float:
    assert result.shape == image.shape
    return float((result - image).abs().mean())


def test_jpeg_is_worse_at_lower_quality_and_keeps_colors():
    image = (blob(33, 47, 0.4, 0.6, 8) * torch.tensor([1.0, 0.7, 0.4]).view(3, 1, 1)).clamp(0, 1)
    errors = [error_of(compression_artifacts.jpeg_round_trip(image, quality), image) for quality in (95, 50, 10)]
    assert errors[0] < 0.01 < errors[2]
    assert errors == sorted(errors)


@pytest.mark.parametrize("codec", compression_artifacts.available_codecs())
def test_video_is_worse_at_higher_crf_and_returns_the_last_frame(codec):
    image = (blob(33, 47, 0.4, 0.6, 5) * torch.tensor([1.0, 0.7, 0.4]).view(3, 1, 1)).clamp(0, 1)
    good, bad = (
        compression_artifacts.video_round_trip(image, codec, 10),
        compression_artifacts.video_round_trip(image, codec, 45),
    )
    assert error_of(good, image) < 0.005
    assert error_of(bad, image) > 1.5 * error_of(good, image)
    assert torch.equal(good, compression_artifacts.video_round_trip(image, codec, 10))
    # Any other frame of the pan would be shifted by a pixel or two.
    inside = (..., slice(4, -4), slice(4, -4))
    shifts = {s: error_of(good.roll((s, s), (1, 2))[inside], image[inside]) for s in (-1, 0, 1)}
    assert min(shifts, key=shifts.__getitem__) == 0
    assert compression_artifacts.available_codecs()


@pytest.mark.parametrize("codec", compression_artifacts.available_codecs())
def test_codecs_keep_the_brightness(codec):
    """A network would learn to correct a bias: conversions without accurate rounding darken by a level."""
    for level in (90, 240):
        flat = torch.full((3, 32, 32), level / 255)
        assert (compression_artifacts.video_round_trip(flat, codec, 18) - flat).mean().abs() < 0.2 / 255
    noise = 0.25 + 0.5 * torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(3))
    change = (compression_artifacts.video_round_trip(noise, codec, 18) - noise).mean((1, 2)).abs() * 255
    assert change.max() < 0.6
