"""Upscale Frames: upscale with a network to a factor or size, frame by frame."""

from __future__ import annotations

from comfy_api.latest import Input, io
from torch import Tensor

from ..core.pipeline.upscale_operations import upscale_operations
from ..core.upscaling.settings import Alpha, ColorCorrection, PostProcess, Precision, Tiling, UpscaleSettings
from ..core.upscaling.upscale import ImageModel
from . import _shared_inputs as shared
from ._comfy.adapter import ImageOrVideoType, combo_options, with_cancel_check
from ._comfy.check_links import check_links
from ._comfy.device import compute_device
from ._comfy.schema import ESSENTIAL_VIDEO_TOOLS, UPSCALE_CATEGORY, node_schema
from ._default_model import model_or_default
from ._video.apply import apply_operations

DISPLAY_NAME = "Upscale Frames"
_POSTPROCESS = shared.UPSCALE_DEFAULTS.postprocess


class UpscaleFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="SteadyScale_UpscaleFrames",
            display_name=DISPLAY_NAME,
            category=UPSCALE_CATEGORY,
            essentials_category=ESSENTIAL_VIDEO_TOOLS,
            search_aliases="upscale video, video upscale, video upscaler, upscale image, super resolution, "
            "real-esrgan, esrgan, upres, sharpen, 2x, 4x, 4k, hd, deflicker, film grain",
            description="Upscales frames with an ESRGAN network, without seams between tiles, to any factor or size. "
            "Takes models of Load ESRGAN Model and of ComfyUI's own Load Upscale Model. Tiles shrink when memory runs "
            "out.",
            advanced="tile, precision, strength, colour, grain, alpha, linear_light, compile_network, resumable",
            inputs=[
                shared.model_input(),
                ImageOrVideoType.Input(
                    "frames",
                    tooltip="One image, all frames of a clip, or a VIDEO of any length, which is never held in memory. "
                    "Alpha is kept.",
                ),
                *shared.size_inputs(),
                shared.tile_input(
                    "Side of the pieces a frame is cut into, in source pixels. 0 chooses by free memory. ESRGAN "
                    "networks give the same result for any tile; that of networks which look at the whole frame "
                    "(OmniSR, HAT, SwinIR) changes a little."
                ),
                shared.precision_input("auto: the fastest that a self-check on the first frame shows to be safe."),
                io.Float.Input(
                    "strength",
                    default=_POSTPROCESS.strength,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="How much of the network to show. 1: all of it, 0: a plain resize, between: a blend of the "
                    "two, for networks that sharpen too much.",
                ),
                io.Combo.Input(
                    "colour",
                    display_name="color correction",
                    options=combo_options(ColorCorrection),
                    default=_POSTPROCESS.color_correction.value,
                    optional=True,
                    tooltip="What to take back of the source's color, which networks shift a little. mean: each "
                    "frame's average. wavelet: all coarse color, so that the network gives the detail only.",
                ),
                io.Float.Input(
                    "grain",
                    default=_POSTPROCESS.grain,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="Film grain, different in each frame and the same in each run; 0.1 to 0.3 hides a plastic "
                    "look. 0 adds none.",
                ),
                io.Float.Input(
                    "temporal",
                    display_name="deflicker",
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
                    default=shared.UPSCALE_DEFAULTS.alpha.value,
                    optional=True,
                    tooltip="How transparency is upscaled. resize: smoothly. network: by the network, with sharper "
                    "outlines, in twice the time.",
                ),
                io.Boolean.Input(
                    "linear_light",
                    default=_POSTPROCESS.linear_light,
                    optional=True,
                    tooltip="Where frames are resized after the network, resize light rather than stored values: fine "
                    "bright detail does not darken. Slower.",
                ),
                io.Boolean.Input(
                    "compile_network",
                    display_name="compile with torch",
                    default=shared.UPSCALE_DEFAULTS.compile,
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
        frames: Tensor | Input.Video,
        resize_to: str,
        factor: float,
        width: int,
        height: int,
        tile: int,
        precision: str,
        upscale_model: ImageModel | None = None,
        strength: float = _POSTPROCESS.strength,
        colour: str = _POSTPROCESS.color_correction.value,
        grain: float = _POSTPROCESS.grain,
        temporal: float = 0.0,
        alpha: str = shared.UPSCALE_DEFAULTS.alpha.value,
        linear_light: bool = _POSTPROCESS.linear_light,
        compile_network: bool = shared.UPSCALE_DEFAULTS.compile,
        resumable: bool = False,
    ) -> io.NodeOutput:
        check_links(cls, frames)
        size = shared.parse_output_size(resize_to, factor, width, height)
        settings = UpscaleSettings(
            size=size,
            tiling=Tiling(size=tile or None),
            precision=Precision(precision),
            postprocess=PostProcess(strength, ColorCorrection(colour), grain, linear_light),
            alpha=Alpha(alpha),
            compile=compile_network,
        )
        operations = upscale_operations(
            with_cancel_check(model_or_default(upscale_model, size, frames)),
            settings,
            deflicker=temporal,
            device=compute_device(),
        )
        return io.NodeOutput(apply_operations(frames, operations, DISPLAY_NAME, [] if resumable else None))
