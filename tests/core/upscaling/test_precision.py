import logging

import pytest
import torch
from nearest_upscaler import NearestUpscaler, random_frames, repeat_pixels, run_upscale
from steadyscale.core.clip import ClipError
from steadyscale.core.upscaling.precision import ModelRunner, dtype_candidates, dtype_error
from steadyscale.core.upscaling.settings import Precision
from steadyscale.models import SRVGGConfig, SRVGGNetCompact, Upscaler

CPU, GPU = torch.device("cpu"), torch.device("cuda")


class Overflowing(NearestUpscaler):
    """Correct in fp32, NaN in fp16, slightly off in bf16."""

    def forward(self, x):
        result = super().forward(x)
        return result * torch.nan if x.dtype == torch.float16 else result


def test_self_check_selects_the_first_safe_dtype(caplog):
    model = Overflowing()
    frames = (random_frames(1, height=6, width=6) * 255).round() / 255
    with caplog.at_level(logging.INFO, "steadyscale"):
        runner = ModelRunner(model, CPU, [torch.float16, torch.bfloat16, torch.float32])
        runner.select_dtype(frames)
        assert runner.dtype == torch.bfloat16
        result = runner(frames)
        assert result.dtype == torch.bfloat16, "half the bytes are copied from a GPU"
        torch.testing.assert_close(result.float(), repeat_pixels(frames), atol=1 / 255, rtol=0)
    assert "not finite" in caplog.text
    assert "runs in torch.bfloat16" in caplog.text
    assert model.gain.dtype == torch.float32


def test_a_dtype_that_fails_later_is_dropped_and_the_tile_computed_again():
    class Bright(NearestUpscaler):
        def forward(self, x):
            return super().forward(x * 60000 * 2) / 120000

    model, frames = Bright(), random_frames(1, height=6, width=6)
    frames[..., :3, :] *= 0.01
    runner = ModelRunner(model, CPU, [torch.float16, torch.float32])
    runner.select_dtype(frames[..., :3, :])
    assert runner.dtype == torch.float16
    torch.testing.assert_close(runner(frames), repeat_pixels(frames))
    assert runner.dtype == torch.float32


def test_a_result_that_is_not_finite_in_the_last_dtype_is_an_error():
    with pytest.raises(ClipError, match=r"float16 is not finite"):
        run_upscale(random_frames(1), Overflowing(), precision=Precision.FP16)
    assert torch.equal(run_upscale(random_frames(1), Overflowing()), repeat_pixels(random_frames(1)))


def test_dtype_errors():
    truth = random_frames(1)
    assert dtype_error(truth, truth) is None
    assert dtype_error(truth + 0.9 / 255, truth) is None
    assert "differs" in str(dtype_error(truth + 1.5 / 255, truth))
    assert "black" in str(dtype_error(torch.zeros_like(truth), truth))
    assert "finite" in str(dtype_error(truth / 0, truth))
    assert dtype_error(torch.zeros_like(truth), torch.zeros_like(truth)) is None


def test_dtype_candidates():
    assert dtype_candidates(Precision.AUTO, CPU) == (torch.float32,)
    assert dtype_candidates(Precision.AUTO, GPU) == (torch.float16, torch.bfloat16, torch.float32)
    assert dtype_candidates(Precision.BF16, GPU) == (torch.bfloat16,)


def test_an_overflow_that_clamping_would_hide_selects_another_dtype():
    """The last hidden layer is 160,000 times the image, which overflows in float16; the last layer reverts it."""
    network = SRVGGNetCompact(SRVGGConfig(features=4, convs=1, scale=1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for layer, value in ((1, 1.0), (3, 1.0)):
            network.body[layer].weight.fill_(value)
        network.body[0].weight[0, 0, 1, 1] = network.body[2].weight[0, 0, 1, 1] = 400
        network.body[4].weight[:, 0] = -1e-7  # Not zero: times infinity it would be NaN, which is detected.
        network.body[4].weight[:, 0, 1, 1] = -2e-6
    model = Upscaler(network, "overflowing", "compact")
    dark, bright = torch.full((1, 3, 8, 8), 0.2), torch.full((1, 3, 8, 8), 0.2)
    bright[..., 4, 4] = 0.8
    truth = model(bright)
    runner = ModelRunner(model, CPU, (torch.float16, torch.float32))
    assert runner(dark).dtype == torch.float16
    assert (runner(bright) - truth).abs().max() < 1e-5
