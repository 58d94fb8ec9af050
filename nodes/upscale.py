"""Upscale Frames: upscale with a network to a factor or size, frame by frame."""

from __future__ import annotations

from comfy import model_management
from comfy_api.latest import Input, io
from torch import Tensor

from ..core.pipeline.deflicker_op import DeflickerOp
from ..core.pipeline.estimate import with_estimate
from ..core.pipeline.pipeline import Pipeline
from ..core.pipeline.upscale_op import UpscaleOp
from ..core.upscaling.settings import Alpha, ColorCorrection, OutputSize, PostProcess, Precision, Tiling
from ..core.upscaling.upscale import ImageModel
from . import _shared_inputs as shared
from ._comfy.adapter import (
    CATEGORY,
    ImageBatch,
    ImageOrVideoType,
    combo_options,
    to_clip,
    with_cancel_check,
    with_progress,
)
from ._comfy.check_links import check_links
from ._comfy.node_text import make_notifier
from ._shared_inputs import ResizeTo
from ._video.lazy_video import LazyVideo, plan_for
from ._video.render_plan import reserve_memory

DISPLAY_NAME = "Upscale Frames"


class UpscaleFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SteadyScale_UpscaleFrames",
            display_name=DISPLAY_NAME,
            category=CATEGORY,
            description="Upscales frames with an ESRGAN network, without seams between tiles, to any factor or size. "
            "Takes models of Load ESRGAN Model and of ComfyUI's own Load Upscale Model. Tiles shrink when memory runs "
            "out.",
            inputs=[
                io.UpscaleModel.Input("upscale_model", tooltip="From Load ESRGAN Model or Load Upscale Model."),
                ImageOrVideoType.Input(
                    "frames",
                    tooltip="One image, all frames of a clip, or a VIDEO of any length, which is never held in memory. "
                    "Alpha is kept.",
                ),
                *shared.size_inputs(),
                shared.tile_input(
                    "Side of the pieces a frame is cut into, in source pixels. 0 chooses by free memory. The result "
                    "is the same for any tile."
                ),
                shared.precision_input("auto: the fastest that a self-check on the first frame shows to be safe."),
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
                    options=combo_options(ColorCorrection),
                    default=ColorCorrection.NONE.value,
                    optional=True,
                    tooltip="What to take back of the source's color, which networks shift a little. mean: each "
                    "frame's average. wavelet: all coarse color, so that the network gives the detail only.",
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
                io.Float.Input(
                    "temporal",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="Takes out flicker and crawling detail: each frame is blended with the last result, "
                    "carried along the motion, where it fits. 0.6 takes most of it and a little of the finest "
                    "contrast; 0 leaves every frame to itself.",
                ),
                io.Combo.Input(
                    "alpha",
                    options=combo_options(Alpha),
                    default=Alpha.RESIZE.value,
                    optional=True,
                    tooltip="How transparency is upscaled. resize: smoothly. network: by the network, with sharper "
                    "outlines, in twice the time.",
                ),
                io.Boolean.Input(
                    "linear_light",
                    default=False,
                    optional=True,
                    tooltip="Where frames are resized after the network, resize light rather than stored values: fine "
                    "bright detail does not darken. Slower.",
                ),
                io.Boolean.Input(
                    "compile_network",
                    default=False,
                    optional=True,
                    tooltip="Let torch compile the network first, which takes up to minutes and pays for long clips on "
                    "a GPU. Where that fails, it runs uncompiled.",
                ),
                shared.resumable_input(),
            ],
            hidden=[io.Hidden.dynprompt],
            outputs=[
                ImageOrVideoType.Output(
                    display_name="frames",
                    tooltip="The upscaled frames, as many as came in: IMAGE for IMAGE, VIDEO for VIDEO. A VIDEO is "
                    "made when a node needs its pixels, Save Video for one, which displays the progress.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        upscale_model: ImageModel,
        frames: Tensor | Input.Video,
        resize_to: str,
        factor: float,
        width: int,
        height: int,
        tile: int,
        precision: str,
        strength: float = 1.0,
        colour: str = ColorCorrection.NONE.value,
        grain: float = 0.0,
        temporal: float = 0.0,
        alpha: str = Alpha.RESIZE.value,
        linear_light: bool = False,
        compile_network: bool = False,
        resumable: bool = False,
    ) -> io.NodeOutput:
        check_links(cls, frames)
        target = {
            ResizeTo.MODEL: OutputSize,
            ResizeTo.FACTOR: lambda: OutputSize(factor=factor),
            ResizeTo.SIZE: lambda: OutputSize(size=(width, height)),
        }[ResizeTo(resize_to)]()
        enlarge = UpscaleOp(
            with_cancel_check(upscale_model),
            output_size=target,
            tiling=Tiling(size=tile or None),
            precision=Precision(precision),
            device=model_management.get_torch_device(),
            postprocess=PostProcess(strength, ColorCorrection(colour), 0.0 if temporal else grain, linear_light),
            alpha=Alpha(alpha),
            compile_network=compile_network,
        )
        calm = DeflickerOp(temporal, grain) if temporal else None
        if not isinstance(frames, Tensor):
            plan = plan_for(frames).then(enlarge, DISPLAY_NAME)
            plan = plan if calm is None else plan.then(calm, DISPLAY_NAME)
            return io.NodeOutput(LazyVideo(plan.as_resumable() if resumable else plan))
        clip = to_clip(frames)
        recipe = Pipeline(clip).then(enlarge)
        if calm is not None:
            recipe = recipe.then(calm)
        out = ImageBatch(recipe.info, clip.channels)
        reserve_memory(recipe)
        frames_made = with_estimate(recipe.frames(), recipe, make_notifier(DISPLAY_NAME), in_memory=True)
        for enlarged in with_progress(frames_made, clip.info.length, len, preview_frames=lambda batch: batch):
            out.add(enlarged)
        return io.NodeOutput(out.to_tensor())
