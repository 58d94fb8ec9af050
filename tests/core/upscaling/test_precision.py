import logging

import pytest
import torch
from nearest_upscaler import CancellingModel, NearestUpscaler, random_frames, repeat_pixels, run_upscale
from steadyscale.core.clip import ClipError
from steadyscale.core.upscaling.precision import (
    ModelRunner,
    dtype_candidates,
    dtype_error,
    find_module,
    model_device,
    on_device,
)
from steadyscale.core.upscaling.settings import Precision, UpscaleSettings
from steadyscale.core.upscaling.upscale import upscale
from steadyscale.models import SRVGGConfig, SRVGGNetCompact, Upscaler

CPU, CARD = torch.device("cpu"), torch.device("cuda")


def test_half_weights_are_widened_on_the_cpu_and_back_when_the_stream_is_closed():
    model = NearestUpscaler().half()
    place = model.gain.data_ptr()
    stream = upscale(iter(random_frames(3).split(1)), model)
    assert model.gain.dtype == torch.float16  # nothing has run yet
    next(stream)
    assert model.gain.dtype == torch.float32
    assert not torch.is_inference_mode_enabled()
    stream.close()
    assert model.gain.dtype == torch.float16
    assert model.gain.data_ptr() == place


def test_each_cast_starts_from_the_lent_weights_and_counters_stay_whole_numbers():
    model = NearestUpscaler()
    model.gain.data.fill_(1 / 3)
    model.register_buffer("steps", torch.arange(3))
    model.register_buffer("mean", torch.full((2,), 0.1))
    with on_device(model, CPU) as cast:
        cast(torch.bfloat16)
        assert (model.gain.dtype, model.steps.dtype, model.mean.dtype) == (torch.bfloat16, torch.int64, torch.bfloat16)
        cast(torch.float32)
        assert model.gain.item() == torch.tensor(1 / 3).item()
        cast(torch.float16)
    assert model.gain.item() == torch.tensor(1 / 3).item()
    assert (model.gain.dtype, model.mean.dtype) == (torch.float32, torch.float32)
    assert model.steps.tolist() == [0, 1, 2]


def test_a_model_without_a_module_is_moved_by_its_own_means():
    class Plain:
        scale, halo, device = 2, 0, CPU

        def __init__(self):
            self.moves = []

        def to(self, device):
            self.moves.append(str(device))

        def __call__(self, x):
            return repeat_pixels(x, 3)

    model = Plain()
    with pytest.raises(ClipError, match="scale of 2"):
        run_upscale(random_frames(1), model)
    assert model.moves == []
    with on_device(model, CARD):
        assert model.moves == ["cuda"]
    assert model.moves == ["cuda", "cpu"]


def test_trained_on_weights_still_train_after_a_stream():
    model = NearestUpscaler()
    run_upscale(random_frames(1), model)
    model(random_frames(1)).sum().backward()
    assert model.gain.grad is not None


class Overflowing(NearestUpscaler):
    """Right in fp32, not a number in fp16, slightly off in bf16."""

    def forward(self, x):
        result = super().forward(x)
        return result * torch.nan if x.dtype == torch.float16 else result


def test_the_self_check_takes_the_first_format_that_is_right(caplog):
    model = Overflowing()
    frames = (random_frames(1, height=6, width=6) * 255).round() / 255
    with on_device(model, CPU) as cast, caplog.at_level(logging.INFO, "steadyscale"):
        runner = ModelRunner(model, cast, CPU, [torch.float16, torch.bfloat16, torch.float32])
        runner.select_dtype(frames)
        assert runner.dtype == torch.bfloat16
        result = runner(frames)
        assert result.dtype == torch.bfloat16, "half the bytes come back from a card"
        torch.testing.assert_close(result.float(), repeat_pixels(frames), atol=1 / 255, rtol=0)
    assert "not finite" in caplog.text
    assert "runs in torch.bfloat16" in caplog.text
    assert model.gain.dtype == torch.float32


def test_a_format_that_fails_later_is_left_and_the_tile_done_again():
    class Bright(NearestUpscaler):
        def forward(self, x):
            return super().forward(x * 60000 * 2) / 120000

    model, frames = Bright(), random_frames(1, height=6, width=6)
    frames[..., :3, :] *= 0.01
    with on_device(model, CPU) as cast:
        runner = ModelRunner(model, cast, CPU, [torch.float16, torch.float32])
        runner.select_dtype(frames[..., :3, :])
        assert runner.dtype == torch.float16
        torch.testing.assert_close(runner(frames), repeat_pixels(frames))
        assert runner.dtype == torch.float32


