"""Save ESRGAN Model: write an UPSCALE_MODEL to a safetensors file."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path

import torch
from comfy_api.latest import io
from torch import nn

from ..core.clip import ClipError
from ..core.runtime.files.atomic_write import temp_path
from ..core.training.loop.export import export
from ..core.upscaling.upscale import ImageModel, upscale
from ..models import WeightsError, load_upscaler
from ..models.loading.onnx_model import OnnxNetwork
from ._comfy.adapter import combo_options
from ._comfy.node_text import show_text
from ._comfy.paths import MODEL_SUFFIX, copy_model_file, model_folder, output_folder, parse_model_name
from ._comfy.schema import TRAIN_CATEGORY, node_schema

MAX_DIFFERENCE = 0.02  # of the full range, at any pixel; half precision stays below


class SaveFolder(str, Enum):
    MODELS = "upscale_models"
    OUTPUT = "output"


class SaveESRGANModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="SteadyScale_SaveESRGANModel",
            display_name="Save ESRGAN Model",
            category=TRAIN_CATEGORY,
            search_aliases="save upscale model, export model, convert pth to safetensors, safetensors",
            description="Saves a network as .safetensors, which Load ESRGAN Model, ComfyUI's own Load Upscale Model "
            "and other programs read. Never writes over a file: another model of the same name gets a number.",
            is_output_node=True,
            inputs=[
                io.UpscaleModel.Input(
                    "upscale_model", tooltip="From Train ESRGAN, Load ESRGAN Model or Load Upscale Model."
                ),
                io.String.Input(
                    "name",
                    default="my_model",
                    tooltip="Name of the file, without its extension; mine/my_model puts it into a folder.",
                ),
                io.Combo.Input(
                    "place",
                    display_name="save to",
                    options=combo_options(SaveFolder),
                    default=SaveFolder.MODELS.value,
                    tooltip="upscale_models: ComfyUI/models/upscale_models, where the loaders look. output: "
                    "ComfyUI/output, to hand it on.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="file", tooltip="Where it lies, within that folder. The node shows it too."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str = "") -> bool | str:
        try:
            parse_model_name(name)
        except ClipError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, upscale_model: ImageModel, name: str, place: str) -> io.NodeOutput:
        network = getattr(upscale_model, "model", None)
        if not isinstance(network, nn.Module):
            raise ClipError(
                "this model's weights cannot be reached, so it cannot be saved: save the network it was exported from"
            )
        if isinstance(network, OnnxNetwork):
            raise ClipError("an ONNX graph is a file already, and has no weights to save: copy that file")
        in_models = SaveFolder(place) is SaveFolder.MODELS
        root = model_folder() if in_models else output_folder()
        model_name = parse_model_name(name)
        with temp_path(root / "model") as folder:
            folder.mkdir(parents=True)
            metadata = {"name": model_name, "scale": str(int(upscale_model.scale)), "saved_with": "steadyscale"}
            exported = export(network, folder / f"new{MODEL_SUFFIX}", metadata)
            _verify_saved(upscale_model, exported)
            saved = copy_model_file(exported, root, model_name)
        file = saved.relative_to(root).as_posix()
        text = f"{'models/upscale_models' if in_models else 'output'}/{file}, {saved.stat().st_size / 1e6:.2f} MB"
        show_text(text)
        item = {"filename": saved.name, "subfolder": os.path.dirname(file), "type": "output"}
        return io.NodeOutput(file, ui={"text": [text], **({} if in_models else {"files": [item]})})


def _verify_saved(model: ImageModel, file: Path) -> None:
    """Load the file and compare its output with the model's; raises ClipError."""
    image = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    try:
        loaded = load_upscaler(file)
    except WeightsError as error:
        raise ClipError(f"networks of this kind cannot be saved: the saved file cannot be read: {error}") from error
    expected, actual = (next(upscale(iter([image]), network)) for network in (model, loaded))
    if expected.shape != actual.shape or float((expected - actual).abs().max()) > MAX_DIFFERENCE:
        raise ClipError(
            "the saved file gives another result than the model, so it was deleted: this is a bug in SteadyScale"
        )
