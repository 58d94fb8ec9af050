"""Load ESRGAN Model: an UPSCALE_MODEL from the host's upscale_models folder."""

from __future__ import annotations

import os

import torch
from comfy_api.latest import io

from ..core.clip import ClipError
from ..models import Upscaler, load_upscaler
from ..models.loading.onnx_model import OnnxNetwork
from ..models.zoo.bundled import ALIASES, BUNDLED_MODELS, find_bundled
from ._comfy.device import attach_patcher, compute_device
from ._comfy.node_text import show_text
from ._comfy.paths import MODELS_FOLDER, find_model_file, list_model_files
from ._comfy.schema import UPSCALE_CATEGORY, node_schema

# That the native CPU engine runs.
NATIVE_ARCHITECTURES = ("RRDBNet", "SRVGGNetCompact", "SPAN", "TSPAN", "RealPLKSR", "depthwise-separable")


class LoadESRGANModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="SteadyScale_LoadESRGANModel",
            display_name="Load ESRGAN Model",
            category=UPSCALE_CATEGORY,
            search_aliases="load upscale model, upscaler, real-esrgan, esrgan, super resolution model, 2x model, "
            "4x model, onnx, ncnn, srvgg",
            description="Loads an ESRGAN, Real-ESRGAN or compact (SRVGG) network, or one that reads several frames of "
            "a video (TSPAN); other single-image networks through spandrel. Works with Upscale Frames and with "
            "ComfyUI's own Upscale Image (using Model).",
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=_list_models(),
                    tooltip="A file in ComfyUI/models/upscale_models: .safetensors, .pth, .pt, .ckpt, an ncnn .bin "
                    "with its .param beside it, or an .onnx graph from Compress Model. Bundled: "
                    "steadyscale-restore for video as it is, compressed or noisy; steadyscale-faithful for clean "
                    "video; steadyscale-calm for clean video with the least flicker.",
                )
            ],
            outputs=[
                io.UpscaleModel.Output(display_name="upscale_model", tooltip="The network, ready to use."),
                io.String.Output(
                    display_name="model info",
                    tooltip="What it is, how large it makes frames, how far it looks, and what it runs on here. "
                    "The node shows it too.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, model_name: str = "") -> bool | str:
        # Hosts up to 0.3.75 do not check the dropdowns of V3 nodes, and a name from an API call may be anything.
        if model_name in _list_models():
            return True
        return (
            f"{model_name!r} is not in ComfyUI's models/{MODELS_FOLDER}: "
            "put the file there and refresh, or choose another"
        )

    @classmethod
    def fingerprint_inputs(cls, model_name: str = "") -> tuple[str, float, int]:
        bundled = find_bundled(model_name)
        path = bundled.path if bundled else find_model_file(model_name)
        if path is None:
            return model_name, 0.0, 0
        status = os.stat(path)
        return str(path), status.st_mtime, status.st_size

    @classmethod
    def execute(cls, model_name: str) -> io.NodeOutput:
        bundled = find_bundled(model_name)
        path = bundled.path if bundled else find_model_file(model_name)
        if path is None:
            raise ClipError(f"{model_name!r} was deleted from models/{MODELS_FOLDER}: refresh, and choose another")
        model = load_upscaler(path)
        facts = describe_model(model, compute_device())
        show_text(facts)
        return io.NodeOutput(attach_patcher(model), facts, ui={"text": [facts]})


def _list_models() -> list[str]:
    """Files of the model folders, then bundled networks, their old names last."""
    return [*list_model_files(), *(network.name for network in BUNDLED_MODELS), *ALIASES]


def describe_model(model: Upscaler, device: torch.device) -> str:
    """Architecture, size and engine of a network on a device, in a few lines."""
    channels = {1: "gray, color channels one by one", 3: "RGB", 4: "RGBA"}[model.in_channels]
    if isinstance(model.model, OnnxNetwork):
        engine = "OpenVINO on the CPU"
    elif device.type != "cpu":
        engine = f"torch on {device}"
    elif model.prefers_full_frames:
        engine = "the native CPU engine"
    elif model.architecture in NATIVE_ARCHITECTURES:
        engine = "torch on the CPU; `steadyscale native build` makes it several times faster"
    else:
        engine = "torch on the CPU"
    lines = [
        model.name,
        f"{model.architecture}, {model.scale}x, {channels}",
        f"{model.parameters_count / 1e6:.2f} million parameters",
        f"receptive field: {model.halo} pixels around",
    ]
    before, after = model.frames_context
    if before or after:
        lines.append(f"reads {before} frames before and {after} after each one; give it a video, not single images")
    return "\n".join([*lines, f"runs on {engine}"])
