"""Benchmark Upscaler: the speed of a network on this machine."""

from __future__ import annotations

import json

from comfy_api.latest import io

from ..core.upscaling.benchmark import benchmark, synthetic_frames
from ..core.upscaling.settings import Precision, Tiling, UpscaleSettings
from ..core.upscaling.tile_size import estimate_activation_bytes
from ..core.upscaling.upscale import ImageModel
from . import _shared_inputs as shared
from ._comfy.adapter import with_cancel_check, with_progress
from ._comfy.device import compute_device, free_device_memory
from ._comfy.node_text import show_text
from ._comfy.schema import UPSCALE_CATEGORY, node_schema
from ._default_model import model_or_default
from ._video.render_plan import MAX_RESERVED_PIXELS


class BenchmarkUpscaler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="SteadyScale_BenchmarkUpscaler",
            display_name="Benchmark Upscaler",
            category=UPSCALE_CATEGORY,
            search_aliases="speed test, fps, frames per second, performance, upscale speed, gpu memory",
            description="Upscales a few synthetic frames and says how many a second this machine does, what memory "
            "that takes, which precision and tiles were chosen, and how long a minute of video will take. Needs no "
            "clip.",
            is_output_node=True,
            advanced="tile, precision",
            inputs=[
                shared.model_input(),
                io.Int.Input(
                    "width", default=640, min=1, max=32768, tooltip="Of the frames before upscaling, in pixels."
                ),
                io.Int.Input(
                    "height", default=360, min=1, max=32768, tooltip="Of the frames before upscaling, in pixels."
                ),
                io.Int.Input(
                    "frames",
                    display_name="frame count",
                    default=8,
                    min=1,
                    max=1000,
                    tooltip="How many to time, after one that is not: it loads and checks the network. More give a "
                    "steadier figure.",
                ),
                shared.tile_input(
                    "As in Upscale Frames: side of the pieces a frame is cut into. 0 chooses by free memory."
                ),
                shared.precision_input(
                    "As in Upscale Frames. auto: the fastest that a self-check on the first frame shows to be safe."
                ),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="What was measured, in words. The node shows it too.")
            ],
        )

    @classmethod
    def execute(
        cls,
        width: int,
        height: int,
        frames: int,
        tile: int,
        precision: str,
        upscale_model: ImageModel | None = None,
    ) -> io.NodeOutput:
        device = compute_device()
        model = model_or_default(upscale_model)
        bytes_per_pixel = estimate_activation_bytes(model, int(model.scale))
        free_device_memory(model, bytes_per_pixel * min(width * height, MAX_RESERVED_PIXELS), device)
        report = benchmark(
            with_progress(synthetic_frames(width, height, frames + 1), frames + 1),
            with_cancel_check(model),
            UpscaleSettings(tiling=Tiling(size=tile or None), precision=Precision(precision)),
            device=device,
        )
        # The last line is for reports to the project: the same fields as in a row of bench/card.py.
        text = f"{report}\n{json.dumps(report.to_row())}"
        show_text(text)
        return io.NodeOutput(text, ui={"text": [text], "benchmark": [report.to_dict()]})
