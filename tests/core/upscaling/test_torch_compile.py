"""Compiled networks: the same frames, and plain torch again where the compiler fails and when the stream ends."""

from __future__ import annotations

import logging

import pytest
import torch
from steadyscale.core.upscaling import torch_compile as room
from steadyscale.core.upscaling.settings import UpscaleSettings
from steadyscale.core.upscaling.torch_compile import torch_compiled
from steadyscale.core.upscaling.upscale import upscale
from steadyscale.models import SRVGGConfig, SRVGGNetCompact, Upscaler
from torch import nn

CPU = torch.device("cpu")


@pytest.fixture
def network() -> Upscaler:
    torch.manual_seed(0)
    return Upscaler(SRVGGNetCompact(SRVGGConfig(features=8, convs=2, scale=2)), "small", "SRVGG")


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch):
    """Sets what compiles: a function of a graph and its inputs, counted."""
    graphs: list[torch.fx.GraphModule] = []

    def use(fails: bool = False) -> list[torch.fx.GraphModule]:
        def compile_(graph: torch.fx.GraphModule, inputs: list) -> object:
            graphs.append(graph)
            if fails:
                raise OSError("there is no compiler here")
            return graph.forward

        monkeypatch.setattr(room, "CPU_OPTIONS", {"backend": compile_, "dynamic": False})
        return graphs

    torch.compiler.reset()
    yield use
    torch.compiler.reset()


def test_frames_are_the_same_and_the_network_is_as_before(network: Upscaler, backend):
    graphs, frames = backend(), torch.rand(3, 3, 20, 24)
    plain = torch.cat(list(upscale(iter(frames.split(1)), network)))
    fast = torch.cat(list(upscale(iter(frames.split(1)), network, UpscaleSettings(compile=True))))
    assert torch.equal(plain, fast)
    assert len(graphs) == 1, "one shape, one compilation"
    assert "forward" not in vars(network.model)


def test_a_compiler_that_fails_is_done_without(network: Upscaler, backend, caplog: pytest.LogCaptureFixture):
    graphs, frames = backend(fails=True), torch.rand(3, 3, 20, 24)
    with caplog.at_level(logging.WARNING):
        made = torch.cat(list(upscale(iter(frames.split(1)), network, UpscaleSettings(compile=True))))
    assert torch.equal(made, torch.cat(list(upscale(iter(frames.split(1)), network))))
    assert len(graphs) == 1, "it is not asked again"
    assert "there is no compiler here" in caplog.text or "compiling failed" in caplog.text


def test_what_the_network_itself_raises_passes_through(backend):
    backend()

    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise KeyError("my own fault")

    network = Broken()
    with torch_compiled(network, CPU), pytest.raises(Exception, match="my own fault"):
        network(torch.rand(1, 3, 4, 4))
    assert "forward" not in vars(network)


def test_a_function_cannot_be_compiled_and_runs(caplog: pytest.LogCaptureFixture):
    with torch_compiled(lambda frames: frames, CPU):
        pass
    assert "nothing to compile" in caplog.text


def test_a_network_that_is_compiled_for_two_streams_at_once_is_as_before_when_the_last_one_ends(
    network: Upscaler, backend
):
    backend()
    own = network.model.forward
    object.__setattr__(network.model, "forward", own)  # as a program may that watches calls
    frames = torch.rand(3, 3, 20, 24)
    truth = torch.cat(list(upscale(upscale(iter(frames.split(1)), network), network)))
    inner = upscale(iter(frames.split(1)), network, UpscaleSettings(compile=True))
    made = torch.cat(list(upscale(inner, network, UpscaleSettings(compile=True))))
    assert torch.equal(made, truth)
    first, second = (upscale(iter(frames.split(1)), network, UpscaleSettings(compile=True)) for _ in range(2))
    next(first), next(second)
    first.close()
    assert vars(network.model)["forward"] is not own
    second.close()
    assert vars(network.model)["forward"] is own
