"""Test nodes in a Python process with ComfyUI's modules: patchers, empty batches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import assets
import pytest
from bootstrap import DEFAULT_NETWORK

pytestmark = pytest.mark.host

START = """
import sys
checks = {checks!r}
sys.argv = ["main.py", "--cpu"]
sys.path.insert(0, {tree!r})
import comfy.options
comfy.options.enable_args_parsing()
import comfy.model_management as management
import comfy.model_patcher
import folder_paths
import torch
folder_paths.add_model_folder_path("upscale_models", {weights!r})
comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcher  # its name on hosts from 0.28 on
from steadyscale.nodes import *
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
bundled = ["steadyscale-restore-2x", "steadyscale-restore-4x", "steadyscale-calm-2x", "steadyscale-calm-4x"]
assert options[-6:] == [*bundled, "steadyscale-2x", "steadyscale-4x"], options
for name in options[-6:]:
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
RUN = """
import json, traceback
for name, code in json.loads(checks).items():
    try:
        exec(code, dict(globals()))
        trouble = ""
    except Exception:
        trouble = traceback.format_exc()
    print("CHECK", json.dumps([name, trouble]))
"""


@pytest.fixture(scope="module")
def trouble() -> dict[str, str]:
    """The traceback of each check, or nothing, after all ran in one process: its start takes seconds."""
    weights = assets.get_weights(DEFAULT_NETWORK, Path(sys.executable)).parent
    start = START.format(tree=str(assets.get_comfyui()), weights=str(weights), checks=json.dumps(CHECKS))
    done = subprocess.run([sys.executable, "-c", start + RUN], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.removeprefix("CHECK ") for line in done.stdout.splitlines() if line.startswith("CHECK ")]
    return dict(json.loads(line) for line in lines)


def test_models_with_a_patcher_work(trouble: dict[str, str]) -> None:
    assert trouble["models with a patcher"] == ""


def test_bundled_networks_are_listed_and_need_no_file(trouble: dict[str, str]) -> None:
    assert trouble["bundled networks"] == ""


def test_empty_batch_is_refused(trouble: dict[str, str]) -> None:
    assert "ClipError: the batch of frames is empty" in trouble["an empty batch"]
