"""Upscale Frames: larger frames, one at a time, at the size that was asked for."""

from __future__ import annotations

from enum import Enum

from comfy import model_management
from comfy_api.latest import io
from torch import Tensor

from ..core.finish import Colour, Finish
from ..core.memory import guessed_bytes
from ..core.precision import Precision
from ..core.tiles import Tiling
from ..core.upscale import ImageModel, Target, upscale
from ._comfy import CATEGORY, ImageBatch, cancellable, make_room, options, to_clip, watched

ROOM = 512 * 512  # input pixels that room is asked for: larger tiles are hardly faster, and other models stay loaded


class ResizeTo(str, Enum):
    """What decides the size of the result."""

    MODEL = "model scale"
    FACTOR = "factor"
    SIZE = "size"


class UpscaleFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SteadyScale_UpscaleFrames",
            display_name="Upscale Frames",
            category=CATEGORY,
            description="Enlarges frames with an ESRGAN network, without seams between tiles, to any factor or size. "
            "Takes models of Load ESRGAN Model and of ComfyUI's own Load Upscale Model. Tiles shrink when memory runs "
            "out.",
            inputs=[
                io.UpscaleModel.Input("upscale_model", tooltip="From Load ESRGAN Model or Load Upscale Model."),
                io.Image.Input("frames", tooltip="One image or all frames of a clip. Alpha is kept."),
                io.Combo.Input(
                    "resize_to",
                    options=options(ResizeTo),
                    default=ResizeTo.MODEL.value,
                    tooltip="model scale: what the network gives (a 4x model enlarges 4 times). factor and size: the "
                    "network's result, resized to exactly that.",
                ),
                io.Float.Input(
                    "factor",
                    default=2.0,
                    min=0.1,
                    max=16.0,
                    step=0.05,
                    tooltip="For resize_to = factor: times each side.",
                ),
                io.Int.Input("width", default=1920, min=1, max=32768, tooltip="For resize_to = size, in pixels."),
                io.Int.Input("height", default=1080, min=1, max=32768, tooltip="For resize_to = size, in pixels."),
                io.Int.Input(
                    "tile",
                    default=0,
                    min=0,
                    max=8192,
                    step=32,
                    tooltip="Side of the pieces a frame is cut into, in source pixels. 0 chooses by free memory. The "
                    "result is the same for any tile.",
                ),
                io.Combo.Input(
                    "precision",
                    options=options(Precision),
                    default=Precision.AUTO.value,
                    tooltip="auto: the fastest that a self-check on the first frame shows to be safe.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="How much of the network to show. 1: all of it, 0: a plain resize, between: a blend of the "
                    "two, for networks that sharpen too much.",
                ),
                io.Combo.Input(
                    "colour",
                    options=options(Colour),
                    default=Colour.NONE.value,
                    optional=True,
                    tooltip="What to take back of the source's colours, which networks shift a little. mean: each "
                    "frame's average. wavelet: all coarse colour, so that the network gives the detail only.",
                ),
                io.Float.Input(
                    "grain",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="Film grain, different in each frame and the same in each run; 0.1 to 0.3 hides a plastic "
                    "look. 0 adds none.",
                ),
            ],
            outputs=[io.Image.Output(display_name="frames", tooltip="The enlarged frames, as many as came in.")],
        )

    @classmethod
    def execute(
        cls,
        upscale_model: ImageModel,
        frames: Tensor,
        resize_to: str,
        factor: float,
        width: int,
        height: int,
        tile: int,
        precision: str,
        strength: float = 1.0,
        colour: str = Colour.NONE.value,
        grain: float = 0.0,
    ) -> io.NodeOutput:
        clip = to_clip(frames)
        target = {
            ResizeTo.MODEL: Target,
            ResizeTo.FACTOR: lambda: Target(factor=factor),
            ResizeTo.SIZE: lambda: Target(size=(width, height)),
        }[ResizeTo(resize_to)]()
        size = target.of(clip.info.width, clip.info.height, int(upscale_model.scale))
        out = ImageBatch(clip.info.resized(*size), clip.channels)
        device = model_management.get_torch_device()
        at_once = min(clip.info.width * clip.info.height, ROOM)
        make_room(upscale_model, guessed_bytes(upscale_model, int(upscale_model.scale)) * at_once, device)
        stream = upscale(
            clip.frames(),
            cancellable(upscale_model),
            target=target,
            tiling=Tiling(size=tile or None),
            precision=Precision(precision),
            device=device,
            finish=Finish(strength, Colour(colour), grain),
        )
        for enlarged in watched(stream, clip.info.length, len):
            out.add(enlarged)
        return io.NodeOutput(out.finished())
