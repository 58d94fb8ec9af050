"""Smooth Trajectory: smooth the camera path and compute the correction."""

from __future__ import annotations

import os

from comfy_api.latest import io, ui

from ..core.clip import ClipError
from ..core.crop.border import Border
from ..core.path.motion import Motion
from ..core.smoothing.keyframes import has_value, parse_keyframes
from ..core.smoothing.smooth import Smoothing
from ..core.smoothing.strength import Strength
from ..core.stabilize import StabilizeSettings
from . import _shared_inputs as shared
from ._comfy.adapter import CorrectionType, FlowType
from ._comfy.paths import SMOOTHERS_FOLDER, find_smoother_file, list_smoother_files
from ._comfy.schema import STABILIZE_CATEGORY, node_schema
from ._video.stabilization import correct_and_plot

BUNDLED_SMOOTHER = "bundled"


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
            advanced="reference, strength_x, strength_y, strength_roll, strength_zoom, strength_tilt, horizon, "
            "smoother, keyframes",
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
                io.Combo.Input(
                    "smoother",
                    display_name="learned smoother",
                    options=[BUNDLED_SMOOTHER, *list_smoother_files()],
                    default=BUNDLED_SMOOTHER,
                    optional=True,
                    tooltip="For learned: its network. bundled comes with the pack; others are files of `steadyscale "
                    "train-smoother` in ComfyUI/models/path_smoothers.",
                ),
                shared.keyframes_input(),
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
    def validate_inputs(cls, smoother: str = BUNDLED_SMOOTHER) -> bool | str:
        # Hosts up to 0.3.75 do not check the dropdowns of V3 nodes, and a name from an API call may be anything.
        if smoother == BUNDLED_SMOOTHER or smoother in list_smoother_files():
            return True
        return (
            f"{smoother!r} is not in ComfyUI's models/{SMOOTHERS_FOLDER}: "
            "put the file there and refresh, or choose another"
        )

    @classmethod
    def fingerprint_inputs(cls, smoother: str = BUNDLED_SMOOTHER, **_: object) -> tuple[str, float, int]:
        path = find_smoother_file(smoother)
        if path is None:
            return smoother, 0.0, 0
        status = os.stat(path)
        return path, status.st_mtime, status.st_size

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
        smoother: str = BUNDLED_SMOOTHER,
        keyframes: str = "",
    ) -> io.NodeOutput:
        file = None if smoother == BUNDLED_SMOOTHER else find_smoother_file(smoother)
        if file is None and smoother != BUNDLED_SMOOTHER:
            raise ClipError(f"{smoother!r} was deleted from models/{SMOOTHERS_FOLDER}: refresh, and choose another")
        moments = parse_keyframes(keyframes)
        # The border is chosen later, in Warp/Pad Frames: max_zoom must hold for a crop.
        border = Border.CROP_ADAPTIVE if has_value(moments, "max_zoom") else Border.CROP
        settings = StabilizeSettings(
            smoothing=Smoothing(smoothing),
            seconds=seconds,
            border=border,
            max_zoom=max_zoom,
            strength=Strength(strength_x, strength_y, strength_roll, strength_zoom, strength_tilt),
            horizon=horizon,
            reference=reference if reference >= 0 else None,
            smoother=file,
            keyframes=moments,
        )
        correction, plot, _ = correct_and_plot(flow, settings)
        return io.NodeOutput(correction, plot, ui=ui.PreviewImage(plot, cls=cls))
