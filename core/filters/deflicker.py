"""Flicker and crawl out of a stream: every frame is blended with the last result, carried along the motion.

Enlarged and generated frames shimmer, because each is made without knowing of the others. What the last result shows of
the same place is as good an answer as the frame's own, and a mean of both is steadier than either.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple, cast
from zlib import crc32

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip import ClipError, ClipInfo, Frames, all_finite
from ..motion.consistency import backward_warp, forward_backward_confidence, photometric_confidence
from ..motion.estimate import WORKING_SIDE
from ..motion.flow import FlowModel, luma, optional_opencv
from ..path.border import Border
from ..shots import is_cut
from ..upscaling.settings import DEFAULT_DEFLICKER_STRENGTH
from ..warping.remap import Remapper, make_remapper

# Share of the last result in the next at strength 1. With more of it, looking up again and again begins to show.
MAX_BLEND_WEIGHT = 0.8
# Changes of exposure (natural logarithm) that are flicker: below, nobody sees them; above, somebody switched a light.
# Between FLICKER and SWITCHED less and less is taken away.
MIN_FLICKER_LOG_GAIN, MAX_FLICKER_LOG_GAIN, LIGHT_CHANGE_LOG_GAIN = 0.002, 0.1, 0.25
# Values between which a pixel tells of exposure; beyond them it is noise, or clipped.
MIN_EXPOSURE_VALUE, MAX_EXPOSURE_VALUE = 0.06, 0.94
# Share of the picture below which what is believed is believed by chance: a flow that bends one shot into the next.
MIN_MEAN_CONFIDENCE = 0.1
# Side of the blocks, in reduced pixels, in which exposure is compared before the motion is known.
EXPOSURE_BLOCK = 16


def deflicker(
    frames: Iterator[Frames], flow: FlowModel, strength: float = DEFAULT_DEFLICKER_STRENGTH, *, side: int = WORKING_SIDE
) -> Iterator[Frames]:
    """Steady the picture of a stream: chunks (B, 3 or 4, H, W), float on the CPU, in [0, 1], come in and go out.

    strength: 0 hands the same chunks on, 1 takes a share of 0.8 of each believed pixel from the last result. Part of
    the finest contrast goes with the flicker, as in any mean of pictures. flow: measures on frames reduced to `side`
    pixels on the longer side, from each frame to the last result and back. DIS suits best; Farneback finds too little
    motion where there is little contrast, and such places lag behind.

    The last result is looked up bicubically along the flow, kept within the least and greatest value of the 5 x 5
    pixels around (as in Karis, High-Quality Temporal Supersampling, 2014: what is not there now cannot linger), and
    blended in where motion/occlusion.py believes it. Elsewhere the frame stays as it is. So does the first frame after
    a cut, and a frame that repeats the one before to the bit gives the last result again.

    Exposure is steadied apart from that, as one gain for each colour of the whole frame: a flickering lamp, but not
    shadows or blotches that flicker by themselves, of which only as much goes as the neighbourhood allows. Real fades
    and changes of light within 10 % a frame come late, by share / (1 - share) frames, one at strength 0.6; from 25 %
    on they are followed at once. Alpha is blended like a colour, without gain, and what it hides is not followed.

    Keeps the last result and the same reduced, no more. Raises ClipError for frames of a wrong shape, or with values
    that are not finite (they would spread), and ValueError for a strength outside of [0, 1].
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength goes from 0 to 1, got {strength}")
    if strength == 0:
        yield from frames
        return
    look = make_remapper(optional_opencv())
    last: _Previous | None = None
    done = 0
    for chunk in frames:
        _check_frames(chunk, done)
        result = torch.empty(chunk.shape)
        for frame, target in zip(chunk, result, strict=True):
            target.copy_(frame)
            mark = crc32(cast(Any, target.numpy()))
            if last is not None and last.output.shape != target.shape:
                last = None
            if last is not None and last.checksum == mark:
                target.copy_(last.output)
            else:
                small = _downscale(target, side, done)
                carried = None if last is None else _align_previous(last, small, flow)
                if last is not None and carried is not None:
                    _blend(target, last.output, carried, MAX_BLEND_WEIGHT * strength, look)
                    small = _downscale(target, side, done)
                last = _Previous(target.clone(), small, mark)  # a copy: whoever gets the result may write into it
            done += 1
        yield result.to(chunk.dtype)
        del result


class _Previous(NamedTuple):
    """What is kept of the stream."""

    output: Tensor  # (C, H, W), the last result
    small: Tensor  # (1, C, h, w), see _reduced
    checksum: int  # checksum of the frame that it was made of


class _Alignment(NamedTuple):
    """How the last result lies on a frame, as measured on reduced ones."""

    flow: Tensor  # (1, 2, h, w), flow from the frame to the last result, in reduced pixels
    confidence: Tensor  # (1, 1, h, w) in [0, 1]
    log_gain: Tensor  # (3,), how much brighter the frame is, see _exposure


def _check_frames(chunk: Frames, frame_offset: int) -> None:
    if chunk.ndim != 4 or chunk.shape[1] not in (3, 4) or 0 in chunk.shape or not chunk.is_floating_point():
        raise ClipError(
            f"frames to steady must be floats of shape (B, 3 or 4, H, W) with at least one pixel; "
            f"from frame {frame_offset} on they are {chunk.dtype} {tuple(chunk.shape)}"
        )


