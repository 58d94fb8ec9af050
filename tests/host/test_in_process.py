"""Test nodes in ComfyUI's process, beside its modules: patchers, empty batches."""

from __future__ import annotations

from collections.abc import Callable

import prompt_builder
import pytest
from bootstrap import DEFAULT_NETWORK
from comfyhost import Host

pytestmark = pytest.mark.host

START = """
import comfy.model_management as management
import comfy.model_patcher
import torch
from steadyscale.nodes.load_model import LoadESRGANModel
from steadyscale.nodes.upscale import UpscaleFrames
SETTINGS = dict(resize_to="model scale", factor=2.0, width=1, height=1, tile=0, precision="auto")
frames = torch.rand(2, 12, 16, 3)
"""
CHECKS = {
    "models with a patcher": f"""
model = LoadESRGANModel.execute("{DEFAULT_NETWORK}.safetensors").result[0]
assert isinstance(model.patcher, comfy.model_patcher.ModelPatcher)
assert model.patcher.model is model.model
plain = UpscaleFrames.execute(frames, upscale_model=model, **SETTINGS).result[0]
assert plain.shape == (2, 48, 64, 3)
assert model.patcher in [loaded.model for loaded in management.current_loaded_models], "the host moved it, not we"
del model.patcher
assert torch.equal(UpscaleFrames.execute(frames, upscale_model=model, **SETTINGS).result[0], plain)
""",
    "bundled networks": """
options = LoadESRGANModel.define_schema().inputs[0].options
bundled = ["steadyscale-restore-2x", "steadyscale-restore-4x", "steadyscale-faithful-2x", "steadyscale-faithful-4x"]
bundled += ["steadyscale-calm-2x", "steadyscale-calm-4x"]
assert options[-8:] == [*bundled, "steadyscale-2x", "steadyscale-4x"], options
for name in options[-8:]:
    scale = int(name[-2])
    assert LoadESRGANModel.validate_inputs(name) is True
    assert LoadESRGANModel.fingerprint_inputs(name)[2] > 0
    model = LoadESRGANModel.execute(name).result[0]
    large = UpscaleFrames.execute(torch.full((1, 12, 16, 3), 0.5), upscale_model=model, **SETTINGS).result[0]
    assert large.shape == (1, 12 * scale, 16 * scale, 3)
    assert (large - 0.5).abs().max() < 0.02
""",
    "an empty batch": f"""
model = LoadESRGANModel.execute("{DEFAULT_NETWORK}.safetensors").result[0]
UpscaleFrames.execute(frames[:0], upscale_model=model, **SETTINGS)
""",
}


@pytest.fixture
def trouble(gpu_host: Host) -> Callable[[str], str]:
    """Run a check in a node of the host: its traceback, or nothing."""

    def run(name: str) -> str:
        graph = prompt_builder.PromptBuilder()
        node = graph.add("RunCheck", code=START + CHECKS[name])
        return gpu_host.run(graph).raise_for_status().outputs[node]["text"][0]

    return run


def test_models_with_a_patcher_work(trouble: Callable[[str], str]) -> None:
    assert trouble("models with a patcher") == ""


def test_bundled_networks_are_listed_and_need_no_file(trouble: Callable[[str], str]) -> None:
    assert trouble("bundled networks") == ""


def test_empty_batch_is_refused(trouble: Callable[[str], str]) -> None:
    assert "ClipError: the batch of frames is empty" in trouble("an empty batch")
