import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from steadyscale.core.upscaling.postprocess import MAX_GRAIN_STD, add_film_grain, correct_color, low_pass, postprocess
from steadyscale.core.upscaling.resize import resize
from steadyscale.core.upscaling.settings import ColorCorrection, OutputSize, PostProcess, UpscaleSettings
from steadyscale.core.upscaling.upscale import upscale
from torch import nn


def nearest(x, scale=2):
    return x.repeat_interleave(scale, -2).repeat_interleave(scale, -1)


class Tinted(nn.Module):
    """Upscales by repeating pixels and shifts colors, as a badly trained network does."""

    scale, halo = 2, 0

    def __init__(self, shift=(0.1, -0.05, 0.02)):
        super().__init__()
        self.shift = torch.tensor(shift).reshape(1, 3, 1, 1)

    def forward(self, x):
        return nearest(x) + self.shift


def soft(frames=2, channels=3, height=40, width=60, seed=0):
    """Smooth frames in [0.2, 0.8], so that nothing is clamped."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(frames, channels, 5, 6, generator=generator)
    return (resize(small, width, height) * 0.6 + 0.2).contiguous()


def run(frames, post=PostProcess(), model=None, **more):  # noqa: B008
    return torch.cat(list(upscale(iter(frames.split(1)), model or Tinted(), UpscaleSettings(postprocess=post, **more))))


def test_the_defaults_change_nothing():
    frames = soft()
    assert PostProcess().is_identity
    assert torch.equal(run(frames), Tinted()(frames))
    assert torch.equal(run(frames, size=OutputSize(factor=1.5)), resize(Tinted()(frames).clamp(0, 1), 90, 60))


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("target", [OutputSize(), OutputSize(size=(100, 77))])
def test_strength_goes_from_a_plain_resize_to_the_network(channels, target):
    frames = soft(channels=channels)
    size = target.resolve(60, 40, 2)
    full, none = run(frames, size=target), run(frames, PostProcess(strength=0.0), size=target)
    assert torch.equal(none, resize(frames, *size))
    assert float((full - none)[:, :3].abs().max()) > 0.05
    half = run(frames, PostProcess(strength=0.25), size=target)
    torch.testing.assert_close(half, none * 0.75 + full * 0.25, atol=1e-6, rtol=0)


def test_mean_restores_the_mean_and_keeps_the_rest():
    frames = soft()
    result = run(frames, PostProcess(color_correction=ColorCorrection.MEAN))
    plain = resize(frames, 120, 80)
    torch.testing.assert_close(result.mean((-2, -1)), plain.mean((-2, -1)), atol=1e-5, rtol=0)
    torch.testing.assert_close(result, nearest(frames), atol=2e-3, rtol=0)


def test_wavelet_takes_low_frequencies_from_the_source_and_detail_from_the_network():
    source = soft(1, height=160, width=200)
    x = torch.linspace(-0.1, 0.1, 200)
    detail = torch.zeros_like(source)
    detail[..., ::2, ::2], detail[..., 1::2, 1::2] = 0.05, -0.05
    shifted = source + x  # a slow shift across the frame, which a mean cannot undo
    result = correct_color(shifted + detail, source, ColorCorrection.WAVELET)
    inner = (..., slice(40, -40), slice(40, -40))
    torch.testing.assert_close(result[inner], (source + detail)[inner], atol=2e-3, rtol=0)
    by_mean = correct_color(shifted + detail, source, ColorCorrection.MEAN)
    assert float((by_mean - source - detail)[inner].abs().max()) > 0.04


@settings(deadline=None)
@given(st.integers(1, 70), st.integers(1, 70))
def test_low_pass_keeps_flat_frames_of_any_size(height, width):
    flat = torch.full((1, 3, height, width), 0.3)
    torch.testing.assert_close(low_pass(flat), flat)


def test_grain_is_strongest_in_mid_gray_and_equal_in_all_channels():
    for level, expected in ((0.5, MAX_GRAIN_STD * 0.5), (0.1, MAX_GRAIN_STD * 0.5 * 0.36), (0.0, 0.0), (1.0, 0.0)):
        noise = add_film_grain(torch.full((1, 3, 200, 300), level), 0.5, 0) - level
        assert torch.allclose(noise[:, 0], noise[:, 1], atol=1e-6)
        assert torch.allclose(noise[:, 0], noise[:, 2], atol=1e-6)
        assert float(noise.std()) == pytest.approx(expected, rel=0.03, abs=1e-6)
        assert abs(float(noise.mean())) < 1e-3


def test_grain_differs_between_frames_but_not_between_runs_or_chunkings():
    frames = soft(1).repeat(4, 1, 1, 1)  # the network runs once, the grain differs
    post = PostProcess(grain=0.3)
    result = run(frames, post)
    assert torch.equal(result, run(frames, post))
    assert torch.equal(result, torch.cat(list(upscale(iter([frames]), Tinted(), UpscaleSettings(postprocess=post)))))
    assert all(float((result[i] - result[i + 1]).abs().mean()) > 0.005 for i in range(3))
    plain = run(frames)
    torch.testing.assert_close(result.mean(0), plain.mean(0), atol=0.08, rtol=0)


def test_alpha_gets_no_grain_and_no_color_correction():
    frames = soft(channels=4)
    result = run(frames, PostProcess(grain=0.5, color_correction=ColorCorrection.WAVELET))
    assert torch.equal(result[:, 3:], resize(frames[:, 3:], 120, 80))


def test_results_of_a_gray_network_are_postprocessed_in_color():
    class Gray(nn.Module):
        scale, halo, in_channels = 2, 0, 1

        def forward(self, x):
            return nearest(x)

    frames = soft()
    noise = run(frames, PostProcess(grain=0.5), Gray()) - nearest(frames)
    assert float(noise.std()) > 0.01
    assert torch.allclose(noise[:, 0], noise[:, 2], atol=1e-6)


def test_linear_light_keeps_the_brightness_of_fine_detail():
    frames = torch.zeros(1, 3, 64, 64)
    frames[..., ::2] = 1.0  # stripes, half white: half the light, which is 0.735 in sRGB
    small = postprocess(frames, frames, (16, 16), PostProcess(linear_light=True), 0)
    torch.testing.assert_close(small[..., 4:-4, 4:-4], torch.full((1, 3, 8, 8), 0.7354), atol=2e-3, rtol=0)
    srgb = postprocess(frames, frames, (16, 16), PostProcess(), 0)
    torch.testing.assert_close(srgb[..., 4:-4, 4:-4], torch.full((1, 3, 8, 8), 0.5), atol=2e-3, rtol=0)
    white = postprocess(torch.ones(1, 3, 8, 8), frames, (5, 5), PostProcess(linear_light=True), 0)
    assert torch.equal(white, torch.ones(1, 3, 5, 5))
