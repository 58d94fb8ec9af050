import logging
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from nearest_upscaler import NearestUpscaler, random_frames, repeat_pixels, run_upscale
from steadyscale.core.clip import ClipError
from steadyscale.core.runtime.device.accelerator import accelerator_for
from steadyscale.core.upscaling.model.model_runner import ModelRunner
from steadyscale.core.upscaling.model.precision import MIN_DTYPE_SHARE, ComputeMode, check_dtype, compute_modes
from steadyscale.core.upscaling.settings import Precision
from steadyscale.models import SRVGGConfig, SRVGGNetCompact, Upscaler

CPU = torch.device("cpu")


class Overflowing(NearestUpscaler):
    """Correct in fp32, NaN in fp16, slightly off in bf16."""

    def forward(self, x):
        result = super().forward(x)
        return result * torch.nan if x.dtype == torch.float16 else result


def test_self_check_selects_the_first_safe_dtype(caplog):
    model = Overflowing()
    frames = (random_frames(1, height=6, width=6) * 255).round() / 255
    with caplog.at_level(logging.INFO, "steadyscale"):
        runner = ModelRunner(model, CPU, [ComputeMode.FP16, ComputeMode.BF16, ComputeMode.FP32])
        runner.select_mode(frames)
        assert runner.dtype == torch.bfloat16
        result = runner(frames)
        assert result.dtype == torch.bfloat16, "half the bytes are copied from a GPU"
        torch.testing.assert_close(result.float(), repeat_pixels(frames), atol=1 / 255, rtol=0)
    assert "not finite" in caplog.text
    assert "runs in bf16" in caplog.text
    assert model.gain.dtype == torch.float32


def test_a_dtype_that_fails_later_is_dropped_and_the_tile_computed_again():
    class Bright(NearestUpscaler):
        def forward(self, x):
            return super().forward(x * 60000 * 2) / 120000

    model, frames = Bright(), random_frames(1, height=6, width=6)
    frames[..., :3, :] *= 0.01
    runner = ModelRunner(model, CPU, [ComputeMode.FP16, ComputeMode.FP32])
    runner.select_mode(frames[..., :3, :])
    assert runner.dtype == torch.float16
    torch.testing.assert_close(runner(frames), repeat_pixels(frames))
    assert runner.dtype == torch.float32


def test_a_result_that_is_not_finite_in_the_last_dtype_is_an_error():
    with pytest.raises(ClipError, match=r"fp16 is not finite"):
        run_upscale(random_frames(1), Overflowing(), precision=Precision.FP16)
    assert torch.equal(run_upscale(random_frames(1), Overflowing()), repeat_pixels(random_frames(1)))


def test_a_mode_that_raises_is_dropped(caplog):
    class WithoutHalf(NearestUpscaler):
        def forward(self, x):
            if x.dtype == torch.float16:
                raise NotImplementedError("no kernel for Half")
            return super().forward(x)

    frames = random_frames(1)
    runner = ModelRunner(WithoutHalf(), CPU, [ComputeMode.FP16, ComputeMode.FP32])
    assert torch.equal(runner(frames), repeat_pixels(frames))
    runner = ModelRunner(WithoutHalf(), CPU, [ComputeMode.FP16, ComputeMode.FP32])
    runner.select_mode(frames)
    assert runner.mode is ComputeMode.FP32
    assert caplog.text.count("NotImplementedError: no kernel for Half") == 2
    with pytest.raises(NotImplementedError):
        ModelRunner(WithoutHalf(), CPU, [ComputeMode.FP16])(frames)


def test_the_check_accepts_few_values_that_are_off_and_reports_how_many():
    truth = random_frames(1, 3, 100, 100)
    check = check_dtype(truth, truth)
    assert (check.share, check.psnr, check.problem) == (1.0, float("inf"), "")
    assert not check_dtype((truth * 255).round() / 255, truth).problem, "rounding to 8 bits is allowed"
    # As measured for realesrgan-x4plus in float16: 0.1 % of the values are off by more than 1/255, at most by 3/255.
    drifted = truth + 0.3 / 255
    few = torch.arange(truth.numel()).reshape(truth.shape) % 1000 == 0
    drifted[few] = truth[few] + torch.where(truth[few] > 0.5, -3 / 255, 3 / 255)
    drifted = drifted.clamp(0, 1)
    check = check_dtype(drifted, truth)
    assert not check.problem
    assert MIN_DTYPE_SHARE < check.share < 0.9995
    assert "99.90 %" in str(check).replace("%", " %").replace("  ", " ")
    # As bfloat16 does: a percent of the values is off.
    drifted[torch.arange(truth.numel()).reshape(truth.shape) % 100 == 0] += 2 / 255
    assert "only" in check_dtype(drifted, truth).problem
    # Few values that are far off are visible, too.
    spots = truth.clone()
    spots[few] = 1 - spots[few]
    assert "only" in check_dtype(spots, truth).problem
    assert "black" in check_dtype(torch.zeros_like(truth), truth).problem
    assert "finite" in check_dtype(truth / 0, truth).problem
    assert not check_dtype(torch.zeros_like(truth), torch.zeros_like(truth)).problem


def test_a_check_is_made_once_for_each_network():
    calls: list[torch.dtype] = []

    class Counting(NearestUpscaler):
        def forward(self, x):
            calls.append(x.dtype)
            return super().forward(x)

    model, frames = Counting(), random_frames(1)
    with torch.no_grad():
        model.gain.fill_(0.75)  # No other test has these weights.
    modes = [ComputeMode.FP16, ComputeMode.FP32]
    ModelRunner(model, CPU, modes).select_mode(frames)
    assert calls == [torch.float32, torch.float16, torch.float16], "checked, then run in it"
    again = ModelRunner(model, CPU, modes)
    again.select_mode(frames)
    assert calls.count(torch.float32) == 1
    assert again.mode is ComputeMode.FP16
    assert again.check is not None
    with torch.no_grad():
        model.gain.fill_(0.5)
    ModelRunner(model, CPU, modes).select_mode(frames)
    assert calls.count(torch.float32) == 2, "other weights"


def test_compute_modes():
    cpu = accelerator_for(CPU)
    assert compute_modes(Precision.AUTO, cpu) == (ComputeMode.FP32,)
    assert compute_modes(Precision.BF16, cpu) == (ComputeMode.BF16,)
    gpu = SimpleNamespace(candidate_dtypes=(torch.float16,), has_tf32=True)
    assert compute_modes(Precision.AUTO, gpu) == (ComputeMode.FP16, ComputeMode.TF32, ComputeMode.FP32)
    assert compute_modes(Precision.AUTO, gpu, supports_half=False) == (ComputeMode.TF32, ComputeMode.FP32)
    assert compute_modes(Precision.AUTO, gpu, can_cast=False) == (ComputeMode.TF32, ComputeMode.FP32)
    assert compute_modes(Precision.FP32, gpu) == (ComputeMode.FP32,), "fp32 is not TF32"


def test_float32_runs_without_tf32():
    allowed: list[bool] = []

    class Device:
        def tf32(self, enabled):
            allowed.append(enabled)
            return nullcontext()

    for mode in ComputeMode:
        with mode.arithmetic(Device()):
            pass
    assert allowed == [True, False]


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
    runner = ModelRunner(model, CPU, (ComputeMode.FP16, ComputeMode.FP32))
    assert runner(dark).dtype == torch.float16
    assert (runner(bright) - truth).abs().max() < 1e-5
