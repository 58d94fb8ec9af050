"""Degradations: the same seed gives the same picture, nothing moves, and each part does what its name says."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from steadyscale.core.training.config.degradation import DegradationConfig, DegradationStage
from steadyscale.core.training.data import compression_artifacts
from steadyscale.core.training.data.degradations import degrade, filter_image, gaussian_kernel, sinc_kernel

NOTHING = DegradationStage(blur=0.0, noise=0.0, up=0.0, down=0.0, quality=(95.0, 95.0))


def blob(height: int, width: int, y: float, x: float, radius: float) -> torch.Tensor:
    """(3, height, width): a bright Gaussian spot on dark grey, its centre at (y, x) as shares of the sides."""
    rows, columns = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width
    away = ((rows[:, None] - y) * height) ** 2 + ((columns[None] - x) * width) ** 2
    return (0.2 + 0.7 * torch.exp(-away / (2 * radius**2))).expand(3, -1, -1).contiguous()


def centre(picture: torch.Tensor) -> tuple[float, float]:
    """Where the spot is, as shares of the sides."""
    light = (picture.mean(0) - 0.35).clamp_min(0)
    rows = (torch.arange(light.shape[0]) + 0.5) / light.shape[0]
    columns = (torch.arange(light.shape[1]) + 0.5) / light.shape[1]
    return float((light.sum(1) * rows).sum() / light.sum()), float((light.sum(0) * columns).sum() / light.sum())


def test_a_seed_decides_everything():
    picture, settings = blob(64, 64, 0.4, 0.6, 9), DegradationConfig(on=True, video=0.5)
    first, again, other = (degrade(picture, 32, 32, settings, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("seed", range(12))
def test_sizes_fit_values_are_eight_bit_and_nothing_moves(seed):
    picture = blob(96, 120, 0.4, 0.6, 14)
    mild = DegradationStage(noise=0.0, resize=(0.5, 1.5))  # noise moves the centre of mass
    result = degrade(picture, 33, 41, DegradationConfig(on=True, first=mild, second=mild), np.random.default_rng(seed))
    assert result.shape == (3, 33, 41)
    assert torch.equal((result * 255).round() / 255, result)
    assert centre(result) == pytest.approx(centre(picture), abs=0.012)  # half a small pixel
    assert result.amax() > 0.6  # the spot is still there


def test_without_any_damage_the_picture_is_only_reduced():
    picture = blob(64, 64, 0.4, 0.6, 9)
    calm = DegradationConfig(on=True, video=0.0, last_ring=0.0, first=NOTHING, second=NOTHING)
    result = degrade(picture, 32, 32, calm, np.random.default_rng(0))
    expected = F.interpolate(picture[None], size=(32, 32), mode="area")[0]
    assert (result - expected).abs().mean() < 0.01


def test_stages_do_harm():
    picture = blob(64, 64, 0.4, 0.6, 9)
    expected = F.interpolate(picture[None], size=(32, 32), mode="area")[0]
    errors = [
        (degrade(picture, 32, 32, DegradationConfig(on=True), np.random.default_rng(s)) - expected).abs().mean()
        for s in range(10)
    ]
    assert sum(errors) / 10 > 0.02


def test_gaussian_kernels_have_the_widths_and_the_angle_they_are_given():
    kernel = gaussian_kernel(10, 2.0, 1.0, math.pi / 2).double()  # the longer axis turned from x to y
    steps = torch.arange(-10, 11).double()
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert (kernel.sum(1) * steps**2).sum() == pytest.approx(4, abs=0.02)  # variance along y
    assert (kernel.sum(0) * steps**2).sum() == pytest.approx(1, abs=0.01)
    tilted = gaussian_kernel(10, 3.0, 1.0, math.pi / 4)
    assert tilted[12, 12] > 10 * tilted[12, 8]  # down and right together: y grows downwards, as x does to the right


def test_filtering_is_convolution_and_keeps_flat_pictures_flat():
    kernel = torch.zeros(3, 3)
    kernel[0, 2] = 1  # up and right of the centre: a convolution moves the picture that way
    picture = torch.rand(3, 6, 7)
    assert torch.equal(filter_image(picture, kernel)[:, :-1, 1:], picture[:, 1:, :-1])
    flat = torch.full((3, 9, 9), 0.3)
    assert torch.allclose(filter_image(flat, gaussian_kernel(4, 1.5, 1.5, 0.0)), flat, atol=1e-6)


def test_ring_kernel_passes_low_frequencies_and_ripples_at_edges():
    kernel = sinc_kernel(10, math.pi / 2)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    wave = torch.arange(64.0)
    slow, fast = (torch.sin(wave * f).expand(3, 64, 64) for f in (0.3, 2.8))
    inside = (..., slice(16, -16), slice(16, -16))
    assert filter_image(slow, kernel)[inside].std() / slow[inside].std() == pytest.approx(1, abs=0.1)
    assert filter_image(fast, kernel)[inside].std() / fast[inside].std() < 0.1
    step = (wave > 32).float().expand(3, 64, 64)
    assert filter_image(step, kernel)[inside].max() > 1.03


@pytest.mark.parametrize("grey", [0.0, 1.0])
def test_noise_has_the_strength_and_the_colour_it_is_given(grey):
    flat = torch.full((3, 64, 64), 0.5)
    for gaussian, expected in ((1.0, 20 / 255), (0.0, math.sqrt(0.5 / 255))):
        stage = DegradationStage(
            blur=0,
            up=0,
            down=0,
            gaussian=gaussian,
            gaussian_sigma=(20, 20),
            poisson=(1, 1),
            grey=grey,
            quality=(95, 95),
        )
        settings = DegradationConfig(on=True, video=0, last_ring=0, first=NOTHING, second=stage)
        noise = degrade(flat, 64, 64, settings, np.random.default_rng(3)) - 0.5
        # JPEG keeps brightness, and colour at half size: of noise in colours, it takes some away.
        assert noise[1].std() == pytest.approx(expected, rel=0.15 if grey else 0.4)
        assert ((noise[0] - noise[1]).std() < 0.2 * expected) == bool(grey)


def error_of(result: torch.Tensor, picture: torch.Tensor) -> float:
    assert result.shape == picture.shape
    return float((result - picture).abs().mean())


def test_jpeg_is_worse_at_lower_quality_and_keeps_the_colours():
    picture = (blob(33, 47, 0.4, 0.6, 8) * torch.tensor([1.0, 0.7, 0.4]).view(3, 1, 1)).clamp(0, 1)
    errors = [error_of(compression_artifacts.jpeg_round_trip(picture, quality), picture) for quality in (95, 50, 10)]
    assert errors[0] < 0.01 < errors[2]
    assert errors == sorted(errors)


@pytest.mark.parametrize("codec", compression_artifacts.available_codecs())
def test_video_is_worse_at_higher_crf_and_shows_the_last_frame(codec):
    picture = (blob(33, 47, 0.4, 0.6, 5) * torch.tensor([1.0, 0.7, 0.4]).view(3, 1, 1)).clamp(0, 1)
    good, bad = (
        compression_artifacts.video_round_trip(picture, codec, 10),
        compression_artifacts.video_round_trip(picture, codec, 45),
    )
    assert error_of(good, picture) < 0.012 < error_of(bad, picture) + 0.005
    assert error_of(good, picture) < error_of(bad, picture)
    assert torch.equal(good, compression_artifacts.video_round_trip(picture, codec, 10))
    # Any other frame of the pan would stand a pixel or two to the side.
    inside = (..., slice(4, -4), slice(4, -4))
    shifts = {s: error_of(good.roll((s, s), (1, 2))[inside], picture[inside]) for s in (-1, 0, 1)}
    assert min(shifts, key=shifts.__getitem__) == 0
    assert compression_artifacts.available_codecs()
