"""Windows of neighboring frames, for networks that read several frames.

The network's result for a frame depends on the frames before and after it. Beyond the ends of the clip and of a shot
the frames are mirrored, as the authors of such networks do it: mirrored frames have noise of their own, which repeated
ones do not. A window depends on its frames only, so a part of a clip has the same windows as the whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F

from ..clip import Frames
from ..motion.estimate import WORKING_SIDE
from ..motion.optical_flow.flow import FlowMethod, FlowModel, flow_between_planes, flow_model, luma
from ..motion.optical_flow.gray_frame import Plane
from ..runtime.device.frame_buffers import empty_like
from ..runtime.optional_cv2 import optional_opencv
from ..shots import is_cut

_Numbered: TypeAlias = tuple[int, Frames]


@dataclass(frozen=True, eq=False)
class _Frame:
    """A frame (C, h, w), its luma in a reduced size, whether a shot starts with it."""

    pixels: Frames
    plane: Plane
    starts_shot: bool


def frame_windows(numbered: Iterator[_Numbered], context: tuple[int, int]) -> Iterator[_Numbered]:
    """Yield windows instead of frames, after the number of the first one.

    (B, C, h, w) -> (b, C * n, h, w), b up to B, with the frames of a window concatenated along the channels, the oldest
    first. context: frames before and after the one in the middle; n = 1 + their sum. As many windows as frames come
    out, the last ones when the stream ends. Holds copies of n - 1 frames and of those of a chunk.
    """
    before, after = context
    flow = flow_model(FlowMethod.DIS if optional_opencv() else FlowMethod.FARNEBACK)
    known: deque[_Frame] = deque()
    first = done = position = size = 0  # Numbers of the first known frame, of the next result and of the next frame.
    started = False
    for number, chunk in numbered:
        if not started:
            first = done = position = number
            started = True
        with torch.inference_mode(False), torch.no_grad():
            copy = empty_like(chunk).copy_(chunk)  # Its producer may use the memory again.
        size = max(size, len(chunk))
        del chunk
        for pixels in copy:
            known.append(_next_frame(pixels, known[-1] if known else None, flow))
            position += 1
        del copy
        stop = position - after
        yield from _make_windows(known, first, range(done, stop), context, size)
        done = max(done, stop)
        while first < done - before:
            known.popleft()
            first += 1
    yield from _make_windows(known, first, range(done, position), context, size)


def _next_frame(pixels: Frames, last: _Frame | None, flow: FlowModel) -> _Frame:
    height, width = pixels.shape[-2:]
    factor = min(1.0, WORKING_SIDE / max(height, width))
    small = luma(pixels[None].float())
    if factor < 1:
        small = F.interpolate(small, (max(1, round(height * factor)), max(1, round(width * factor))), mode="area")
    plane = small[0, 0].cpu().numpy()
    if last is None:
        return _Frame(pixels, plane, starts_shot=False)
    is_new = last.pixels.shape != pixels.shape or _is_new_shot(last.plane, plane, flow)
    return _Frame(pixels, plane, starts_shot=is_new)


def _is_new_shot(first: Plane, second: Plane, flow: FlowModel) -> bool:
    """Whether a cut is between two frames.

    Motion is estimated only where they are not alike as they are.
    """
    still = np.zeros((2, *first.shape), np.float32)
    return is_cut(first, second, still) and is_cut(first, second, flow_between_planes(flow, first, second))


def _make_windows(
    known: deque[_Frame], first: int, wanted: range, context: tuple[int, int], size: int
) -> Iterator[_Numbered]:
    """Yield the windows of the frames `wanted`, at most `size` at a time.

    Windows that are yielded at once have one shape.
    """
    rows: list[list[Frames]] = []
    start = wanted.start
    for number in wanted:
        window = [known[index].pixels for index in window_indices(known, number - first, context)]
        if rows and (len(rows) == size or rows[0][0].shape != window[0].shape):
            yield start, _stack(rows)
            rows, start = [], number
        rows.append(window)
    if rows:
        yield start, _stack(rows)


def window_indices(known: deque[_Frame], middle: int, context: tuple[int, int]) -> list[int]:
    """Return the indices of the frames of a window.

    They are mirrored at the ends of the shot and of what is known.
    """
    low = high = middle
    while low > max(0, middle - context[0]) and not known[low].starts_shot:
        low -= 1
    while high < min(len(known) - 1, middle + context[1]) and not known[high + 1].starts_shot:
        high += 1
    return [mirror(index, low, high) for index in range(middle - context[0], middle + context[1] + 1)]


def mirror(index: int, low: int, high: int) -> int:
    """Reflect an index at both ends of low ... high.

    The ends are not repeated, unless there is one frame only.
    """
    if low == high:
        return low
    offset = (index - low) % (2 * (high - low))
    return low + min(offset, 2 * (high - low) - offset)


def _stack(rows: list[list[Frames]]) -> Frames:
    with torch.inference_mode(False), torch.no_grad():
        return torch.stack([torch.cat(row) for row in rows])
