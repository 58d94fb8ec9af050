"""Compare two clips in one frame: side by side, stacked, or split at a line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from enum import Enum

import torch

from ..clip import Clip, ClipError, ClipInfo, Frames, is_same_aspect
from ..pipeline.preview_frames import preview_frames
from ..upscaling.resize import resize
from .captions import draw_caption

DIVIDER_PIXELS = 2  # width of the line between the two frames


class Layout(str, Enum):
    """Arrangement of two frames in one."""

    SPLIT = "split"
    SIDE_BY_SIDE = "side by side"
    STACKED = "one above the other"


def compare_frames(
    before: Frames,
    after: Frames,
    layout: Layout = Layout.SPLIT,
    *,
    split: float = 0.5,
    labels: tuple[str, str] = ("before", "after"),
    side: int | None = None,
) -> Frames:
    """Combine frames (B, 3 or 4, h, w) and (B, 3 or 4, H, W) -> (B, 3, H', W').

    SPLIT shows the left part of `before` and the right part of `after` at the same position; `split` is the position of
    the line, from 0 to 1. The other layouts show both completely. Frames of one size are not resampled; otherwise
    both get the size of the larger, see `match_sizes`.
    side: maximum of the longer side in pixels; larger results are reduced. Alpha is composited on black.
    """
    layout = Layout(layout)
    before, after = match_sizes(before, after)
    width, height = _panel_size(after.shape[-1], after.shape[-2], layout, side)
    before, after = resize(before, width, height), resize(after, width, height)
    if layout is not Layout.SPLIT:
        axis = -1 if layout is Layout.SIDE_BY_SIDE else -2
        both = torch.cat([draw_caption(before, labels[0]), draw_caption(after, labels[1])], dim=axis)
        return _draw_divider(both, before.shape[axis], axis)
    position = min(width, max(0, round(split * width)))
    left, right = draw_caption(before, labels[0]), draw_caption(after, labels[1], right=True)
    return _draw_divider(torch.cat([left[..., :position], right[..., position:]], dim=-1), position, -1)


def match_sizes(before: Frames, after: Frames) -> tuple[Frames, Frames]:
    """Convert both to RGB frames (B, 3, H, W) of the size of the larger one.

    The larger is not resampled. The smaller is upscaled (bicubic); another aspect ratio is letterboxed on black.
    """
    before, after = _composite_on_black(before), _composite_on_black(after)
    if before.shape[-2] * before.shape[-1] > after.shape[-2] * after.shape[-1]:
        return before, _letterbox(after, before.shape[-1], before.shape[-2])
    return _letterbox(before, after.shape[-1], after.shape[-2]), after


def _composite_on_black(frames: Frames) -> Frames:
    return frames if frames.shape[1] == 3 else frames[:, :3] * frames[:, 3:]


def _letterbox(frames: Frames, width: int, height: int) -> Frames:
    """Fit frames into a black canvas, centered.

    The aspect ratio changes by a pixel's rounding at most.
    """
    source_height, source_width = frames.shape[-2:]
    if (source_width, source_height) == (width, height):
        return frames
    if is_same_aspect((source_width, source_height), (width, height)):
        return resize(frames, width, height)
    factor = min(width / source_width, height / source_height)
    inner = max(1, round(source_width * factor)), max(1, round(source_height * factor))
    canvas = torch.zeros(*frames.shape[:2], height, width)
    top, left = (height - inner[1]) // 2, (width - inner[0]) // 2
    canvas[..., top : top + inner[1], left : left + inner[0]] = resize(frames, *inner)
    return canvas


def _panel_size(width: int, height: int, layout: Layout, side: int | None) -> tuple[int, int]:
    """Return the size (width, height) of each frame in the layout.

    It is reduced so that no side of the result exceeds `side`.
    """
    longest = max(width * (2 if layout is Layout.SIDE_BY_SIDE else 1), height * (2 if layout is Layout.STACKED else 1))
    if side is None or longest <= side:
        return width, height
    return max(1, round(width * side / longest)), max(1, round(height * side / longest))


def _draw_divider(image: Frames, position: int, axis: int) -> Frames:
    """Draw a white line at a position along an axis, in place; nothing at the ends."""
    length = image.shape[axis]
    if 0 < position < length:
        start = max(0, position - DIVIDER_PIXELS // 2)
        image.narrow(axis, start, min(DIVIDER_PIXELS, length - position + DIVIDER_PIXELS // 2)).fill_(1.0)
    return image


@dataclass(frozen=True, eq=False)
class Comparison:
    """A `Clip` of the comparison of two clips, computed lazily.

    Frames `frame_numbers` are paired by number; it ends with the shorter clip and has the frame rate of `after`. Other
    fields: see `compare_frames`. If a clip is a pipeline, only what these frames need is computed.
    """

    before: Clip
    after: Clip
    frame_numbers: range
    layout: Layout = Layout.SPLIT
    split: float = 0.5
    labels: tuple[str, str] = ("before", "after")
    side: int | None = None

    @property
    def info(self) -> ClipInfo:
        """Size of the result; length and frame rate as the clips claim them."""
        before, after = self.before.info, self.after.info
        larger = before if before.width * before.height > after.width * after.height else after
        layout = Layout(self.layout)
        width, height = _panel_size(larger.width, larger.height, layout, self.side)
        size = width * (2 if layout is Layout.SIDE_BY_SIDE else 1), height * (2 if layout is Layout.STACKED else 1)
        stop = min([self.frame_numbers.stop, *(i.length for i in (before, after) if i.length is not None)])
        return replace(after, length=max(0, stop - self.frame_numbers.start)).resized(*size)

    def frames(self, batch: int = 1) -> Iterator[Frames]:
        """Yield all frames in order, one at a time. Each call starts at the first."""
        for before, after in self.pairs():
            yield self.render(before, after)

    def pairs(self) -> Iterator[tuple[Frames, Frames]]:
        """Yield the frames of both clips, (1, C, h, w) and (1, C, H, W), unchanged."""
        with (
            closing(preview_frames(self.before, self.frame_numbers)) as before,
            closing(preview_frames(self.after, self.frame_numbers)) as after,
        ):
            yield from zip(before, after, strict=False)

    def render(self, before: Frames, after: Frames) -> Frames:
        """Combine a pair of frames, see `compare_frames`."""
        return compare_frames(before, after, self.layout, split=self.split, labels=self.labels, side=self.side)

    def slider_images(self, before: Frames, after: Frames) -> tuple[Frames, Frames]:
        """Return both frames of a pair for an interactive slider.

        They have the size of a split, and no labels.
        """

        def render_full(split: float) -> Frames:
            return compare_frames(before, after, Layout.SPLIT, split=split, labels=("", ""), side=self.side)

        return render_full(1.0), render_full(0.0)


def comparison_range(start_frame: int, seconds: float, info: ClipInfo) -> range:
    """Return the frame numbers from `start_frame` on, for `seconds`.

    The frame rate is that of `info`. There is at least one. Raises ClipError for negative values.
    """
    if start_frame < 0 or seconds < 0:
        raise ClipError(
            f"a comparison begins at frame 0 or later and lasts 0 s or more, not at {start_frame} for {seconds} s"
        )
    return range(start_frame, start_frame + max(1, round(seconds * float(info.fps))))
