"""Estimate Flow: the motion from each frame to the next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from comfy import model_management
from comfy_api.latest import Input, io, ui
from torch import Tensor

from ..core.clip import Clip
from ..core.motion.estimate import WORKING_SIDE, estimate_motion, luma_frames
from ..core.motion.flow import FlowMethod, FlowModel, flow_model
from ..core.motion.gray_frame import Plane
from ..core.motion.readout_time import RollingShutter, with_rolling_shutter
from ..core.path.motion import Motion
from ..core.visualize.plots import flow_to_image
from . import _shared_inputs as shared
from ._comfy.adapter import CATEGORY, FlowType, ImageOrVideoType, to_clip, with_cancel_check, with_progress
from ._video.lazy_video import plan_for
from ._video.render_plan import reserve_memory
from ._video.resumable import measure_resumable


class EstimateFlow(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SteadyScale_EstimateFlow",
            display_name="Estimate Flow",
            category=CATEGORY,
            description="Measures how the image moves from each frame to the next, and how the camera must have "
            "moved: the first step of stabilisation. Cuts are found on the way. Measure before upscaling: it is "
            "faster.",
            inputs=[
                ImageOrVideoType.Input(
                    "frames",
                    tooltip="The frames of one clip, in order: IMAGE, or a VIDEO of any length. A VIDEO that is to be "
                    "upscaled is measured before it is.",
                ),
                shared.flow_method_input(),
                shared.fps_input(
                    "Frames per second of the clip: connect it from Get Video Components. It makes the smoothing's "
                    "seconds true. A VIDEO knows its own, which is taken instead."
                ),
                shared.detail_input(
                    "Longer side, in pixels, of the reduced frames that are measured. More is slower and hardly more "
                    "exact; raise it for tiny texture, lower it for speed."
                ),
                io.Int.Input(
                    "pictures",
                    default=8,
                    min=0,
                    max=256,
                    tooltip="How many images of the flow to draw, evenly spread over the clip.",
                ),
                shared.mask_input(),
                shared.rolling_shutter_input(),
            ],
            outputs=[
                FlowType.Output(display_name="flow", tooltip="For Smooth Trajectory."),
                io.Image.Output(
                    display_name="picture",
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
        rolling_shutter: str = RollingShutter.AUTO.value,
    ) -> io.NodeOutput:
        if isinstance(frames, Tensor):
            clip = to_clip(frames, fps)
        else:
            clip = plan_for(frames).pipeline
            reserve_memory(clip.motion_source())
        model = with_cancel_check(flow_model(FlowMethod(method), model_management.get_torch_device()))
        reader = _PairRecorder(clip, _spread_pairs(clip.info.length or 1, pictures))
        motion = estimate_motion(reader, model, side=detail, mask=mask)
        motion = with_rolling_shutter(motion, RollingShutter(rolling_shutter).readout)
        image = _draw_flow(reader.pairs, model)
        return io.NodeOutput(motion, image, ui=ui.PreviewImage(image, cls=cls) if pictures else None)


def measure_motion(
    frames: Tensor | Input.Video,
    fps: float,
    method: FlowMethod,
    mask: Tensor | None,
    rolling_shutter: str,
    resumable: bool,
) -> tuple[Motion, list[Path] | None]:
    """Estimate motion at the default size; return it and the job folders.

    The folders are for `make_resumable`: none for an IMAGE, and None if the result is not to be resumable.
    """
    plan = None if isinstance(frames, Tensor) else plan_for(frames)
    if plan is not None:
        reserve_memory(plan.pipeline.motion_source())
    model = with_cancel_check(flow_model(method, model_management.get_torch_device()))
    reader = _PairRecorder(to_clip(frames, fps) if plan is None else plan.pipeline, first_frames=[])
    jobs: list[Path] | None = [] if resumable else None
    if jobs is not None and plan is not None and plan.source is not None:
        motion, folder = measure_resumable(
            reader, plan.pipeline, plan.source, plan.time_range, model, WORKING_SIDE, mask
        )
        jobs.append(folder)
    else:
        motion = estimate_motion(reader, model, mask=mask)
    return with_rolling_shutter(motion, RollingShutter(rolling_shutter).readout), jobs


def _spread_pairs(frame_count: int, pair_count: int) -> list[int]:
    """First frames of up to `pair_count`, but at least one, evenly spaced pairs."""
    pairs = max(frame_count - 1, 1)
    pair_count = max(1, min(pair_count, pairs))
    return [round((i + 0.5) * pairs / pair_count - 0.5) for i in range(pair_count)]


class _PairRecorder:
    """A clip that reports progress while it is read, and records some pairs of frames.

    first_frames: numbers of the first frames of the pairs. pairs: luma frames (1, 1, h, w); the last pair has a single
    frame if the clip ends with it.
    """

    def __init__(self, clip: Clip, first_frames: list[int]) -> None:
        self.info, self.frames = clip.info, clip.frames
        self.pairs: list[list[Tensor]] = []
        self._clip, self._first_frames = clip, set(first_frames)

    def luma_frames(self, side: int) -> Iterator[Plane]:
        stream = map(torch.from_numpy, luma_frames(self._clip, side))
        for number, luma in enumerate(
            with_progress(stream, self.info.length, preview_frames=lambda frame: frame.expand(-1, 3, -1, -1))
        ):
            if number - 1 in self._first_frames:
                self.pairs[-1].append(luma)
            if number in self._first_frames or number == 0:
                self.pairs.append([luma])
            yield luma.numpy()


def _draw_flow(pairs: list[list[Tensor]], model: FlowModel) -> Tensor:
    """IMAGE (count, h, w, 3) of the flow of pairs; zero flow for a single frame."""
    complete = [pair for pair in pairs if len(pair) == 2] or [pairs[0] * 2]
    return flow_to_image(torch.cat([model(*pair) for pair in complete])).movedim(1, -1).contiguous()
