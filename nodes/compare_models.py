"""Compare Models: PSNR, SSIM and images of two networks on the same frames."""

from __future__ import annotations

from collections.abc import Iterator

from comfy_api.latest import Input, io
from torch import Tensor

from ..core.clip import Clip, ClipError, Frames
from ..core.training.evaluate.compare_models import ModelComparison, compare_models, make_lr_pairs
from ..core.upscaling.tile_size import estimate_activation_bytes
from ..core.upscaling.upscale import ImageModel
from ._comfy.adapter import ImageOrVideoType, with_cancel_check, with_progress
from ._comfy.device import compute_device, free_device_memory
from ._comfy.node_text import preview_ui
from ._comfy.schema import TRAIN_CATEGORY, node_schema
from ._video.inputs import clip_from_input
from ._video.render_plan import MAX_RESERVED_PIXELS


class CompareModels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="SteadyScale_CompareModels",
            display_name="Compare Models",
            category=TRAIN_CATEGORY,
            search_aliases="psnr, ssim, compare upscalers, model comparison, quality metric, evaluate",
            description="Which of two networks comes closer to the truth? Shrinks sharp frames, lets both upscale them "
            "back, and tells PSNR and SSIM of each, with bicubic beside them; shows the place where they differ most.",
            is_output_node=True,
            inputs=[
                io.UpscaleModel.Input("model_a", tooltip="From Load ESRGAN Model, Load Upscale Model or Train ESRGAN."),
                io.UpscaleModel.Input("model_b", tooltip="The network to compare it with; it may have another scale."),
                ImageOrVideoType.Input(
                    "frames",
                    tooltip="Sharp frames: they are the truth, and the networks see them shrunk. With truth connected: "
                    "the small frames that the networks see.",
                ),
                io.Int.Input(
                    "count",
                    display_name="frame count",
                    default=8,
                    min=1,
                    max=1000,
                    tooltip="How many frames are compared at most, evenly spread over the clip.",
                ),
                ImageOrVideoType.Input(
                    "truth",
                    display_name="ground truth",
                    optional=True,
                    tooltip="The true large frames, as many as there are small ones, where you have both.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image",
                    tooltip="The truth, both results and bicubic side by side, at the place where the two networks "
                    "differ most.",
                ),
                io.String.Output(display_name="report", tooltip="All figures in words. The node shows it too."),
                io.Float.Output(
                    display_name="psnr_a", tooltip="PSNR of model_a, of brightness, in dB: more is closer."
                ),
                io.Float.Output(display_name="psnr_b", tooltip="PSNR of model_b, of brightness, in dB."),
                io.Float.Output(
                    display_name="ssim_a", tooltip="SSIM of model_a, of brightness: 1 is the truth itself."
                ),
                io.Float.Output(display_name="ssim_b", tooltip="SSIM of model_b, of brightness."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model_a: ImageModel,
        model_b: ImageModel,
        frames: Tensor | Input.Video,
        count: int,
        truth: Tensor | Input.Video | None = None,
    ) -> io.NodeOutput:
        models = (model_a, model_b)
        small = clip_from_input(frames)
        large = None if truth is None else clip_from_input(truth)
        length = small.info.length or count
        device = compute_device()
        for model in models:
            size = estimate_activation_bytes(model, int(model.scale)) * min(
                small.info.width * small.info.height, MAX_RESERVED_PIXELS
            )
            free_device_memory(model, size, device)
        pairs = (
            make_lr_pairs(_sample_frames(small, count), max(int(model.scale) for model in models))
            if large is None
            else _pair_frames(small, large, count)
        )
        stream = with_progress(pairs, min(count, length))
        comparison = compare_models(stream, [with_cancel_check(model) for model in models], ("A", "B"), device)
        text = _format_report(comparison, large is None)
        image = comparison.image.movedim(1, -1).contiguous()
        a, b, _ = comparison.scores
        return io.NodeOutput(image, text, a.psnr, b.psnr, a.ssim, b.ssim, ui=preview_ui(cls, image, text))


def _sample_frames(clip: Clip, count: int) -> Iterator[Frames]:
    """Up to `count` evenly spaced frames; the first ones if the length is unknown."""
    length = clip.info.length or count
    selected = {(2 * number + 1) * length // (2 * count) for number in range(count)} if length > count else None
    num_yielded = 0
    for number, frame in enumerate(clip.frames()):
        if num_yielded == count:
            return
        if selected is None or number in selected:
            num_yielded += 1
            yield frame[:, :3]


def _pair_frames(small: Clip, truth: Clip, count: int) -> Iterator[tuple[Frames, Frames]]:
    if small.info.length != truth.info.length:
        raise ClipError(
            f"there are {small.info.length} frames and {truth.info.length} of truth: connect the same frames, "
            "small and large"
        )
    if truth.info.width < small.info.width:
        raise ClipError(
            f"the truth is {truth.info.width} pixels wide and the frames are {small.info.width}: exchange the two"
        )
    yield from zip(_sample_frames(small, count), _sample_frames(truth, count), strict=True)


def _format_report(comparison: ModelComparison, is_downscaled: bool) -> str:
    a, b, plain = comparison.scores
    difference = f"{'A' if a.psnr > b.psnr else 'B'} is closer by {abs(a.psnr - b.psnr):.2f} dB"
    reference = "frames that were shrunk first" if is_downscaled else "frames, against the truth"
    return "\n".join([
        f"{'no difference' if a == b else difference}, on {comparison.frame_count} {reference}",
        *(f"{name}: PSNR {s.psnr:.2f} dB, SSIM {s.ssim:.4f}" for name, s in (("A", a), ("B", b), ("bicubic", plain))),
    ])  # fmt: skip
