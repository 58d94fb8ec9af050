"""Apply Motion: undo a stabilization, or apply a camera motion to other frames."""

from __future__ import annotations

from comfy_api.latest import Input, io
from torch import Tensor

from ..core.clip import ClipError
from ..core.crop.border import Border
from ..core.path.trajectory import Correction as CorrectionValue
from ..core.pipeline.warp_op import WarpOp
from ..core.smoothing.transfer import TransferMode, transfer, undo
from . import _shared_inputs as shared
from ._comfy.adapter import CorrectionType, ImageOrVideoType, combo_options
from ._comfy.check_links import check_links
from ._comfy.schema import STABILIZE_CATEGORY, node_schema
from ._video.apply import apply_warp
from ._video.inputs import info_from_input

DISPLAY_NAME = "Apply Motion"


class ApplyMotion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="SteadyScale_ApplyMotion",
            display_name=DISPLAY_NAME,
            category=STABILIZE_CATEGORY,
            search_aliases="camera shake, handheld, add shake, undo stabilization, unstabilize, motion transfer, "
            "match move, camera motion",
            description="Puts the camera's shake back on frames that were stabilised, edited and are to fit the "
            "original again; or makes other frames look as if that camera had filmed them: a still image held by "
            "hand.",
            inputs=[
                ImageOrVideoType.Input(
                    "frames",
                    tooltip="For undo: the stabilised frames, edited or not, at their size or upscaled. Otherwise any "
                    "frames; repeat a single image with Repeat Image Batch. IMAGE or VIDEO; alpha is kept.",
                ),
                CorrectionType.Input(
                    "correction", tooltip="From Smooth Trajectory or Stabilize Video, of the clip whose motion it is."
                ),
                io.Combo.Input(
                    "apply",
                    options=combo_options(TransferMode),
                    default=TransferMode.UNDO.value,
                    tooltip="undo: the stabilised frames lie on the original again, exactly. shake: only what the "
                    "stabiliser takes out, for other frames. move: the whole way of the camera, pans and all. With "
                    "as many frames as were measured, frame by frame; else the longest shot's, there and back.",
                ),
                shared.border_input(
                    "What fills the places that the moved frames leave. For undo mirror, fill or black; crop would "
                    "zoom in, and the original would not be met. For shake crop hides the border best. fill works with "
                    "undo only.",
                    default=Border.MIRROR,
                ),
                io.Combo.Input(
                    "stabilized_with",
                    options=combo_options(Border),
                    default=Border.CROP.value,
                    tooltip="For undo: the border that the frames were stabilised with. A crop zoomed in, and that "
                    "is undone too.",
                ),
                shared.pad_input(
                    "For undo: the pad of Warp/Pad Frames, in pixels of these frames. It is taken off again. "
                    "With a pad wider than the shake, everything comes back."
                ),
            ],
            hidden=[io.Hidden.dynprompt],
            outputs=[
                ImageOrVideoType.Output(
                    display_name="frames",
                    tooltip="The moved frames, as many as came in: IMAGE for IMAGE, VIDEO for VIDEO, which is made "
                    "when a node needs its pixels, Save Video for one.",
                ),
                io.Mask.Output(
                    display_name="fill mask",
                    tooltip="White where the border filled a pixel in: what to outpaint. Of IMAGE one mask for each "
                    "frame, of VIDEO a single one for all.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        frames: Tensor | Input.Video,
        correction: CorrectionValue,
        apply: str,
        border: str,
        stabilized_with: str,
        pad: int,
    ) -> io.NodeOutput:
        check_links(cls, frames)
        info, mode = info_from_input(frames), TransferMode(apply)
        if mode is TransferMode.UNDO:
            inner = info.width - 2 * pad, info.height - 2 * pad
            if min(inner) < 1:
                raise ClipError(f"a pad of {pad} leaves nothing of frames of {info.width}x{info.height}")
            motion = undo(correction.resized(*inner), Border(stabilized_with), pad)
            warp_op = WarpOp(motion, Border(border), -pad)
        else:
            if info.length is None:
                raise ClipError("the length of this video is unknown: take its frames from Get Video Components")
            warp_op = WarpOp(transfer(correction, info, info.length, mode), Border(border))
        return io.NodeOutput(*apply_warp(frames, warp_op, DISPLAY_NAME))
