"""Warp/Pad Frames: apply a correction and fill the borders."""

from __future__ import annotations

from comfy_api.latest import Input, io
from torch import Tensor

from ..core.crop.border import Border
from ..core.path.trajectory import Correction as CorrectionValue
from ..core.pipeline.warp_op import WarpOp
from . import _shared_inputs as shared
from ._comfy.adapter import CorrectionType, ImageOrVideoType
from ._comfy.check_links import check_links
from ._comfy.schema import STABILIZE_CATEGORY, node_schema
from ._video.apply import apply_warp

DISPLAY_NAME = "Warp/Pad Frames"


class WarpFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="SteadyScale_WarpFrames",
            display_name=DISPLAY_NAME,
            category=STABILIZE_CATEGORY,
            search_aliases="warp, pad, outpaint, fill border, crop, video stabilization, fill mask",
            description="Moves every frame to where the smooth path wants it, in one bicubic look-up. Takes the "
            "measured frames or the same frames upscaled.",
            inputs=[
                ImageOrVideoType.Input(
                    "frames",
                    tooltip="The frames that were measured, at their size or upscaled: IMAGE, or a VIDEO of any "
                    "length. Alpha is kept.",
                ),
                CorrectionType.Input("correction", tooltip="From Smooth Trajectory."),
                shared.border_input(
                    "crop: zoom in just enough that no border shows; crop-adaptive: only as much as each moment needs, "
                    "changing slowly. The others keep the whole frame and fill: mirror (reflect), wrap (circular), "
                    "edge (stretch the last pixel), black (transparent with alpha), fill (from the frames before and "
                    "after; mirror where none saw it)."
                ),
                shared.pad_input(
                    "Pixels of canvas added on each side and filled by the border: room to outpaint. Not with crop."
                ),
            ],
            hidden=[io.Hidden.dynprompt],
            outputs=[
                ImageOrVideoType.Output(
                    display_name="frames",
                    tooltip="The steady frames: IMAGE for IMAGE, VIDEO for VIDEO. A VIDEO is made when a node needs "
                    "its pixels, Save Video for one; upscaling after this node is then done before the warp.",
                ),
                io.Mask.Output(
                    display_name="fill mask",
                    tooltip="White where the border filled a pixel in: what to outpaint. Of IMAGE one mask for each "
                    "frame; of VIDEO a single one, white where any frame has such a pixel, with a rim of a few pixels.",
                ),
            ],
        )

    @classmethod
    def execute(cls, frames: Tensor | Input.Video, correction: CorrectionValue, border: str, pad: int) -> io.NodeOutput:
        check_links(cls, frames)
        warp_op = WarpOp(correction, Border(border), pad)
        return io.NodeOutput(*apply_warp(frames, warp_op, DISPLAY_NAME))
