"""Two clips in one picture: one beside, above or across the other, frame by frame, to see what was gained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, cast

import torch

from ..clip import Clip, ClipError, ClipInfo, Frames, is_same_aspect
from ..pipeline.preview_frames import preview_frames
from ..upscaling.resize import resize
from .captions import draw_caption

DIVIDER_PIXELS = 2  # pixels of the line between the two, shared by both


class Layout(str, Enum):
    """How two frames share a picture."""

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
    """Frames (B, 3 or 4, h, w) and as many of (B, 3 or 4, H, W) -> pictures of both, (B, 3, H', W').

    SPLIT shows the left part of `before` and the right part of `after`, as if the one lay over the other; `split` says
    where the line is, from 0 to 1. The others show both whole. Frames of one size are shown to the pixel but for the
    line and the labels; otherwise both are brought to the size of the larger: see `alike`.
    side: the longer side of the picture at most, in pixels; larger ones are reduced. Alpha is shown over black.
    """
    layout = Layout(layout)
    before, after = match_sizes(before, after)
    width, height = _panel_size(after.shape[-1], after.shape[-2], layout, side)
    before, after = resize(before, width, height), resize(after, width, height)
    if layout is not Layout.SPLIT:
        joined = -1 if layout is Layout.SIDE_BY_SIDE else -2
        both = torch.cat([draw_caption(before, labels[0]), draw_caption(after, labels[1])], dim=joined)
        return _draw_divider(both, before.shape[joined], joined)
    at = min(width, max(0, round(split * width)))
    left, right = draw_caption(before, labels[0]), draw_caption(after, labels[1], right=True)
    return _draw_divider(torch.cat([left[..., :at], right[..., at:]], dim=-1), at, -1)


def match_sizes(before: Frames, after: Frames) -> tuple[Frames, Frames]:
    """Both as RGB frames (B, 3, H, W) of one size: that of the larger of the two, which stays as it is.

    The smaller is enlarged plainly (bicubic); where its shape is another, it keeps it, in the middle, on black.
    """
    before, after = _composite_on_black(before), _composite_on_black(after)
    if before.shape[-2] * before.shape[-1] > after.shape[-2] * after.shape[-1]:
        return before, _letterbox(after, before.shape[-1], before.shape[-2])
    return _letterbox(before, after.shape[-1], after.shape[-2]), after


def _composite_on_black(frames: Frames) -> Frames:
    return frames if frames.shape[1] == 3 else frames[:, :3] * frames[:, 3:]


def _letterbox(frames: Frames, width: int, height: int) -> Frames:
    """Frames in the middle of a black canvas, as large as it allows; stretched by a pixel's rounding at most."""
    high, wide = frames.shape[-2:]
    if (wide, high) == (width, height):
        return frames
    if is_same_aspect((wide, high), (width, height)):
        return resize(frames, width, height)
    factor = min(width / wide, height / high)
    inner = max(1, round(wide * factor)), max(1, round(high * factor))
    canvas = torch.zeros(*frames.shape[:2], height, width)
    top, left = (height - inner[1]) // 2, (width - inner[0]) // 2
    canvas[..., top : top + inner[1], left : left + inner[0]] = resize(frames, *inner)
    return canvas


def _panel_size(width: int, height: int, layout: Layout, side: int | None) -> tuple[int, int]:
    """(width, height) of each of the two, of that size, so that both together are no longer than `side`."""
    longest = max(width * (2 if layout is Layout.SIDE_BY_SIDE else 1), height * (2 if layout is Layout.STACKED else 1))
    if side is None or longest <= side:
        return width, height
    return max(1, round(width * side / longest)), max(1, round(height * side / longest))


def _draw_divider(image: Frames, position: int, axis: int) -> Frames:
    """A white line over the first pixels to both sides of the border between the two, where there is a border."""
    length = image.shape[axis]
    if 0 < position < length:
        image.narrow(
            axis, max(0, position - DIVIDER_PIXELS // 2), min(DIVIDER_PIXELS, length - position + DIVIDER_PIXELS // 2)
        ).fill_(1.0)
    return image


@dataclass(frozen=True, eq=False)
class Comparison:
    """A `Clip`: the frames `numbers` of two clips, compared pair by pair. Nothing runs until its frames are read.

    It ends with the shorter of the two, at the rate of `after`. Frames are paired by number. The rest: as `compared`
    says. Where `before` or `after` is a recipe, only what these frames need is run.
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
        """Its length is what the clips claim."""
        one, other = self.before.info, self.after.info
        large = one if one.width * one.height > other.width * other.height else other
        layout = Layout(self.layout)
        width, height = _panel_size(large.width, large.height, layout, self.side)
        size = width * (2 if layout is Layout.SIDE_BY_SIDE else 1), height * (2 if layout is Layout.STACKED else 1)
        stop = min([self.frame_numbers.stop, *(i.length for i in (one, other) if i.length is not None)])
        return replace(other, length=max(0, stop - self.frame_numbers.start)).resized(*size)

    def frames(self, batch: int = 1) -> Iterator[Frames]:
        """Yield all pictures in order, one at a time. Starts anew at each call."""
        for before, after in self.pairs():
            yield self.render(before, after)

    def pairs(self) -> Iterator[tuple[Frames, Frames]]:
        """The frames of both, (1, C, h, w) and (1, C, H, W), as they are."""
        with (
            closing(cast(Any, preview_frames(self.before, self.frame_numbers))) as before,
            closing(cast(Any, preview_frames(self.after, self.frame_numbers))) as after,
        ):
            yield from zip(before, after, strict=False)

    def render(self, before: Frames, after: Frames) -> Frames:
        """What becomes of such a pair."""
        return compare_frames(before, after, self.layout, split=self.split, labels=self.labels, side=self.side)

    def slider_images(self, before: Frames, after: Frames) -> tuple[Frames, Frames]:
        """The two of a pair as a split shows them, each whole and without a label: what a slider moves between."""
        one, other = (
            compare_frames(before, after, Layout.SPLIT, split=at, labels=("", ""), side=self.side) for at in (1.0, 0.0)
        )
        return one, other


def comparison_range(start_frame: int, seconds: float, info: ClipInfo) -> range:
    """The frames from number `first` on, for so many seconds at the rate of `info`; one at least."""
    if start_frame < 0 or seconds < 0:
        raise ClipError(
            f"a comparison begins at frame 0 or later and lasts 0 s or more, not at {start_frame} for {seconds} s"
        )
    return range(start_frame, start_frame + max(1, round(seconds * float(info.fps))))
