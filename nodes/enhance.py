"""Enhance Video: upscale and stabilize in one node, with one decode and encode."""

from __future__ import annotations

from comfy_api.latest import Input, io, ui
from torch import Tensor

from ..core.crop.border import Border
from ..core.lens import LensDetection
from ..core.motion.camera.readout_time import RollingShutter
from ..core.pipeline.upscale_operations import upscale_operations
from ..core.pipeline.warp_op import WarpOp
from ..core.smoothing.keyframes import parse_keyframes
from ..core.smoothing.smooth import Smoothing
from ..core.stabilize import StabilizeSettings
from ..core.upscaling.settings import UpscaleSettings
from ..core.upscaling.upscale import ImageModel
from . import _shared_inputs as shared
from ._comfy.adapter import ImageOrVideoType, show_output, with_cancel_check
from ._comfy.check_links import check_links
from ._comfy.device import compute_device
from ._comfy.schema import ESSENTIAL_VIDEO_TOOLS, UPSCALE_CATEGORY, node_schema
from ._default_model import model_or_default
from ._video.apply import apply_operations
from ._video.stabilization import correct_and_plot, measure_input_motion

DISPLAY_NAME = "Enhance Video"


class EnhanceVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="SteadyScale_EnhanceVideo",
            display_name=DISPLAY_NAME,
            category=UPSCALE_CATEGORY,
            essentials_category=ESSENTIAL_VIDEO_TOOLS,
            search_aliases="upscale video, video upscale, video upscaler, super resolution, real-esrgan, 2x, 4x, "
            "video stabilization, deshake, shaky, steady, restore video",
            description="Larger and steadier in one: motion is measured on the small frames, the frames are upscaled, "
            "and the large ones are moved. The single nodes have more settings, and change one without redoing all.",
            advanced="fps, width, height, max_zoom, rolling_shutter, resumable, keyframes, lens, field_of_view",
            inputs=[
                shared.model_input(),
                ImageOrVideoType.Input(
                    "frames",
                    tooltip="The frames of one clip, in order: a VIDEO of any length, or IMAGE. Alpha is kept.",
                ),
                shared.fps_input(
                    "Frames per second of IMAGE, which the smoothing window in seconds needs. A VIDEO knows its own."
                ),
                *shared.size_inputs(
                    size_note="; the size has to be of the shape of the frames. Show advanced inputs displays width "
                    "and height"
                ),
                *shared.smoothing_inputs(),
                shared.border_input(
                    "What stands where the source does not reach: crop and crop-adaptive zoom in until nothing is "
                    "missing; mirror, wrap, edge and black fill; fill looks in the frames before and after."
                ),
                shared.rolling_shutter_input(),
                shared.resumable_input(),
                shared.keyframes_input(),
                *shared.lens_inputs(),
            ],
            hidden=[io.Hidden.dynprompt],
            outputs=[
                ImageOrVideoType.Output(
                    display_name="frames",
                    tooltip="As many as came in: VIDEO for VIDEO, IMAGE for IMAGE. A VIDEO is made when a node needs "
                    "its pixels, Save Video for one, which displays the progress.",
                ),
                io.Image.Output(
                    display_name="plot", tooltip="The camera's path before and after. Vertical lines are cuts."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        frames: Tensor | Input.Video,
        fps: float,
        resize_to: str,
        factor: float,
        width: int,
        height: int,
        smoothing: str,
        seconds: float,
        max_zoom: float,
        border: str,
        upscale_model: ImageModel | None = None,
        rolling_shutter: str = shared.ROLLING_SHUTTER,
        resumable: bool = False,
        keyframes: str = "",
        lens: str = LensDetection.AUTO.value,
        field_of_view: float = 0.0,
    ) -> io.NodeOutput:
        check_links(cls, frames)
        settings = StabilizeSettings(
            smoothing=Smoothing(smoothing),
            seconds=seconds,
            border=Border(border),
            max_zoom=max_zoom,
            rolling_shutter=RollingShutter(rolling_shutter),
            keyframes=parse_keyframes(keyframes),
            lens=shared.parse_lens_inputs(lens, field_of_view),
        )
        motion, job_folders = measure_input_motion(frames, fps, settings, None, resumable)
        correction, plot, _ = correct_and_plot(motion, settings)
        size = shared.parse_output_size(resize_to, factor, width, height)
        model = with_cancel_check(model_or_default(upscale_model, size, frames))
        operations = [
            *upscale_operations(model, UpscaleSettings(size), device=compute_device()),
            WarpOp(correction, settings.border),
        ]
        result = apply_operations(frames, operations, DISPLAY_NAME, job_folders, output_image=plot)
        show_output(plot)
        return io.NodeOutput(result, plot, ui=ui.PreviewImage(plot, cls=cls))
