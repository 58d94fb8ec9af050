"""Execution providers: their order, their devices, and what runs when one does not start."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import simulated_gpu
import torch
from nearest_upscaler import NearestUpscaler, random_frames, repeat_pixels
from steadyscale.core.upscaling.model import onnx_providers
from steadyscale.core.upscaling.model.onnx_engine import OnnxModule
from steadyscale.core.upscaling.model.onnx_providers import PROVIDERS, OnnxSession, available_providers
from steadyscale.core.upscaling.settings import Engine, UpscaleSettings, UpscaleStats
from steadyscale.core.upscaling.upscale import upscale

ALL = ["AzureExecutionProvider", *reversed([provider.name for provider in PROVIDERS])]


@pytest.mark.parametrize(
    ("device", "labels"),
    [
        ("cpu", ["OpenVINO", "CPU"]),
        ("cuda", ["TensorRT", "CUDA", "DirectML"]),
        ("xpu", ["DirectML", "OpenVINO"]),
        ("mps", ["CoreML"]),
        ("privateuseone", ["DirectML"]),
    ],
)
def test_the_order_of_providers(device: str, labels: list[str], monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ALL)
    # Not a torch.device: the simulated GPU of other tests renames privateuseone.
    assert [provider.label for provider in available_providers(SimpleNamespace(type=device))] == labels


def test_only_what_is_installed_is_tried(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert [provider.label for provider in available_providers(torch.device("cpu"))] == ["CPU"]
    assert available_providers(torch.device("cuda")) == []


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_does_not_start_leaves_the_next_one(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ALL)
    image = random_frames(1)
    module = OnnxModule(NearestUpscaler(), NearestUpscaler())
    with torch.inference_mode():
        assert torch.equal(module(image), repeat_pixels(image))
    assert module.engine == "onnx (CPU)", "OpenVINO was tried before, and is not in this build"
    assert [provider.label for provider in module._providers] == ["CPU"]


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.label)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_options_are_those_of_the_input(provider, dtype: torch.dtype, tmp_path: Path):
    options = provider.options(torch.zeros(1, dtype=dtype), tmp_path)
    assert all(isinstance(value, (str, int, bool)) for value in options.values())
    for key in ("trt_fp16_enable", "precision"):
        if key in options:
            assert options[key] == {"precision": "FP16" if dtype is torch.float16 else "FP32"}.get(
                key, dtype is torch.float16
            )


def test_a_provider_on_the_gpu_works_in_the_memory_of_tensors(tmp_path: Path, monkeypatch):
    """The first call finds the shape of the result, the next ones copy nothing."""
    bound = {}

    class Binding:
        def bind_input(self, name, device, index, dtype, shape, pointer) -> None:
            bound["input"] = device, dtype, tuple(shape), pointer

        def bind_output(self, name, device, index, dtype, shape, pointer) -> None:
            bound["output"] = device, dtype, tuple(shape), pointer

    class Session:
        def __init__(self, path, options, *, providers, enable_fallback) -> None:
            self.names = [name for name, _ in providers]

        def get_providers(self) -> list[str]:
            return self.names

        def disable_fallback(self) -> None:
            pass

        def run(self, names, inputs):
            return [np.zeros((1, 3, 20, 28), np.float32)]

        def io_binding(self) -> Binding:
            return Binding()

        def run_with_iobinding(self, binding: Binding) -> None:
            assert synchronized, "torch must have written the input"
            bound["ran"] = True

    class Stream:
        def synchronize(self) -> None:
            synchronized.append(True)

    synchronized: list[bool] = []
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnx_providers.torch.cuda, "current_stream", lambda device: Stream())
    cuda = next(provider for provider in PROVIDERS if provider.label == "CUDA")
    image = random_frames(1)
    session = OnnxSession(tmp_path / "graph.onnx", cuda, image)
    assert session(image).shape == (1, 3, 20, 28)
    assert not bound
    result = session(image)
    assert bound["input"] == ("cuda", np.float32, (1, 3, 10, 14), image.data_ptr())
    assert bound["output"] == ("cuda", np.float32, (1, 3, 20, 28), result.data_ptr())
    assert bound["ran"]


@pytest.mark.skipif(not simulated_gpu.can_build(), reason="the simulated GPU needs Linux and a compiler")
def test_on_a_device_without_a_provider_torch_runs(caplog):
    model, frames, stats = NearestUpscaler(), random_frames(3), UpscaleStats()
    with simulated_gpu.enabled():
        settings = UpscaleSettings(engine=Engine.ONNX)
        chunks = list(upscale(iter(frames.split(1)), model, settings, device=simulated_gpu.DEVICE, stats=stats))
    torch.testing.assert_close(torch.cat(chunks), repeat_pixels(frames), atol=1e-3, rtol=0)
    assert stats.engine == "torch"
    [message] = [record.getMessage() for record in caplog.records if "torch runs instead" in record.getMessage()]
    assert "no provider for simgpu" in message
