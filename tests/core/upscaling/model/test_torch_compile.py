"""Compiled networks: the same frames, plain torch where the compiler fails, and an untouched module."""

from __future__ import annotations

import logging

import pytest
import torch
from nearest_upscaler import repeat_pixels
from steadyscale.core.upscaling.model import torch_compile
from steadyscale.core.upscaling.model.torch_compile import compile_forward
from steadyscale.core.upscaling.settings import UpscaleSettings
from steadyscale.core.upscaling.upscale import upscale
from steadyscale.models import SRVGGConfig, SRVGGNetCompact, Upscaler
from torch import nn

COMPILED = UpscaleSettings(compile=True)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Upscaler:
    monkeypatch.setenv("STEADYSCALE_NATIVE", "0")
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

        monkeypatch.setattr(torch_compile, "OPTIONS", {"backend": compile_, "dynamic": False})
        return graphs

    torch.compiler.reset()
    yield use
    torch.compiler.reset()


def test_frames_are_the_same_and_the_module_is_untouched(network: Upscaler, backend):
    graphs, frames = backend(), torch.rand(3, 3, 20, 24)
    plain = torch.cat(list(upscale(iter(frames.split(1)), network)))
    before = dict(vars(network.model))
    stream = upscale(iter(frames.split(1)), network, COMPILED)
    fast = [next(stream)]
    assert vars(network.model) == before, "while it runs compiled"
    assert torch.equal(plain, torch.cat([*fast, *stream]))
    assert len(graphs) == 1, "one shape, one compilation"


def test_a_compiler_that_fails_is_done_without(network: Upscaler, backend, caplog: pytest.LogCaptureFixture):
    graphs, frames = backend(fails=True), torch.rand(3, 3, 20, 24)
    with caplog.at_level(logging.WARNING):
        result = torch.cat(list(upscale(iter(frames.split(1)), network, COMPILED)))
    assert torch.equal(result, torch.cat(list(upscale(iter(frames.split(1)), network))))
    assert len(graphs) == 1, "it is not asked again"
    assert "torch.compile failed" in caplog.text


def test_an_error_of_the_network_itself_is_raised(backend):
    backend()

    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise KeyError("my own fault")

    network = Broken()
    compile_forward(network)
    with pytest.raises(Exception, match="my own fault"):
        network(torch.rand(1, 3, 4, 4))


def test_a_compiled_network_that_fails_later_is_done_without(network: Upscaler, monkeypatch, caplog):
    """As CUDA graphs do where memory has no pools, or in a second thread."""

    def fail(forward, **options):
        def compiled(images):
            raise AssertionError("graph pool")

        return compiled

    monkeypatch.setattr(torch, "compile", fail)
    frames = torch.rand(2, 3, 20, 24)
    result = torch.cat(list(upscale(iter(frames.split(1)), network, COMPILED)))
    monkeypatch.undo()
    assert torch.equal(result, torch.cat(list(upscale(iter(frames.split(1)), network))))
    assert caplog.text.count("torch.compile failed") == 1


def test_a_function_cannot_be_compiled_and_runs(caplog: pytest.LogCaptureFixture):
    def double(images: torch.Tensor) -> torch.Tensor:
        return repeat_pixels(images)

    double.scale = 2
    frames = torch.rand(1, 3, 8, 8)
    assert torch.equal(next(upscale(iter([frames]), double, COMPILED)), repeat_pixels(frames))
    assert "nothing to compile" in caplog.text


def test_streams_that_run_at_once_share_the_compiled_network(network: Upscaler, backend):
    graphs = backend()
    own = network.model.forward
    object.__setattr__(network.model, "forward", own)  # as a program may that watches calls
    frames = torch.rand(3, 3, 20, 24)
    truth = torch.cat(list(upscale(iter(frames.split(1)), network)))
    first, second = (upscale(iter(frames.split(1)), network, COMPILED) for _ in range(2))
    assert torch.equal(next(first), next(second))
    assert len(graphs) == 1
    first.close()
    assert torch.equal(torch.cat(list(second)), truth[1:]), "it outlives the first stream"
    assert vars(network.model)["forward"] is own
