"""Upscale Frames: larger frames, one at a time, at the size that was asked for."""

from __future__ import annotations

from comfy import model_management
from comfy_api.latest import Input, io
from torch import Tensor

from ..core.pipeline.deflicker_op import Calm
from ..core.pipeline.estimate import announced
from ..core.pipeline.pipeline import Recipe
from ..core.pipeline.upscale_op import Enlarge
from ..core.upscaling.settings import Alpha, Colour, Finish, Precision, Target, Tiling
from ..core.upscaling.upscale import ImageModel
from . import _shared_inputs as shared
from ._comfy.adapter import CATEGORY, Footage, ImageBatch, cancellable, options, to_clip, watched
from ._comfy.check_links import check_wires
from ._comfy.node_text import teller
from ._shared_inputs import ResizeTo
from ._video.lazy_video import LazyVideo, planned
from ._video.render_plan import room_for

NAME = "Upscale Frames"


class UpscaleFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SteadyScale_UpscaleFrames",
            display_name=NAME,
            category=CATEGORY,
            description="Enlarges frames with an ESRGAN network, without seams between tiles, to any factor or size. "
            "Takes models of Load ESRGAN Model and of ComfyUI's own Load Upscale Model. Tiles shrink when memory runs "
            "out.",
            inputs=[
                io.UpscaleModel.Input("upscale_model", tooltip="From Load ESRGAN Model or Load Upscale Model."),
                Footage.Input(
                    "frames",
                    tooltip="One image, all frames of a clip, or a VIDEO of any length, which is never held in memory. "
                    "Alpha is kept.",
                ),
                *shared.size(),
                shared.tile(
                    "Side of the pieces a frame is cut into, in source pixels. 0 chooses by free memory. The result "
                    "is the same for any tile."
                ),
                shared.precision("auto: the fastest that a self-check on the first frame shows to be safe."),
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
                    options=options(Alpha),
                    default=Alpha.RESIZE.value,
                    optional=True,
                    tooltip="How transparency is enlarged. resize: smoothly. network: by the network, with sharper "
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
                    "a GPU. Where that fails, it runs as ever.",
                ),
                shared.resumable(),
            ],
            hidden=[io.Hidden.dynprompt],
            outputs=[
                Footage.Output(
                    display_name="frames",
                    tooltip="The enlarged frames, as many as came in: IMAGE for IMAGE, VIDEO for VIDEO. A VIDEO is "
                    "made when a node needs its pixels, Save Video for one, and progress is shown there.",
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
        colour: str = Colour.NONE.value,
        grain: float = 0.0,
        temporal: float = 0.0,
        alpha: str = Alpha.RESIZE.value,
        linear_light: bool = False,
        compile_network: bool = False,
        resumable: bool = False,
    ) -> io.NodeOutput:
        check_wires(cls, frames)
        target = {
            ResizeTo.MODEL: Target,
            ResizeTo.FACTOR: lambda: Target(factor=factor),
            ResizeTo.SIZE: lambda: Target(size=(width, height)),
        }[ResizeTo(resize_to)]()
        enlarge = Enlarge(
            cancellable(upscale_model),
            target=target,
            tiling=Tiling(size=tile or None),
            precision=Precision(precision),
            device=model_management.get_torch_device(),
            finish=Finish(strength, Colour(colour), 0.0 if temporal else grain, linear_light),
            alpha=Alpha(alpha),
            compile_network=compile_network,
        )
        calm = Calm(temporal, grain) if temporal else None
        if not isinstance(frames, Tensor):
            plan = planned(frames).then(enlarge, NAME)
            plan = plan if calm is None else plan.then(calm, NAME)
            return io.NodeOutput(LazyVideo(plan.resumable() if resumable else plan))
        clip = to_clip(frames)
        recipe = Recipe(clip).then(enlarge)
        if calm is not None:
            recipe = recipe.then(calm)
        out = ImageBatch(recipe.info, clip.channels)
        room_for(recipe)
        frames_made = announced(recipe.frames(), recipe, teller(NAME), held=True)
        for enlarged in watched(frames_made, clip.info.length, len, show=lambda batch: batch):
            out.add(enlarged)
        return io.NodeOutput(out.finished())
