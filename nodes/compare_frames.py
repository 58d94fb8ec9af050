"""Compare Frames: before and after in one image and in a short video."""

from __future__ import annotations

from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any, cast

from comfy_api.latest import Input, InputImpl, io, ui
from torch import Tensor

from ..core.clip import Frames
from ..core.video.encode.codecs import Encoding
from ..core.video.encode.writer import write_video
from ..core.visualize.side_by_side import Comparison, Layout, comparison_range
from . import _shared_inputs as shared
from ._comfy.adapter import DEFAULT_FPS, ImageOrVideoType, combo_options, with_progress
from ._comfy.paths import numbered_path, temp_folder
from ._comfy.schema import PREVIEW_CATEGORY, node_schema
from ._video.inputs import clip_from_input

COMPARISON_ENCODING = Encoding("h264", crf=12)  # high quality, to compare the frames and not their encoding


class CompareFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="SteadyScale_CompareFrames",
            display_name="Compare Frames",
            category=PREVIEW_CATEGORY,
            search_aliases="before after, image compare, compare video, video compare, slider, side by side, "
            "split screen",
            description="Shows before and after in one image, or in a video of a few seconds. Of a VIDEO only these "
            "frames are computed, so it shows what an upscale or a stabilisation will look like before all of it is "
            "paid for.",
            is_output_node=True,
            advanced="largest, label_before, label_after",
            inputs=[
                ImageOrVideoType.Input("before", tooltip="The frames as they were: IMAGE, or a VIDEO of any length."),
                ImageOrVideoType.Input(
                    "after",
                    tooltip="The same frames after the nodes that are to be judged: IMAGE or VIDEO, of any size. The "
                    "smaller of the two is plainly resized to the size of the larger.",
                ),
                io.Combo.Input(
                    "layout",
                    options=combo_options(Layout),
                    default=Layout.SPLIT.value,
                    tooltip="split: the left part of before and the right part of after in one image. side by side, "
                    "one above the other: both whole.",
                ),
                shared.frame_number_input(
                    "Number of the frame in the image, counted from 0. The video begins with it."
                ),
                io.Float.Input(
                    "seconds",
                    display_name="video length [s]",
                    default=0.0,
                    min=0.0,
                    max=600.0,
                    step=0.5,
                    tooltip="Length of the video. 0 makes an image only, which the node shows with a slider where the "
                    "frontend allows it.",
                ),
                io.Float.Input(
                    "split",
                    display_name="split position",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="For split: where the line is, from 0, the left edge, to 1, the right edge.",
                ),
                io.Int.Input(
                    "largest",
                    display_name="longest side",
                    default=1920,
                    min=64,
                    max=16384,
                    step=8,
                    tooltip="Longer side of the image and the video in pixels, at most. Larger ones are reduced.",
                ),
                io.String.Input("label_before", default="before", tooltip="Written on the one; nothing if empty."),
                io.String.Input("label_after", default="after", tooltip="Written on the other; nothing if empty."),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="Both at the chosen frame, as one image."),
                io.Video.Output(
                    display_name="video",
                    tooltip="Both for the chosen seconds, without audio, for Save Video. With 0 seconds one frame.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        before: Tensor | Input.Video,
        after: Tensor | Input.Video,
        layout: str,
        frame: int,
        seconds: float,
        split: float,
        largest: int,
        label_before: str,
        label_after: str,
    ) -> io.NodeOutput:
        clips = [None if isinstance(frames, Tensor) else clip_from_input(frames) for frames in (before, after)]
        rate = next((float(clip.info.fps) for clip in clips if clip is not None), DEFAULT_FPS)
        before_clip, after_clip = (
            clip or clip_from_input(frames, rate) for clip, frames in zip(clips, (before, after), strict=True)
        )
        numbers = comparison_range(frame, seconds, after_clip.info)
        labels = (label_before, label_after)
        comparison = Comparison(before_clip, after_clip, numbers, Layout(layout), split, labels, largest)
        length = min(len(numbers), comparison.info.length or len(numbers))
        progress = with_progress(comparison.pairs(), length)
        with closing(cast(Any, progress)) as pairs:
            first_pair = next(pairs)
            first_frame = comparison.render(*first_pair)
            file, path = _temp_video_path(comparison)
            frames = chain([first_frame], (comparison.render(*pair) for pair in pairs))
            write_video(path, frames, comparison.info, encoding=COMPARISON_ENCODING)
        image = _to_image(first_frame)
        if seconds:
            outputs = ui.PreviewVideo([file]).as_dict()
        else:
            outputs = ui.PreviewImage(image, cls=cls).as_dict()
            if comparison.layout is Layout.SPLIT:
                outputs |= _slider_outputs(cls, comparison, first_pair)
        return io.NodeOutput(image, InputImpl.VideoFromFile(str(path)), ui=outputs)


def _slider_outputs(cls: type[CompareFrames], comparison: Comparison, pair: tuple[Frames, Frames]) -> dict[str, Any]:
    """Both frames for the slider, which stands in place of the image.

    web/js/steadyscale.compare.js reads them.
    """
    keys = ("steadyscale_before", "steadyscale_after")
    return {
        key: ui.PreviewImage(_to_image(frames), cls=cls).as_dict()["images"]
        for key, frames in zip(keys, comparison.slider_images(*pair), strict=True)
    }


def _to_image(frames: Frames) -> Tensor:
    """Convert (1, 3, H, W) to an IMAGE (1, H, W, 3)."""
    return frames.movedim(1, -1).contiguous()


def _temp_video_path(comparison: Comparison) -> tuple[ui.SavedResult, Path]:
    """An unused file in ComfyUI's temp folder, for the frontend and as a path."""
    info = comparison.info
    path, subfolder = numbered_path("SteadyScale_compare", temp_folder(), ".mp4", info.width, info.height)
    return ui.SavedResult(path.name, subfolder, io.FolderType.temp), path
