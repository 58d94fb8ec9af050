"""The fastest way to run a network, on a simulated GPU: chosen by time, checked, and left where it fails."""

from __future__ import annotations

import logging

import pytest
import torch
from nearest_upscaler import random_frames
from steadyscale.core.runtime.device.accelerator import accelerator_for
from steadyscale.core.runtime.device.captured_graph import CapturedGraph
from steadyscale.core.upscaling.model import fastest_module
from steadyscale.core.upscaling.model.fastest_module import FastestModule, Way
from steadyscale.core.upscaling.settings import Engine, Precision, UpscaleSettings
from steadyscale.core.upscaling.upscale import upscale
from steadyscale.models import RRDBConfig, RRDBNet, Upscaler
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

DEVICE = "simgpu"


@pytest.fixture
def trials(monkeypatch):
    """Seconds that each measurement returns, by default ever fewer; what is left of them shows how many there were."""
    seconds = [1.0 / 2**n for n in range(20)]
    monkeypatch.setattr(fastest_module, "_known_ways", {})
    monkeypatch.setattr(fastest_module, "CALLS_BEFORE_TRIAL", 1)

    def measure(run, accelerator):
        run()
        return seconds.pop(0)

    monkeypatch.setattr(fastest_module, "measure_seconds", measure)
    return seconds


class Doubling(nn.Module):
    """A network that multiplies by 2, in three launches, and offers what the test wants."""

    scale = 1

    def __init__(self, **alternatives):
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, 3, 1, 1), 2.0), requires_grad=False)
        self.offered = alternatives

    def forward(self, x):
        return (x * self.weight + 1) - 1

    def alternatives(self, *, has_triton):
        return self.offered


def make_module(**alternatives) -> FastestModule:
    return FastestModule(Doubling(**alternatives).to(DEVICE), accelerator_for(torch.device(DEVICE)))


def images(count: int) -> list[torch.Tensor]:
    return [image.to(DEVICE) for image in random_frames(count, height=6, width=8).split(1)]


def call(module, image):
    with torch.inference_mode():
        return module(image)


def assert_doubled(results, inputs):
    for result, image in zip(results, inputs, strict=True):
        torch.testing.assert_close(result.cpu(), image.cpu() * 2)


def test_the_fastest_way_runs_after_the_trial(gpu, trials):
    calls = []

    def quick(x):
        calls.append(1)
        return x * 2

    module, inputs = make_module(quick=quick), images(5)
    trials[:] = [1.0, 2.0, 0.5, 0.6]  # torch, planar, quick, quick in a graph
    results = [call(module, image) for image in inputs]
    assert_doubled(results, inputs)
    assert trials == []
    assert module.way_for(inputs[0]) == Way("quick")
    before = len(calls)
    call(module, inputs[0])
    assert len(calls) == before + 1


def test_a_gain_within_the_error_of_measurement_is_none(gpu, trials):
    module, inputs = make_module(other=lambda x: x * 2), images(3)
    trials[:] = [1.0, 0.99, 0.98, 0.97]
    assert_doubled([call(module, image) for image in inputs], inputs)
    assert module.way_for(inputs[0]) == Way()


def test_a_graph_takes_one_launch_and_its_results_stay(gpu, trials):
    module, inputs = make_module(), images(6)
    results = [call(module, image) for image in inputs[:3]]
    assert module.way_for(inputs[0]) == Way("planar", is_captured=True)
    start = gpu.read_counters()
    results += [call(module, image) for image in inputs[3:]]
    used = gpu.read_counters() - start
    assert used.launches == 3 * 3, "copy in, replay, copy out"
    assert used.synchronizations == 0
    assert_doubled(results, inputs)


def test_the_result_of_a_trial_serves_other_streams(gpu, trials):
    inputs = images(3)
    for image in inputs:
        call(make_module(), image)  # Each is called once: no trial.
    assert len(trials) == 20
    first = make_module()
    for image in inputs:
        call(first, image)
    left = len(trials)
    assert left < 20
    second = make_module()
    assert_doubled([call(second, image) for image in inputs], inputs)
    assert len(trials) == left, "nothing is measured again"
    assert second.way_for(inputs[0]) == first.way_for(inputs[0]) == Way("planar", is_captured=True)


def fail(x):
    raise NotImplementedError("no such kernel\nwith details")


@pytest.mark.parametrize(("wrong", "problem"), [(lambda x: x * 2.1, "differs from torch"), (fail, "no such kernel")])
def test_a_way_that_is_wrong_is_not_used(gpu, trials, caplog, wrong, problem):
    module, inputs = make_module(wrong=wrong), images(4)
    with caplog.at_level(logging.WARNING):
        assert_doubled([call(module, image) for image in inputs], inputs)
    assert module.way_for(inputs[0]).name != "wrong"
    assert caplog.text.count(problem) == len(caplog.records) == 1
    assert "with details" not in caplog.text


