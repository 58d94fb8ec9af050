"""Two networks on the same frames: how close each comes to the truth, in figures and side by side."""

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

PANEL_SIDE = 320  # pixels a side of each part of the picture
_SEARCH_STRIDE = 8  # pixels between the places that are tried for it


@dataclass(frozen=True)
class ModelComparison:
    """scores: of each model, and last of bicubic enlargement, means over the frames. picture: (1, 3, H, W), the place
    where the models differ most, with the truth first. frames: how many were compared.
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
    """Enlarge the small frame of each pair with each model, and compare with the large one.

    pairs: small (1, 3, h, w) and true (1, 3, H, W) in [0, 1], such as `shrunk` makes. A result of another size than the
    truth is resized to it. Raises TrainingError where there are no pairs.
    """
    found: list[list[Scores]] = []
    best: tuple[float, list[Tensor]] = (-1.0, [])
    for small, true in pairs:
        height, width = true.shape[-2:]
        made = [resize(next(upscale(iter([small]), model, device=device)), width, height) for model in models]
        made.append(resize(small, width, height))
        shave = max(1, round(width / small.shape[-1]))
        found.append([score_image(one, true, shave) for one in made])
        apart = float((made[0] - made[1]).abs().mean()) if len(models) > 1 else 0.0
        if apart > best[0]:
            best = apart, [true, *made]
    if not found:
        raise TrainingError("there are no frames to compare the models on")
    each = list(zip(*found, strict=True))
    means = tuple(Scores(_mean(s.psnr for s in one), _mean(s.ssim for s in one)) for one in each)
    titles = ["truth", *(f"{name}  {s.psnr:.2f} dB" for name, s in zip([*names, "bicubic"], means, strict=True))]
    return ModelComparison(means, _side_by_side(best[1], titles), len(found))


def make_lr_pairs(frames: Iterable[Frames], scale: int) -> Iterator[tuple[Frames, Frames]]:
    """Frames (1, 3, H, W) as the truth, and the same made small: antialiased bicubic, rounded to 8 bits."""
    for frame in frames:
        height, width = frame.shape[-2] // scale, frame.shape[-1] // scale
        if min(height, width) < 8:
            raise TrainingError(
                f"frames of {frame.shape[-1]}x{frame.shape[-2]} are too small to be made {scale} times smaller first"
            )
        true = round_to_8bit(frame[:, :3, : height * scale, : width * scale])
        yield round_to_8bit(resize(true, width, height)), true


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def _side_by_side(images: list[Tensor], titles: list[str]) -> Frames:
    top, left, height, width = _most_different_crop(images)
    pieces = [part[..., top : top + height, left : left + width] for part in images]
    zoom = max(1, PANEL_SIDE // max(height, width))
    enlarged = [piece.repeat_interleave(zoom, -1).repeat_interleave(zoom, -2) for piece in pieces]
    panels = [draw_caption(panel, title, size=14) for panel, title in zip(enlarged, titles, strict=True)]
    gap = torch.ones(1, 3, panels[0].shape[-2], 6)
    row = [x for panel in panels for x in (panel, gap)][:-1]
    return torch.cat(row, dim=-1)


def _most_different_crop(images: list[Tensor]) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the place where the first two models are furthest apart."""
    rows, columns = images[0].shape[-2:]
    height, width = min(PANEL_SIDE // 2, rows), min(PANEL_SIDE // 2, columns)
    apart = (images[1] - images[2]).abs().mean(1, keepdim=True)
    sums = torch.nn.functional.avg_pool2d(apart, (height, width), _SEARCH_STRIDE)[0, 0]
    place = int(sums.argmax())
    return place // sums.shape[1] * _SEARCH_STRIDE, place % sums.shape[1] * _SEARCH_STRIDE, height, width