def _downscale(frame: Tensor, side: int, frame_number: int) -> Tensor:
    """(3 or 4, H, W) -> (1, 3 or 4, h, w), at most `side` pixels on the longer side; colours are times alpha."""
    if len(frame) == 4:
        frame = torch.cat([frame[:3] * frame[3:], frame[3:]])
    small = ClipInfo(frame.shape[2], frame.shape[1], Fraction(1)).fit_within(side)
    size = (small.height, small.width)
    result = F.interpolate(frame[None], size, mode="bilinear", antialias=True, align_corners=False)
    if not all_finite(result):
        raise ClipError(f"frame {frame_number} (counted from 0) has values that are not finite; they would spread")
    return result


def _align_previous(previous: _Previous, small: Tensor, flow: FlowModel) -> _Alignment | None:
    """How the last result lies on a reduced frame; None after a cut, or where next to nothing of it fits."""
    coarse = (F.avg_pool2d(f, EXPOSURE_BLOCK, ceil_mode=True) for f in (previous.small, small))
    before = _apply_log_gain(previous.small, _estimate_log_gain(*coarse))  # flow takes a change of light for motion
    there, back = flow(small[:, :3], before[:, :3]), flow(before[:, :3], small[:, :3])
    if is_cut(luma(small)[0, 0].numpy(), luma(before)[0, 0].numpy(), there[0].numpy()):
        return None
    believed = forward_backward_confidence(there, back)
    brought = backward_warp(previous.small, there)
    change = _estimate_log_gain(brought, small, believed)
    believed = believed * photometric_confidence(_apply_log_gain(brought, change), small)
    return _Alignment(there, believed, change) if float(believed.mean()) > MIN_MEAN_CONFIDENCE else None


def _estimate_log_gain(first: Tensor, second: Tensor, confidence: Tensor | None = None) -> Tensor:
    """(1, C, h, w) twice -> (3,): how much brighter each colour of the second is, as a natural logarithm.

    The median over the pixels that are believed, so that subjects that come and go do not count; 0 if there are few.
    """
    change = torch.zeros(3)
    for c, (a, b) in enumerate(zip(first[0, :3], second[0, :3], strict=True)):
        telling = (torch.minimum(a, b) > MIN_EXPOSURE_VALUE) & (torch.maximum(a, b) < MAX_EXPOSURE_VALUE)
        if confidence is not None:
            telling &= confidence[0, 0] > 0.5
        if int(telling.sum()) >= 16:
            change[c] = (b[telling] / a[telling]).log().median()
    return change if float(change.abs().max()) > MIN_FLICKER_LOG_GAIN else torch.zeros(3)


def _apply_log_gain(small: Tensor, log_gain: Tensor) -> Tensor:
    """(1, 3 or 4, h, w) made brighter by the exponential of `change` (3,); alpha stays."""
    return torch.cat([small[:, :3] * log_gain.exp().view(1, 3, 1, 1), small[:, 3:]], dim=1)


def _blend(target: Tensor, previous: Tensor, alignment: _Alignment, max_weight: float, remap: Remapper) -> None:
    """Blend the last result `shown` into the frame `target`, (C, H, W) both, in place."""
    _, height, width = target.shape
    there, believed, change = alignment
    maps = torch.cat([there, believed], dim=1)
    x, y, weight = F.interpolate(maps, (height, width), mode="bilinear", align_corners=False)[0]
    x.mul_(width / there.shape[3]).add_(torch.arange(width))
    y.mul_(height / there.shape[2]).add_(torch.arange(height)[:, None])
    weight.mul_(max_weight)
    flicker = 1 - (float(change.abs().max()) - MAX_FLICKER_LOG_GAIN) / (LIGHT_CHANGE_LOG_GAIN - MAX_FLICKER_LOG_GAIN)
    kept = max_weight * min(1.0, max(0.0, flicker))  # how far exposure stays what it was
    for c, (plane, old) in enumerate(zip(target, previous, strict=True)):
        brought = remap(old[None], x, y, Border.EDGE)[0]
        if c < 3 and float(change[c]) != 0:
            plane.mul_(float((-kept * change[c]).exp())).clamp_(max=1)
            brought.mul_(float(((1 - kept) * change[c]).exp()))
        least, greatest = local_min_max(plane)
        torch.maximum(brought, least, out=brought)
        torch.minimum(brought, greatest, out=brought)
        plane.lerp_(brought, weight)


def local_min_max(plane: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest value of the 5 x 5 pixels around each of (H, W), of those that the frame has."""
    return _local_max(plane.neg()).neg_(), _local_max(plane)


def _local_max(plane: Tensor) -> Tensor:
    """Rows, then columns, by twos and fours: max_pool2d takes ten times as long on a CPU."""
    for dim in (0, 1):
        length = plane.shape[dim]
        first, last = plane.narrow(dim, 0, 1), plane.narrow(dim, length - 1, 1)
        wide = torch.cat([first, first, plane, last, last], dim)
        twos = torch.maximum(wide.narrow(dim, 0, length + 3), wide.narrow(dim, 1, length + 3))
        fours = torch.maximum(twos.narrow(dim, 0, length), twos.narrow(dim, 2, length))
        plane = torch.maximum(fours, wide.narrow(dim, 4, length))
    return plane
