"""Test the nodes in a real ComfyUI whose device is a GPU, simulated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import prompt_builder
import pytest
import torch
from bootstrap import DEFAULT_NETWORK
from comfyhost import Host
from numbered_video import make_video
from steadyscale.core import Precision, UpscaleSettings, open_clip, upscale, upscale_video
from steadyscale.models import load_upscaler

pytestmark = pytest.mark.host

FRAMES, WIDTH, HEIGHT, SCALE = 3, 32, 24, 4
CLIP_NAME = "small.mkv"
CONVOLUTIONS = 18  # of the network
# Largest difference from the CPU in steps of 1/255: of the rounding to 8 bits, and of the dtype.
TOLERANCE = {"fp32": 1, "fp16": 3, "auto": 3, "bf16": 16}


@pytest.fixture(scope="module")
def source(gpu_host: Host) -> Path:
    """A clip in the host's input folder."""
    return make_video(gpu_host.base / "input" / CLIP_NAME, FRAMES, size=(WIDTH, HEIGHT), codec="ffv1")


@pytest.fixture(scope="module")
def expected(gpu_host: Host, source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The frames (N, H, W, 3) of the CPU in steps of 8 bits.

    IMAGE: as the network returns them. VIDEO: after an encoder, which loses some of the color.
    """
    settings = UpscaleSettings(precision=Precision.FP32)
    weights = gpu_host.base / "models" / "upscale_models" / f"{DEFAULT_NETWORK}.safetensors"
    images = list(upscale(open_clip(source).frames(), load_upscaler(weights), settings))
    target = tmp_path_factory.mktemp("cpu") / "large.mp4"
    upscale_video(source, target, model=weights, settings=settings, device="cpu")
    frames = {"IMAGE": images, "VIDEO": list(open_clip(target).frames())}
    return {kind: (torch.cat(parts).movedim(1, -1) * 255).numpy() for kind, parts in frames.items()}


@pytest.mark.parametrize("precision", ["fp16", "bf16", "auto", "fp32"])
@pytest.mark.parametrize("kind", ["IMAGE", "VIDEO"])
def test_the_result_is_that_of_the_cpu(
    gpu_host: Host, expected: dict[str, np.ndarray], kind: str, precision: str
) -> None:
    graph = prompt_builder.PromptBuilder()
    source = graph.add_video(CLIP_NAME) if kind == "VIDEO" else graph.add_images(CLIP_NAME)
    settings = {"resize_to": "model scale", "factor": 2.0, "width": 1, "height": 1, "tile": 0, "precision": precision}
    upscaled = [graph.add("SteadyScale_UpscaleFrames", upscale_model=graph.add_model(), frames=source, **settings), 0]
    images = graph.add_images(upscaled) if kind == "VIDEO" else upscaled
    saved = graph.add("SaveImage", images=images, filename_prefix=f"{kind}_{precision}")
    before = gpu_host.get("/simulated_gpu")
    run = gpu_host.run(graph).raise_for_status()
    after = gpu_host.get("/simulated_gpu")

    result, truth = prompt_builder.read_images(gpu_host, run.outputs[saved]), expected[kind]
    assert result.shape == truth.shape == (FRAMES, SCALE * HEIGHT, SCALE * WIDTH, 3)
    difference = np.abs(result - truth)
    if kind == "IMAGE":
        assert difference.max() <= TOLERANCE[precision] + 1
    else:  # The encoder is lossy, and loses something else where a value differs by one step.
        assert np.quantile(difference, 0.99) <= TOLERANCE[precision] + 4
    assert difference.mean() < (2.0 if precision == "bf16" else 0.7)
    assert truth.std() > 20
    assert after["convolutions"] - before["convolutions"] >= FRAMES * CONVOLUTIONS
    # IMAGE: in the dtype of the network. VIDEO: planes of 4:2:0, and an image for the preview.
    bytes_per_value = {"VIDEO": 0.5, "IMAGE": 4 if precision == "fp32" else 2}[kind]
    downloaded = after["bytes_to_host"] - before["bytes_to_host"]
    assert downloaded >= bytes_per_value * result.size
    if precision != "auto":  # It also reads the weights, to find the check of an earlier run.
        assert downloaded < (bytes_per_value + 1) * result.size


def test_the_device_holds_no_more_than_the_weights_after_a_run(gpu_host: Host) -> None:
    path = gpu_host.base / "models" / "upscale_models" / f"{DEFAULT_NETWORK}.safetensors"
    assert gpu_host.get("/simulated_gpu")["allocated"] < 1.5 * 4 * sum(
        weight.numel() for weight in load_upscaler(path).model.parameters()
    )
