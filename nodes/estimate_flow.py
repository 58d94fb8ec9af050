"""Estimate Flow: the motion from each frame to the next."""

from __future__ import annotations

import torch
from comfy_api.latest import Input, io, ui
from torch import Tensor

from ..core.motion.camera.readout_time import RollingShutter
from ..core.motion.camera.telemetry import Telemetry
from ..core.motion.optical_flow.flow import FlowMethod, FlowModel
from ..core.stabilize import StabilizeSettings, measure_motion, with_known_bars
from ..core.visualize.plots import flow_to_image
from . import _shared_inputs as shared
from ._comfy.adapter import FlowType, ImageOrVideoType, show_output
from ._comfy.schema import STABILIZE_CATEGORY, node_schema
from ._video.stabilization import MotionSource, load_flow_model, open_for_motion, read_input_gyro


class EstimateFlow(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="SteadyScale_EstimateFlow",
            display_name="Estimate Flow",
            category=STABILIZE_CATEGORY,
            search_aliases="optical flow, motion estimation, camera motion, track camera, camera path, farneback, "
            "dis flow, motion vectors",
            description="Measures how the image moves from each frame to the next, and how the camera must have "
            "moved: the first step of stabilisation. Cuts are found on the way. Measure before upscaling: it is "
            "faster.",
            advanced="method, fps, detail, rolling_shutter, hold, region, hold_strength, telemetry",
            inputs=[
                ImageOrVideoType.Input(
                    "frames",
                    tooltip="The frames of one clip, in order: IMAGE, or a VIDEO of any length. A VIDEO that is to be "
                    "upscaled is measured before it is.",
                ),
                shared.flow_method_input(),
                shared.fps_input(
                    "Frames per second of the clip: connect it from Get Video Components. The smoothing window in "
                    "seconds needs it. A VIDEO knows its own, which is taken instead."
                ),
                shared.detail_input(
                    "Longer side, in pixels, of the reduced frames that are measured. More is slower and hardly more "
                    "exact; raise it for tiny texture, lower it for speed."
                ),
                io.Int.Input(
                    "pictures",
                    display_name="flow images",
                    default=8,
                    min=0,
                    max=256,
                    tooltip="How many images of the flow to draw, evenly spread over the clip.",
                ),
                shared.mask_input(),
                shared.rolling_shutter_input(),
                *shared.hold_inputs(),
                shared.telemetry_input(),
            ],
            outputs=[
                FlowType.Output(display_name="flow", tooltip="For Smooth Trajectory."),
                io.Image.Output(
                    display_name="flow image",
                    tooltip="The flow in color: the hue says where to, the strength how fast, white stands still. "
                    "The wheel in the corner is the key.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        frames: Tensor | Input.Video,
        method: str,
        fps: float,
        detail: int,
        pictures: int,
        mask: Tensor | None = None,
        rolling_shutter: str = shared.ROLLING_SHUTTER,
        hold: str = shared.STABILIZE_DEFAULTS.hold.value,
        region: str = "",
        hold_strength: float = shared.STABILIZE_DEFAULTS.hold_strength,
        region_mask: Tensor | None = None,
        telemetry: str = shared.STABILIZE_DEFAULTS.telemetry.value,
    ) -> io.NodeOutput:
        settings = StabilizeSettings(
            flow=FlowMethod(method),
            rolling_shutter=RollingShutter(rolling_shutter),
            telemetry=Telemetry(telemetry),
            **shared.parse_hold(hold, region, hold_strength, region_mask)._asdict(),
        )
        gyro = read_input_gyro(frames, settings)
        clip, model = open_for_motion(frames, fps), load_flow_model(settings)
        settings = with_known_bars(settings, clip)
        source = MotionSource(clip, _spread_pairs(clip.info.length or 1, pictures))
        motion = measure_motion(source, settings, side=detail, mask=mask, flow=model, gyro=gyro)
        image = _draw_flow(source.pairs, model)
        show_output(image)
        return io.NodeOutput(motion, image, ui=ui.PreviewImage(image, cls=cls) if pictures else None)


def _spread_pairs(frame_count: int, pair_count: int) -> list[int]:
    """First frames of up to `pair_count`, but at least one, evenly spaced pairs."""
    pairs = max(frame_count - 1, 1)
    pair_count = max(1, min(pair_count, pairs))
    return [round((i + 0.5) * pairs / pair_count - 0.5) for i in range(pair_count)]


def _draw_flow(pairs: list[list[Tensor]], model: FlowModel) -> Tensor:
    """IMAGE (count, h, w, 3) of the flow of pairs; zero flow for a single frame."""
    complete = [pair for pair in pairs if len(pair) == 2] or [pairs[0] * 2]
    return flow_to_image(torch.cat([model(*pair) for pair in complete])).movedim(1, -1).contiguous()
