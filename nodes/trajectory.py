"""Smooth Trajectory: where the camera went, where it should have gone, and what corrects it."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..core.crop import limit_zoom
from ..core.pictures import path_picture
from ..core.smooth import Smoothing, smooth
from ..core.trajectory import Trajectory, correction
from ._comfy import CATEGORY, Correction, Flow, options
from .flow import ClipFlow


class SmoothTrajectory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SteadyScale_SmoothTrajectory",
            display_name="Smooth Trajectory",
            category=CATEGORY,
            description="Takes the shake out of the camera's path and keeps its intended moves. Changing these "
            "settings "
            "costs no new measuring.",
            inputs=[
                Flow.Input("flow", tooltip="From Estimate Flow."),
                io.Combo.Input(
                    "smoothing",
                    options=options(Smoothing),
                    default=Smoothing.KALMAN.value,
                    tooltip="kalman: looks at past and future; the best choice. kalman-causal: at the past only, as a "
                    "live camera must; lags. gaussian: a plain weighted mean. locked: as if on a tripod. l1: stands "
                    "still, moves evenly or speeds up evenly, as a dolly does, and never needs more than max_zoom.",
                ),
                io.Float.Input(
                    "seconds",
                    default=3.0,
                    min=0.05,
                    max=60.0,
                    step=0.05,
                    tooltip="Swings of the camera quicker than this are taken for shake and removed. More is steadier "
                    "and "
                    "costs more of the picture's edges.",
                ),
                io.Float.Input(
                    "max_zoom",
                    default=1.3,
                    min=1.0,
                    max=4.0,
                    step=0.01,
                    tooltip="The most that cropping may enlarge the picture, 1.3 = 30 %. Where the shake needs more, "
                    "less "
                    "of it is removed.",
                ),
                io.Int.Input(
                    "reference",
                    default=-1,
                    min=-1,
                    max=1_000_000,
                    tooltip="For locked: the frame, counted from 0, whose view is held. -1 holds the median view.",
                ),
            ],
            outputs=[
                Correction.Output(display_name="correction", tooltip="For Warp/Pad Frames, at any size of the frames."),
                io.Image.Output(
                    display_name="plot", tooltip="The camera's path before and after. Vertical lines are cuts."
                ),
            ],
        )

    @classmethod
    def execute(cls, flow: ClipFlow, smoothing: str, seconds: float, max_zoom: float, reference: int) -> io.NodeOutput:
        measured = Trajectory.of(flow.motion)
        held = reference if reference >= 0 else None
        wanted = smooth(measured, Smoothing(smoothing), seconds, reference=held, max_zoom=max_zoom)
        fix = limit_zoom(correction(measured, wanted), max_zoom)
        plot = path_picture(measured, measured.corrected(fix)).movedim(1, -1).contiguous()
        return io.NodeOutput(fix, plot, ui=ui.PreviewImage(plot, cls=cls))
