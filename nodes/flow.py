"""Estimate Flow: how the picture moves from each frame to the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from comfy import model_management
from comfy_api.latest import io, ui
from torch import Tensor

from ..core.clip import Frames, TensorClip
from ..core.flow import FlowMethod, FlowModel, flow_model
from ..core.motion import WORKING_SIDE, Motion, estimate_motion, greys
from ..core.pictures import flow_picture
from ._comfy import CATEGORY, Flow, cancellable, options, to_clip, watched


@dataclass(frozen=True)
class ClipFlow:
    """What travels on a STEADYSCALE_FLOW wire: the camera's motion, and how to get the dense flow again when wanted.

    The dense fields are not kept: they are as large as the clip itself.
    """

    motion: Motion
    clip: TensorClip
    model: FlowModel
    side: int

    def between(self, first: int) -> Tensor:
        """The flow from frame `first` to the next: (1, 2, h, w) in pixels of the reduced frames."""
        pair = list(islice(greys(self.clip, self.side), first, first + 2))
        return self.model(pair[0], pair[-1])


class EstimateFlow(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SteadyScale_EstimateFlow",
            display_name="Estimate Flow",
            category=CATEGORY,
            description="Measures how the picture moves from each frame to the next, and how the camera must have "
            "moved: the first step of stabilisation. Cuts are found on the way. Measure before upscaling: it is "
            "faster.",
            inputs=[
                io.Image.Input("frames", tooltip="The frames of one clip, in order."),
                io.Combo.Input(
                    "method",
                    options=options(FlowMethod),
                    default=FlowMethod.FARNEBACK.value,
                    tooltip="farneback: the most exact on most footage. dis: several times faster, and better where "
                    "the picture has little texture (walls, sky).",
                ),
                io.Float.Input(
                    "fps",
                    default=24.0,
                    min=1.0,
                    max=1000.0,
                    step=0.01,
                    tooltip="Frames per second of the clip: connect it from Get Video Components. It makes the "
                    "smoothing's "
                    "seconds true.",
                ),
                io.Int.Input(
                    "detail",
                    default=WORKING_SIDE,
                    min=64,
                    max=4096,
                    step=16,
                    tooltip="Longer side, in pixels, of the reduced frames that are measured. More is slower and "
                    "hardly more exact; raise it for tiny texture, lower it for speed.",
                ),
                io.Int.Input(
                    "pictures",
                    default=8,
                    min=0,
                    max=256,
                    tooltip="How many pictures of the flow to draw, evenly spread over the clip.",
                ),
            ],
            outputs=[
                Flow.Output(display_name="flow", tooltip="For Smooth Trajectory."),
                io.Image.Output(
                    display_name="picture",
                    tooltip="The flow in colours: the hue says where to, the strength how fast, white stands still. "
                    "The wheel in the corner is the key.",
                ),
            ],
        )

    @classmethod
    def execute(cls, frames: Tensor, method: str, fps: float, detail: int, pictures: int) -> io.NodeOutput:
        clip = to_clip(frames, fps)
        model = cancellable(flow_model(FlowMethod(method), model_management.get_torch_device()))
        motion = estimate_motion(_Watched(clip), model, side=detail)
        flow = ClipFlow(motion, clip, model, detail)
        picture = _pictures(flow, pictures)
        return io.NodeOutput(flow, picture, ui=ui.PreviewImage(picture, cls=cls) if pictures else None)


class _Watched:
    """A clip whose reading moves the progress bar."""

    def __init__(self, clip: TensorClip) -> None:
        self.info = clip.info
        self._clip = clip

    def frames(self, batch: int = 1) -> Iterator[Frames]:
        return watched(self._clip.frames(batch), self.info.length, len)


def _pictures(flow: ClipFlow, count: int) -> Tensor:
    """IMAGE (count, h, w, 3) of pairs evenly spread over the clip; at least one, since an IMAGE cannot be empty."""
    pairs = max((flow.clip.info.length or 1) - 1, 1)
    count = max(1, min(count, pairs))
    first = [round((i + 0.5) * pairs / count - 0.5) for i in range(count)]
    fields = torch.cat([flow.between(i) for i in first])
    return flow_picture(fields).movedim(1, -1).contiguous()
