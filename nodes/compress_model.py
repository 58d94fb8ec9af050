"""Compress Model: prune and distill a network, and judge the result."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import torch
from comfy_api.latest import Input, io
from torch import Tensor, nn

from ..core.clip import ClipError
from ..core.runtime.files.atomic_write import temp_path
from ..core.training.data.sources import TrainingSources
from ..core.training.evaluate.compare_models import compare_models, make_lr_pairs
from ..core.training.loop.export import export
from ..core.upscaling.upscale import ImageModel
from ..core.video.images.image_clip import ImageClip
from ..core.visualize.training_curves import append_table
from ..models import Upscaler, load_upscaler
from ..models.loading.onnx_model import OnnxNetwork
from ._comfy.adapter import ImageOrVideoType, progress_bar, stop_if_cancelled
from ._comfy.device import attach_patcher, compute_device
from ._comfy.node_text import preview_ui, show_text
from ._comfy.paths import MODEL_SUFFIX, copy_model_file, model_folder, parse_model_name, temp_folder
from ._comfy.schema import TRAIN_CATEGORY, node_schema
from ._training_data import RUNS_FOLDER, prepare_training_sources, validate_training_inputs

RESULT_STEM = "result"  # of file names, before a mark such as _int8 and the suffix, until the files are copied


class CompressModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="SteadyScale_CompressModel",
            display_name="Compress Model",
            category=TRAIN_CATEGORY,
            search_aliases="prune, quantize, int8, distill, onnx export, faster model, smaller model",
            description="Makes a network smaller and faster: takes out what it needs least, trains what is left with "
            "the original as teacher, and compares both. A network that is not close enough to the original is not "
            "written.",
            is_output_node=True,
            advanced="steps, seed, half, separable, onnx, int8, quality_gate",
            inputs=[
                io.UpscaleModel.Input(
                    "upscale_model", tooltip="From Train ESRGAN or Load ESRGAN Model: a compact or an ESRGAN network."
                ),
                ImageOrVideoType.Input(
                    "frames",
                    optional=True,
                    tooltip="Sharp, large frames of the kind that the network is for. Most are learnt from, the last "
                    "quarter judges. Or leave it empty and give a folder.",
                ),
                io.String.Input(
                    "folder",
                    default="",
                    optional=True,
                    tooltip="A folder inside ComfyUI/input with images and videos. Only used where no frames are "
                    "connected.",
                ),
                io.String.Input(
                    "name",
                    default="my_model_small",
                    tooltip="The result is saved as models/upscale_models/NAME.safetensors. An older model of that "
                    "name stays: the new one gets a number.",
                ),
                io.Float.Input(
                    "prune",
                    display_name="pruning ratio",
                    default=0.5,
                    min=0.0,
                    max=0.9,
                    step=0.05,
                    tooltip="The share of the network's channels to take out: 0.5 leaves about a quarter to a third of "
                    "its weights. 0 takes none out, for the other ways below.",
                ),
                io.Float.Input(
                    "max_loss_db",
                    display_name="max PSNR loss [dB]",
                    default=0.3,
                    min=0.0,
                    max=20.0,
                    step=0.05,
                    tooltip="How much PSNR may be lost against the original. It counts where the original is better "
                    "than bicubic; what else must stay is listed in the report.",
                ),
                io.Int.Input(
                    "steps",
                    default=2000,
                    min=0,
                    max=1_000_000,
                    tooltip="How long what is left learns from the original. More loses less.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=2**31 - 1, tooltip="Decides everything that is drawn by chance."
                ),
                io.Boolean.Input(
                    "half",
                    display_name="half precision",
                    default=False,
                    optional=True,
                    tooltip="Store the weights in 16 bits: half the file, nearly the same frames.",
                ),
                io.Boolean.Input(
                    "separable",
                    display_name="separable convolutions",
                    default=False,
                    optional=True,
                    tooltip="Split inner convolutions into one per channel and a mix: about a fifth of the weights, "
                    "for networks of 32 channels or more. NAME_dense.safetensors, written beside it, gives the same "
                    "frames in programs that know only ordinary networks, ComfyUI's own loader among them.",
                ),
                io.Boolean.Input(
                    "onnx",
                    display_name="export ONNX",
                    default=False,
                    optional=True,
                    tooltip="Also write NAME.onnx, a graph for other programs and for Load ESRGAN Model. Needs the "
                    "packages onnx, onnxruntime and openvino.",
                ),
                io.Boolean.Input(
                    "int8",
                    display_name="export int8 ONNX",
                    default=False,
                    optional=True,
                    tooltip="Also write NAME_int8.onnx, a graph of 8-bit integers that runs on the CPU; the report "
                    "says how fast it is here. Where nothing else is chosen, it is the result. Needs the packages "
                    "onnx, onnxruntime and openvino.",
                ),
                io.Boolean.Input(
                    "quality_gate",
                    display_name="quality gate",
                    default=True,
                    optional=True,
                    tooltip="Write nothing if the result is blurred, tinted, gridded or flickers more than the "
                    "original, or keeps too little of what the original adds to bicubic. Off: write it anyway, and "
                    "say so in the report.",
                ),
            ],
            outputs=[
                io.UpscaleModel.Output(display_name="upscale_model", tooltip="The smaller network, ready to use."),
                io.Image.Output(
                    display_name="image",
                    tooltip="The truth, the original and the result side by side, and a table of what each costs.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="Weights, work, file size, time, PSNR and SSIM before and after, and the quality against "
                    "the original with its limits. The node shows it too.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str = "", folder: str = "") -> bool | str:
        return validate_training_inputs(name, folder)

    @classmethod
    def execute(
        cls,
        upscale_model: ImageModel,
        name: str,
        prune: float,
        max_loss_db: float,
        steps: int,
        seed: int,
        frames: Tensor | Input.Video | None = None,
        folder: str = "",
        half: bool = False,
        separable: bool = False,
        onnx: bool = False,
        int8: bool = False,
        quality_gate: bool = True,
    ) -> io.NodeOutput:
        network = getattr(upscale_model, "model", None)
        if not isinstance(network, nn.Module) or isinstance(network, OnnxNetwork):
            raise ClipError("this model's weights cannot be reached: compress the network it was exported from")
        sources = prepare_training_sources(frames, folder)
        with temp_path(temp_folder() / RUNS_FOLDER / "compress") as folder_path:
            folder_path.mkdir(parents=True)
            original = export(
                network, folder_path / f"original{MODEL_SUFFIX}", {"scale": str(int(upscale_model.scale))}
            )
            settings: dict[str, float] = {"prune": prune, "max_loss_db": max_loss_db, "steps": steps, "seed": seed}
            settings |= {"half": half, "separable": separable, "onnx": onnx, "int8": int8}
            settings["quality_gate"] = quality_gate
            device = compute_device()
            output = folder_path / f"{RESULT_STEM}{MODEL_SUFFIX}"
            files, table = _run_compression(original, output, sources, device, settings)
            names = [parse_model_name(name) + file.stem.removeprefix(RESULT_STEM) for file in files]
            saved = [copy_model_file(file, model_folder(), new) for file, new in zip(files, names, strict=True)]
            model = load_upscaler(saved[0])  # networks come before graphs
            sheet = append_table(_draw_side_by_side(load_upscaler(original), model, sources), table)
        saved_names = ", ".join(file.relative_to(model_folder()).as_posix() for file in saved)
        text = f"{saved_names} in models/upscale_models\n{table}"
        image = sheet.movedim(1, -1).contiguous()
        return io.NodeOutput(attach_patcher(model), image, text, ui=preview_ui(cls, image, text))


def _run_compression(
    original: Path, output: Path, sources: TrainingSources, device: torch.device, settings: dict[str, float]
) -> tuple[tuple[Path, ...], str]:
    """Compress; return the files, and tables of their metrics and verdicts.

    Raises ClipError if a network is not close enough to the original.
    """
    from ..core.compress import CompressSettings, compress, format_table, format_verdicts

    compress_settings = CompressSettings(
        str(original),
        (*sources.train, sources.held_out),
        str(output),
        device=str(device),
        **settings,  # pyright: ignore[reportArgumentType]
    )
    bar, last = progress_bar(max(1, compress_settings.steps)), None
    with closing(compress(compress_settings)) as reports:
        for report in reports:
            if report.stage == "training":
                bar.update_absolute(report.step, report.total)
            if last is None or report.stage != last.stage:
                show_text(f"{report.stage} …")
            last = report
            stop_if_cancelled()
    if last is None or not last.metrics:
        raise ClipError("no file was written")
    table = f"{format_table(last.metrics)}\n{format_verdicts(last.verdicts)}"
    if not last.files:
        raise ClipError(f"{last.rejection}\n{table}")
    return last.files, table


def _draw_side_by_side(original: Upscaler, model: Upscaler, sources: TrainingSources) -> Tensor:
    pairs = make_lr_pairs(ImageClip(sources.held_out).frames(), original.scale)
    return compare_models(pairs, [original, model], ("original", "compressed")).image
