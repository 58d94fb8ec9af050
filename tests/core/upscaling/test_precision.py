import logging

import pytest
import torch
from repeated import Cancelling, Nearest, clip, nearest, run
from steadyscale.core.clip import ClipError
from steadyscale.core.upscaling.precision import Runner, borrowed, fault_of, formats, home_of, module_of
from steadyscale.core.upscaling.settings import Precision
from steadyscale.core.upscaling.upscale import upscale
from steadyscale.models import SRVGGConfig, SRVGGNetCompact, Upscaler

CPU, CARD = torch.device("cpu"), torch.device("cuda")


def test_half_weights_are_widened_on_the_cpu_and_back_when_the_stream_is_closed():
    model = Nearest().half()
    place = model.gain.data_ptr()
    stream = upscale(iter(clip(3).split(1)), model)
    assert model.gain.dtype == torch.float16  # nothing has run yet
    next(stream)
    assert model.gain.dtype == torch.float32
    assert not torch.is_inference_mode_enabled()
    stream.close()
    assert model.gain.dtype == torch.float16
    assert model.gain.data_ptr() == place


def test_each_cast_starts_from_the_lent_weights_and_counters_stay_whole_numbers():
    model = Nearest()
    model.gain.data.fill_(1 / 3)
    model.register_buffer("steps", torch.arange(3))
    model.register_buffer("mean", torch.full((2,), 0.1))
    with borrowed(model, CPU) as cast:
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
            return nearest(x, 3)

    model = Plain()
    with pytest.raises(ClipError, match="scale of 2"):
        run(clip(1), model)
    assert model.moves == []
    with borrowed(model, CARD):
        assert model.moves == ["cuda"]
    assert model.moves == ["cuda", "cpu"]


def test_trained_on_weights_still_train_after_a_stream():
    model = Nearest()
    run(clip(1), model)
    model(clip(1)).sum().backward()
    assert model.gain.grad is not None


class Overflowing(Nearest):
    """Right in fp32, not a number in fp16, slightly off in bf16."""

    def forward(self, x):
        result = super().forward(x)
        return result * torch.nan if x.dtype == torch.float16 else result


def test_the_self_check_takes_the_first_format_that_is_right(caplog):
    model = Overflowing()
    frames = (clip(1, height=6, width=6) * 255).round() / 255
    with borrowed(model, CPU) as cast, caplog.at_level(logging.INFO, "steadyscale"):
        runner = Runner(model, cast, CPU, [torch.float16, torch.bfloat16, torch.float32])
        runner.settle(frames)
        assert runner.dtype == torch.bfloat16
        result = runner(frames)
        assert result.dtype == torch.bfloat16, "half the bytes come back from a card"
        torch.testing.assert_close(result.float(), nearest(frames), atol=1 / 255, rtol=0)
    assert "not finite" in caplog.text
    assert "runs in torch.bfloat16" in caplog.text
    assert model.gain.dtype == torch.float32


def test_a_format_that_fails_later_is_left_and_the_tile_done_again():
    class Bright(Nearest):
        def forward(self, x):
            return super().forward(x * 60000 * 2) / 120000

    model, frames = Bright(), clip(1, height=6, width=6)
    frames[..., :3, :] *= 0.01
    with borrowed(model, CPU) as cast:
        runner = Runner(model, cast, CPU, [torch.float16, torch.float32])
        runner.settle(frames[..., :3, :])
        assert runner.dtype == torch.float16
        torch.testing.assert_close(runner(frames), nearest(frames))
        assert runner.dtype == torch.float32


def test_a_result_that_is_not_finite_in_the_last_format_is_an_error():
    with pytest.raises(ClipError, match=r"float16 is not finite"):
        run(clip(1), Overflowing(), precision=Precision.FP16)
    assert torch.equal(run(clip(1), Overflowing()), nearest(clip(1)))


def test_what_the_self_check_calls_a_fault():
    truth = clip(1)
    assert fault_of(truth, truth) is None
    assert fault_of(truth + 0.9 / 255, truth) is None
    assert "differs" in str(fault_of(truth + 1.5 / 255, truth))
    assert "black" in str(fault_of(torch.zeros_like(truth), truth))
    assert "finite" in str(fault_of(truth / 0, truth))
    assert fault_of(torch.zeros_like(truth), torch.zeros_like(truth)) is None


def test_formats_to_try():
    assert formats(Precision.AUTO, CPU) == (torch.float32,)
    assert formats(Precision.AUTO, CARD) == (torch.float16, torch.bfloat16, torch.float32)
    assert formats(Precision.BF16, CARD) == (torch.bfloat16,)


def test_modules_are_found_in_wrappers():
    model = Nearest()
    assert module_of(Cancelling(Cancelling(model, 1), 1)) is model
    assert module_of(nearest) is None
    assert home_of(nearest) == CPU


def test_the_last_loan_to_end_brings_the_weights_back_in_whatever_order_they_end():
    model, before = Nearest().train(), Nearest().gain.data.clone()
    place = model.gain.data_ptr()
    left_alone = upscale(iter(clip(3).split(1)), model, precision=Precision.FP16)
    next(left_alone)
    other = upscale(iter(clip(3).split(1)), model, precision=Precision.BF16)
    next(other)
    left_alone.close()
    assert (model.gain.dtype, model.training) == (torch.bfloat16, False)
    assert len(list(other)) == 2
    assert (model.gain.dtype, model.gain.data_ptr(), model.training) == (torch.float32, place, True)
    assert torch.equal(model.gain.data, before)


def test_stages_with_one_model_in_different_formats_take_turns():
    class Noting(Nearest):
        def forward(self, x):
            assert x.dtype == self.gain.dtype
            formats.append(x.dtype)
            return super().forward(x)

    model, formats, frames = Noting(), [], clip(3)
    inner = upscale(iter(frames.split(1)), model, precision=Precision.FP16)
    made = torch.cat(list(upscale(inner, model, precision=Precision.FP32)))
    assert (made - nearest(nearest(frames))).abs().max() < 1e-3
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
    with borrowed(model, CPU) as lent:
        runner = Runner(model, lent, CPU, (torch.float16, torch.float32))
        assert runner(dark).dtype == torch.float16
        assert (runner(bright) - truth).abs().max() < 1e-5