def test_what_cannot_be_captured_runs_without_a_graph(gpu, trials, caplog):
    def wait(x):
        return x * 2 * float(x[0, 0, 0, 0] * 0 + 1)

    module, inputs = make_module(wait=wait), images(3)
    trials[:] = [1.0, 1.0, 0.5, 0.1]
    with caplog.at_level(logging.WARNING):
        assert_doubled([call(module, image) for image in inputs], inputs)
    assert module.way_for(inputs[0]) == Way("wait")
    assert caplog.text.count("capturing") == len(caplog.records) == 1


def test_a_graph_of_what_python_computed_is_refused(gpu, trials, caplog):
    """It would repeat the number that was right at the capture."""
    last = []

    def remember(x):
        if _get_current_dispatch_mode() is None:
            last[:] = [2.0]
        else:
            last[:] = [3.0]
        return x * last[0]

    module, inputs = make_module(remember=remember), images(3)
    trials[:] = [1.0, 1.0, 0.5, 0.1]
    with caplog.at_level(logging.WARNING):
        assert_doubled([call(module, image) for image in inputs], inputs)
    assert module.way_for(inputs[0]) == Way("remember")
    assert "remember in a graph: it differs" in caplog.text


def test_a_way_that_fails_later_is_left(gpu, trials, caplog):
    calls = []

    def tired(x):
        calls.append(1)
        if len(calls) > 4:
            raise RuntimeError("too old")
        return x * 2

    module, inputs = make_module(tired=tired), images(8)
    trials[:] = [1.0, 1.0, 0.5, 0.6]
    with caplog.at_level(logging.WARNING):
        assert_doubled([call(module, image) for image in inputs], inputs)
    assert caplog.text.count("too old") == len(caplog.records) == 1
    assert len(calls) == 5, "it is not asked again"


def test_running_out_of_memory_at_any_allocation_loses_nothing(gpu, trials):
    inputs = images(4)

    def run():
        fastest_module._known_ways.clear()
        trials[:] = [1.0 / 2**n for n in range(4)]
        module = make_module(twice=lambda x: x * 2)
        start = gpu.read_counters()
        return start, lambda: [call(module, image) for image in inputs]

    start, work = run()
    work()
    allocations = (gpu.read_counters() - start).allocations
    assert allocations > 30
    del work
    memory = gpu.read_memory()[0]
    for index in range(allocations):
        _, work = run()
        gpu.fail_allocation(index)
        try:
            results = work()
        except torch.OutOfMemoryError:  # In torch itself, for which tiles shrink.
            results = work()
        assert_doubled(results, inputs)
        del results, work
    assert gpu.read_memory()[0] == memory


def test_a_graph_needs_memory_to_spare(gpu, trials):
    """It keeps the memory of a call."""
    inputs = images(3)
    module = make_module()
    gpu.set_memory_limit(gpu.read_memory()[0] + 12 * 512)
    assert_doubled([call(module, image) for image in inputs], inputs)
    assert module.way_for(inputs[0]) == Way("planar")


def test_a_graph_refuses_another_shape(gpu):
    graph = CapturedGraph(accelerator_for(torch.device(DEVICE)), lambda x: x * 2, torch.rand(1, 3, 4, 4).to(DEVICE))
    with pytest.raises(ValueError, match=r"captured for torch.float32 \(1, 3, 4, 4\), and got .*\(2, 3, 4, 4\)"):
        graph(torch.rand(2, 3, 4, 4).to(DEVICE))


def rrdb() -> Upscaler:
    torch.manual_seed(1)
    network = RRDBNet(RRDBConfig(features=8, blocks=1, growth=4, scale=1))
    return Upscaler(network, "small", "rrdb")


@pytest.mark.parametrize("engine", [Engine.AUTO, Engine.TORCH])
def test_streams_take_the_fastest_way(gpu, trials, engine):
    frames, model = random_frames(5, height=20, width=24).split(1), rrdb()
    settings = UpscaleSettings(precision=Precision.FP32, engine=engine)
    results = list(upscale(iter(frames), model, settings, device=DEVICE))
    for result, expected in zip(results, upscale(iter(frames), model), strict=True):
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)
    assert (len(trials) < 20) == (engine is Engine.AUTO), "the engine torch is plain torch"


def test_contiguous_planes_need_no_concatenation(gpu, trials):
    """Budget of the bytes that dense blocks move outside of their convolutions."""
    module, image = rrdb().model.to(DEVICE), torch.rand(1, 3, 24, 32).to(DEVICE)
    moved = {}
    for layout in (torch.channels_last, torch.contiguous_format):
        placed = image.contiguous(memory_format=layout)
        names, start = gpu.read_launches().get("aten::cat", 0), gpu.read_counters()
        with torch.inference_mode():
            module(placed)
        moved[layout] = (gpu.read_counters() - start).bytes_moved
        assert (gpu.read_launches().get("aten::cat", 0) - names == 0) == (layout is torch.contiguous_format)
    assert moved[torch.contiguous_format] < 0.6 * moved[torch.channels_last]
