"""Compare models on the same frames: mean scores, and crops side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...clip import Frames
from ...upscaling.resize import resize
from ...upscaling.upscale import ImageModel, upscale
from ...visualize.captions import draw_caption
from ..errors import TrainingError
from .metrics import Scores, round_to_8bit, score_image

PANEL_SIDE = 320  # maximum side of each panel of the comparison image in pixels
PANEL_GAP = 6  # pixels between the panels
_SEARCH_STRIDE = 8  # pixels between the candidate positions of the crop


@dataclass(frozen=True)
class ModelComparison:
    """Result of `compare_models`.

    scores: means over the frames, of each model and then of bicubic interpolation. image: (1, 3, H, W), crops of the
    place where the first two models differ most: ground truth, models, bicubic. frame_count: frames compared.
    """

    scores: tuple[Scores, ...]
    image: Frames
    frame_count: int


def compare_models(
    pairs: Iterable[tuple[Frames, Frames]],
    models: Sequence[ImageModel],
    names: Sequence[str],
    device: torch.device | str | None = None,
) -> ModelComparison:
    """Upscale the small frames with each model, and score the results.

    pairs: (1, 3, h, w) and ground truth (1, 3, H, W) in [0, 1], such as those of `make_lr_pairs`. A result of another
    size is resized to that of the ground truth. Raises TrainingError if there are no pairs.
    """
    frame_scores: list[list[Scores]] = []
    max_difference, compared_images = -1.0, list[Tensor]()
    for small, truth in pairs:
        height, width = truth.shape[-2:]
        results = [resize(next(upscale(iter([small]), model, device=device)), width, height) for model in models]
        results.append(resize(small, width, height))
        crop_border = max(1, round(width / small.shape[-1]))
        frame_scores.append([score_image(result, truth, crop_border) for result in results])
        difference = float((results[0] - results[1]).abs().mean()) if len(models) > 1 else 0.0
        if difference > max_difference:
            max_difference, compared_images = difference, [truth, *results]
    if not frame_scores:
        raise TrainingError("there are no frames to compare the models on; connect a clip with at least one frame")
    means = tuple(
        Scores(_mean(s.psnr for s in of_model), _mean(s.ssim for s in of_model))
        for of_model in zip(*frame_scores, strict=True)
    )
    titles = ["truth", *(f"{name}  {s.psnr:.2f} dB" for name, s in zip([*names, "bicubic"], means, strict=True))]
    return ModelComparison(means, _side_by_side(compared_images, titles), len(frame_scores))


def make_lr_pairs(frames: Iterable[Frames], scale: int) -> Iterator[tuple[Frames, Frames]]:
    """Yield each frame reduced by `scale`, and the frame itself.

    (1, 3, H, W) in [0, 1]; antialiased bicubic, rounded to 8 bits. Raises TrainingError for frames that would become
    smaller than 8 pixels a side.
    """
    for frame in frames:
        height, width = frame.shape[-2] // scale, frame.shape[-1] // scale
        if min(height, width) < 8:
            raise TrainingError(
                f"frames of {frame.shape[-1]}x{frame.shape[-2]} are too small to compare models on at {scale}x; "
                f"use frames of {8 * scale} pixels a side or more"
            )
        truth = round_to_8bit(frame[:, :3, : height * scale, : width * scale])
        yield round_to_8bit(resize(truth, width, height)), truth


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def _side_by_side(images: list[Tensor], titles: list[str]) -> Frames:
    top, left, height, width = _most_different_crop(images)
    crops = [image[..., top : top + height, left : left + width] for image in images]
    zoom = max(1, PANEL_SIDE // max(height, width))
    upscaled = [crop.repeat_interleave(zoom, -1).repeat_interleave(zoom, -2) for crop in crops]
    panels = [draw_caption(panel, title, size=14) for panel, title in zip(upscaled, titles, strict=True)]
    gap = torch.ones(1, 3, panels[0].shape[-2], PANEL_GAP)
    row = [x for panel in panels for x in (panel, gap)][:-1]
    return torch.cat(row, dim=-1)


def _most_different_crop(images: list[Tensor]) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) of the crop where images 1 and 2 differ most."""
    rows, columns = images[0].shape[-2:]
    height, width = min(PANEL_SIDE // 2, rows), min(PANEL_SIDE // 2, columns)
    difference = (images[1] - images[2]).abs().mean(1, keepdim=True)
    means = torch.nn.functional.avg_pool2d(difference, (height, width), _SEARCH_STRIDE)[0, 0]
    position = int(means.argmax())
    return position // means.shape[1] * _SEARCH_STRIDE, position % means.shape[1] * _SEARCH_STRIDE, height, width
