"""Preview Trajectory and Preview Flow: plot a path, a crop and one frame's motion."""

from __future__ import annotations

from dataclasses import replace

import torch
from comfy_api.latest import Input, io, ui
from torch import Tensor

from ..core.clip import ClipError
from ..core.crop.border import Border
from ..core.motion.estimate import downscale_luma
from ..core.motion.optical_flow.flow import FlowMethod, flow_model
from ..core.path.motion import Motion
from ..core.path.trajectory import Correction as CorrectionValue
from ..core.path.trajectory import Trajectory, correction
from ..core.pipeline.preview_frames import preview_frames, read_frame
from ..core.visualize.crop_overlay import blank_frame, draw_crop_overlay, find_max_zoom_frame, identity_correction
from ..core.visualize.flow_arrows import draw_flow_arrows
from ..core.visualize.plots import flow_to_image, plot_trajectory
from . import _shared_inputs as shared
from ._comfy.adapter import ImageOrVideoType, with_cancel_check
from ._comfy.schema import PREVIEW_CATEGORY, node_schema
from ._video.inputs import clip_from_input

FlowOrCorrectionType = io.Custom("STEADYSCALE_FLOW,STEADYSCALE_CORRECTION")
"""The output of Estimate Flow or of Smooth Trajectory."""
FLOW_STYLES = ["arrows", "colours"]


class PreviewTrajectory(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="SteadyScale_PreviewTrajectory",
            display_name="Preview Trajectory",
            category=PREVIEW_CATEGORY,
            search_aliases="camera path, plot motion, show camera path, crop preview, stabilization graph",
            description="Draws how the camera moved and how it will seem to move, what each border costs, and, on a "
            "frame, what is cut away or filled in. Nothing is warped for it.",
            is_output_node=True,
            inputs=[
                FlowOrCorrectionType.Input(
                    "path",
                    tooltip="The correction of Smooth Trajectory or Stabilize Video; or a flow, of Estimate Flow or "
                    "Load Trajectory, which shows the path as it was measured.",
                ),
                shared.border_input(
                    "What the frames will be warped with. crop and crop-adaptive cut away, and the plot shows how far "
                    "they zoom in; mirror, wrap, edge, black and fill put something where pixels are missing."
                ),
                shared.max_zoom_input(
                    "The budget to name beside the largest crop: that of Smooth Trajectory, 1.3 = 30 %. Nothing is "
                    "changed by it."
                ),
                io.Int.Input(
                    "frame",
                    display_name="frame number",
                    default=-1,
                    min=-1,
                    max=10_000_000,
                    tooltip="Number of the frame to draw on, counted from 0. -1 takes the one that needs the largest "
                    "zoom.",
                ),
                ImageOrVideoType.Input(
                    "frames",
                    optional=True,
                    tooltip="The clip, at any size, to draw on: IMAGE or VIDEO. Without it a gray frame is used.",
                ),
                io.Boolean.Input(
                    "details",
                    default=False,
                    optional=True,
                    tooltip="Adds rows for rotation, zoom and the crop of each frame to the plot.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="plot",
                    tooltip="The camera's path before and after. Vertical lines are cuts and the frame of the largest "
                    "crop.",
                ),
                io.Image.Output(
                    display_name="image",
                    tooltip="The frame: red is cut away, blue is filled in, the white outline is what will be seen.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        path: Motion | CorrectionValue,
        border: str,
        max_zoom: float,
        frame: int,
        frames: Tensor | Input.Video | None = None,
        details: bool = False,
    ) -> io.NodeOutput:
        if isinstance(path, Motion):
            before = Trajectory.of(path)
            fix = replace(identity_correction(correction(before, before)), bars=path.bars)
            sheet = plot_trajectory(before, None, details=details)
        else:
            fix = path
            if fix.poses is None:
                raise ClipError(
                    "this correction does not say which way the camera went: take it from Smooth Trajectory"
                )
            before = Trajectory(fix.poses, fix.shots, fix.info, times=fix.times)
            sheet = plot_trajectory(
                before,
                before.corrected(fix),
                applied=fix,
                max_zoom=max_zoom,
                border=Border(border),
                details=details,
            )
        number = find_max_zoom_frame(fix) if frame < 0 else frame
        source = blank_frame(fix) if frames is None else read_frame(clip_from_input(frames), number)
        overlay = draw_crop_overlay(source, fix, number, Border(border))
        plot, image = (image.movedim(1, -1).contiguous() for image in (sheet, overlay))
        outputs = ui.PreviewImage(plot, cls=cls).as_dict()
        outputs["images"] = [*outputs["images"], *ui.PreviewImage(image, cls=cls).as_dict()["images"]]
        return io.NodeOutput(plot, image, ui=outputs)


class PreviewFlow(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="SteadyScale_PreviewFlow",
            display_name="Preview Flow",
            category=PREVIEW_CATEGORY,
            search_aliases="optical flow, show motion, motion vectors, flow visualization",
            description="Draws how one frame moves to the next: arrows on the frame, or hues. Only these two frames "
            "are measured, so methods can be tried before a clip is.",
            is_output_node=True,
            advanced="detail",
            inputs=[
                ImageOrVideoType.Input("frames", tooltip="The frames of one clip: IMAGE, or a VIDEO of any length."),
                shared.frame_number_input("Number of the first of the two frames, counted from 0."),
                shared.flow_method_input(),
                io.Combo.Input(
                    "show",
                    options=FLOW_STYLES,
                    default=FLOW_STYLES[0],
                    tooltip="arrows: on the frame, from where a pixel is to where it goes. colours: the hue says where "
                    "to, the strength how fast, white stands still. The wheel in the corner is the key to both.",
                ),
                shared.detail_input(
                    "Longer side, in pixels, of the reduced frames that are measured, as in Estimate Flow."
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The flow of that frame as an image.")],
        )

    @classmethod
    def execute(cls, frames: Tensor | Input.Video, frame: int, method: str, show: str, detail: int) -> io.NodeOutput:
        clip = clip_from_input(frames)
        pair = list(preview_frames(clip, range(frame, frame + 2)))
        if len(pair) < 2:
            raise ClipError(
                f"frame {frame} is the last one, so there is none that it moves to: choose an earlier frame"
            )
        small = clip.info.fit_within(detail)
        luma = [torch.from_numpy(downscale_luma(one, small.height, small.width)) for one in pair]
        flow = with_cancel_check(flow_model(FlowMethod(method)))(*luma)
        sheet = draw_flow_arrows(pair[0], flow) if show == "arrows" else flow_to_image(flow)
        image = sheet.movedim(1, -1).contiguous()
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))