def test_a_result_that_is_not_finite_in_the_last_format_is_an_error():
    with pytest.raises(ClipError, match=r"float16 is not finite"):
        run_upscale(random_frames(1), Overflowing(), precision=Precision.FP16)
    assert torch.equal(run_upscale(random_frames(1), Overflowing()), repeat_pixels(random_frames(1)))


def test_what_the_self_check_calls_a_fault():
    truth = random_frames(1)
    assert dtype_error(truth, truth) is None
    assert dtype_error(truth + 0.9 / 255, truth) is None
    assert "differs" in str(dtype_error(truth + 1.5 / 255, truth))
    assert "black" in str(dtype_error(torch.zeros_like(truth), truth))
    assert "finite" in str(dtype_error(truth / 0, truth))
    assert dtype_error(torch.zeros_like(truth), torch.zeros_like(truth)) is None


def test_formats_to_try():
    assert dtype_candidates(Precision.AUTO, CPU) == (torch.float32,)
    assert dtype_candidates(Precision.AUTO, CARD) == (torch.float16, torch.bfloat16, torch.float32)
    assert dtype_candidates(Precision.BF16, CARD) == (torch.bfloat16,)


def test_modules_are_found_in_wrappers():
    model = NearestUpscaler()
    assert find_module(CancellingModel(CancellingModel(model, 1), 1)) is model
    assert find_module(repeat_pixels) is None
    assert model_device(repeat_pixels) == CPU


def test_the_last_loan_to_end_brings_the_weights_back_in_whatever_order_they_end():
    model, before = NearestUpscaler().train(), NearestUpscaler().gain.data.clone()
    place = model.gain.data_ptr()
    left_alone = upscale(iter(random_frames(3).split(1)), model, UpscaleSettings(precision=Precision.FP16))
    next(left_alone)
    other = upscale(iter(random_frames(3).split(1)), model, UpscaleSettings(precision=Precision.BF16))
    next(other)
    left_alone.close()
    assert (model.gain.dtype, model.training) == (torch.bfloat16, False)
    assert len(list(other)) == 2
    assert (model.gain.dtype, model.gain.data_ptr(), model.training) == (torch.float32, place, True)
    assert torch.equal(model.gain.data, before)


def test_stages_with_one_model_in_different_formats_take_turns():
    class Noting(NearestUpscaler):
        def forward(self, x):
            assert x.dtype == self.gain.dtype
            formats.append(x.dtype)
            return super().forward(x)

    model, formats, frames = Noting(), [], random_frames(3)
    inner = upscale(iter(frames.split(1)), model, UpscaleSettings(precision=Precision.FP16))
    made = torch.cat(list(upscale(inner, model, UpscaleSettings(precision=Precision.FP32))))
    assert (made - repeat_pixels(repeat_pixels(frames))).abs().max() < 1e-3
    assert set(formats) == {torch.float16, torch.float32}
    assert model.gain.dtype == torch.float32


def test_an_overflow_that_clamping_would_hide_is_left_for_another_format():
    """A last hidden layer of 160,000 times the picture, which float16 has no room for, taken back by the last one."""
    network = SRVGGNetCompact(SRVGGConfig(features=4, convs=1, scale=1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for layer, value in ((1, 1.0), (3, 1.0)):
            network.body[layer].weight.fill_(value)
        network.body[0].weight[0, 0, 1, 1] = network.body[2].weight[0, 0, 1, 1] = 400
        network.body[4].weight[:, 0] = -1e-7  # Nowhere zero, which times infinity is no number, and would be seen.
        network.body[4].weight[:, 0, 1, 1] = -2e-6
    model = Upscaler(network, "overflowing", "compact")
    dark, bright = torch.full((1, 3, 8, 8), 0.2), torch.full((1, 3, 8, 8), 0.2)
    bright[..., 4, 4] = 0.8
    truth = model(bright)
    with on_device(model, CPU) as lent:
        runner = ModelRunner(model, lent, CPU, (torch.float16, torch.float32))
        assert runner(dark).dtype == torch.float16
        assert (runner(bright) - truth).abs().max() < 1e-5
