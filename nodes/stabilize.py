"""Stabilize Video: measure, smooth and warp in one node."""

from __future__ import annotations

from comfy_api.latest import Input, io, ui
from torch import Tensor

from ..core.crop.border import Border
from ..core.lens import LensDetection
from ..core.motion.camera.readout_time import RollingShutter
from ..core.motion.camera.telemetry import Telemetry
from ..core.motion.optical_flow.flow import FlowMethod
from ..core.pipeline.warp_op import WarpOp
from ..core.smoothing.keyframes import parse_keyframes
from ..core.smoothing.mesh_smooth import MeshWarp
from ..core.smoothing.smooth import Smoothing
from ..core.smoothing.strength import Strength
from ..core.stabilize import StabilizeSettings
from . import _shared_inputs as shared
from ._comfy.adapter import CorrectionType, ImageOrVideoType, show_output
from ._comfy.check_links import check_links
from ._comfy.schema import ESSENTIAL_VIDEO_TOOLS, STABILIZE_CATEGORY, node_schema
from ._video.apply import apply_warp
from ._video.stabilization import correct_and_plot, measure_input_motion

DISPLAY_NAME = "Stabilize Video"


class StabilizeVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="SteadyScale_StabilizeVideo",
            display_name=DISPLAY_NAME,
            category=STABILIZE_CATEGORY,
            essentials_category=ESSENTIAL_VIDEO_TOOLS,
            search_aliases="stabilise, video stabilization, video stabilizer, deshake, anti shake, shaky, shake, "
            "steady, smooth camera, vidstab, rolling shutter, handheld",
            description="Takes the shake out of a clip: Estimate Flow, Smooth Trajectory and Warp/Pad Frames in one. "
            "Take the three apart to upscale in between, or to try settings without measuring again.",
            advanced="fps, method, rolling_shutter, resumable, strength_x, strength_y, strength_roll, strength_zoom, "
            "strength_tilt, horizon, keyframes, mesh, lens, field_of_view, hold, region, hold_strength, "
            "telemetry",
            inputs=[
                ImageOrVideoType.Input(
                    "frames",
                    tooltip="The frames of one clip, in order: IMAGE, or a VIDEO of any length. Alpha is kept.",
                ),
                shared.fps_input(
                    "Frames per second of the clip: connect it from Get Video Components. The smoothing window in "
                    "seconds needs it. A VIDEO knows its own, which is taken instead."
                ),
                *shared.smoothing_inputs(),
                shared.border_input(
                    "crop: zoom in just enough that no border shows; crop-adaptive: only as much as each moment needs, "
                    "changing slowly. The others keep the whole frame, whatever max_zoom says, and fill: mirror "
                    "(reflect), wrap (circular), edge (stretch the last pixel), black (transparent with alpha), fill "
                    "(from the frames before and after; mirror where none saw it)."
                ),
                shared.flow_method_input(),
                shared.mask_input(),
                shared.rolling_shutter_input(),
                shared.resumable_input(),
                *shared.strength_inputs(),
                shared.keyframes_input(),
                shared.mesh_input(),
                *shared.lens_inputs(),
                *shared.hold_inputs(),
                shared.telemetry_input(),
            ],
            hidden=[io.Hidden.dynprompt],
            outputs=[
                ImageOrVideoType.Output(
                    display_name="frames",
                    tooltip="The steady frames, as many as came in: IMAGE for IMAGE, VIDEO for VIDEO, which is made "
                    "when a node needs its pixels, Save Video for one.",
                ),
                io.Mask.Output(
                    display_name="fill mask",
                    tooltip="White where the border filled a pixel in: what to outpaint. Of IMAGE one mask for each "
                    "frame, of VIDEO a single one for all.",
                ),
                CorrectionType.Output(
                    display_name="correction",
                    tooltip="What was done: for Apply Motion, and for Warp/Pad Frames with other frames of this clip.",
                ),
                io.Image.Output(
                    display_name="plot", tooltip="The camera's path before and after. Vertical lines are cuts."
                ),
                io.String.Output(
                    display_name="info",
                    tooltip="What was done, in one line: the zoom and the frame that needs it, cuts, and the shake "
                    "before and after.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        frames: Tensor | Input.Video,
        fps: float,
        smoothing: str,
        seconds: float,
        max_zoom: float,
        border: str,
        method: str,
        mask: Tensor | None = None,
        rolling_shutter: str = shared.ROLLING_SHUTTER,
        resumable: bool = False,
        strength_x: float = 1.0,
        strength_y: float = 1.0,
        strength_roll: float = 1.0,
        strength_zoom: float = 1.0,
        strength_tilt: float = 1.0,
        horizon: float = shared.STABILIZE_DEFAULTS.horizon,
        keyframes: str = "",
        mesh: str = shared.STABILIZE_DEFAULTS.mesh.value,
        lens: str = LensDetection.AUTO.value,
        field_of_view: float = 0.0,
        hold: str = shared.STABILIZE_DEFAULTS.hold.value,
        region: str = "",
        hold_strength: float = shared.STABILIZE_DEFAULTS.hold_strength,
        region_mask: Tensor | None = None,
        telemetry: str = shared.STABILIZE_DEFAULTS.telemetry.value,
    ) -> io.NodeOutput:
        check_links(cls, frames)
        settings = StabilizeSettings(
            smoothing=Smoothing(smoothing),
            seconds=seconds,
            border=Border(border),
            max_zoom=max_zoom,
            flow=FlowMethod(method),
            strength=Strength(strength_x, strength_y, strength_roll, strength_zoom, strength_tilt),
            horizon=horizon,
            rolling_shutter=RollingShutter(rolling_shutter),
            keyframes=parse_keyframes(keyframes),
            mesh=MeshWarp(mesh),
            lens=shared.parse_lens_inputs(lens, field_of_view),
            telemetry=Telemetry(telemetry),
            **shared.parse_hold(hold, region, hold_strength, region_mask)._asdict(),
        )
        motion, job_folders = measure_input_motion(frames, fps, settings, mask, resumable)
        correction, plot, info = correct_and_plot(motion, settings)
        warp_op = WarpOp(correction, settings.border)
        result, fill_mask = apply_warp(frames, warp_op, DISPLAY_NAME, job_folders, output_image=plot)
        show_output(plot)
        return io.NodeOutput(result, fill_mask, correction, plot, info, ui=ui.PreviewImage(plot, cls=cls))
