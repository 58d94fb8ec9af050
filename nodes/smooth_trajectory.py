"""Smooth Trajectory: smooth the camera path and compute the correction."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..core.path.border import Border
from ..core.path.motion import Motion
from ..core.path.smooth import Smoothing
from ..core.path.strength import Strength
from ..core.stabilize import StabilizeSettings
from . import _shared_inputs as shared
from ._comfy.adapter import CorrectionType, FlowType
from ._comfy.schema import STABILIZE_CATEGORY, node_schema
from ._video.stabilization import correct_and_plot


class SmoothTrajectory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="SteadyScale_SmoothTrajectory",
            display_name="Smooth Trajectory",
            category=STABILIZE_CATEGORY,
            search_aliases="camera path, smooth camera, camera motion, kalman, tripod, lock camera, level horizon, "
            "video stabilization",
            description="Takes the shake out of the camera's path and keeps its intended moves. Changing these "
            "settings costs no new measuring.",
            advanced="reference, strength_x, strength_y, strength_roll, strength_zoom, strength_tilt, horizon",
            inputs=[
                FlowType.Input("flow", tooltip="From Estimate Flow, or from Load Trajectory."),
                *shared.smoothing_inputs(),
                io.Int.Input(
                    "reference",
                    display_name="reference frame",
                    default=-1,
                    min=-1,
                    max=1_000_000,
                    tooltip="For locked: the frame, counted from 0, whose view is held. -1 holds the median view.",
                ),
                *shared.strength_inputs(),
            ],
            outputs=[
                CorrectionType.Output(
                    display_name="correction", tooltip="For Warp/Pad Frames, at any size of the frames."
                ),
                io.Image.Output(
                    display_name="plot", tooltip="The camera's path before and after. Vertical lines are cuts."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        flow: Motion,
        smoothing: str,
        seconds: float,
        max_zoom: float,
        reference: int,
        strength_x: float = 1.0,
        strength_y: float = 1.0,
        strength_roll: float = 1.0,
        strength_zoom: float = 1.0,
        strength_tilt: float = 1.0,
        horizon: float = shared.STABILIZE_DEFAULTS.horizon,
    ) -> io.NodeOutput:
        settings = StabilizeSettings(
            smoothing=Smoothing(smoothing),
            seconds=seconds,
            border=Border.CROP,  # the border is chosen later, in Warp/Pad Frames: max_zoom must hold for a crop
            max_zoom=max_zoom,
            strength=Strength(strength_x, strength_y, strength_roll, strength_zoom, strength_tilt),
            horizon=horizon,
            reference=reference if reference >= 0 else None,
        )
        correction, plot, _ = correct_and_plot(flow, settings)
        return io.NodeOutput(correction, plot, ui=ui.PreviewImage(plot, cls=cls))
