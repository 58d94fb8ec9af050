"""Deflicker: a recursive, motion-compensated temporal filter.

Upscaled and generated frames flicker, because each is computed without the others. Every frame is blended with the last
result, warped along the motion.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from types import ModuleType
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip import ClipError, ClipInfo, Frames, all_finite
from ..crop.border import Border
from ..motion.estimate import WORKING_SIDE
from ..motion.optical_flow.consistency import (
    backward_warp,
    forward_backward_confidence,
    local_max,
    photometric_confidence,
)
from ..motion.optical_flow.flow import FlowModel, luma
from ..runtime.device.accelerator import Accelerator, accelerator_for
from ..runtime.device.transfer import Download, start_download, upload_array, with_cpu_fallback
from ..runtime.optional_cv2 import optional_opencv
from ..shots import are_unrelated, is_cut
from ..upscaling.settings import DEFAULT_DEFLICKER_STRENGTH
from ..warping.remap import make_remapper

# Weight of the last result at strength 1. With more, the blur of repeated resampling becomes visible.
MAX_BLEND_WEIGHT = 0.8
# Changes of exposure (natural logarithm) that are flicker: smaller ones are invisible, larger ones are changes of
# light. Between the last two the correction fades out.
MIN_FLICKER_LOG_GAIN, MAX_FLICKER_LOG_GAIN, LIGHT_CHANGE_LOG_GAIN = 0.002, 0.1, 0.25
# Range of values that exposure is estimated from; pixels outside are noisy or clipped.
MIN_EXPOSURE_VALUE, MAX_EXPOSURE_VALUE = 0.06, 0.94
# A smaller mean confidence is chance: the flow warps one shot into the next.
MIN_MEAN_CONFIDENCE = 0.1
# Two scenes, though similar: less than this part of a frame has a consistent flow, and the averages of blocks are
# hardly correlated. Flicker and motion change at most one of both.
MAX_UNRELATED_CONSISTENCY = 0.6
# Side of the blocks, in reduced pixels, in which exposure is compared before motion is estimated.
EXPOSURE_BLOCK = 16


def deflicker(
    frames: Iterator[Frames], flow: FlowModel, strength: float = DEFAULT_DEFLICKER_STRENGTH, *, side: int = WORKING_SIDE
) -> Iterator[Frames]:
    """Remove flicker from a stream of frames.

    Chunks (B, 3 or 4, H, W) in [0, 1] -> the same shape, dtype and device; float32 on devices other than the CPU.

    strength: 0 passes chunks on unchanged, 1 takes a weight of 0.8 of each confident pixel from the last result, which
    also removes part of the finest contrast. flow: estimated on frames reduced to `side` pixels on the longer side,
    from each frame to the last result and back. DIS is best; Farneback underestimates motion at low contrast, where the
    result then lags behind.

    The last result is sampled bicubically along the flow, clamped to the range of the 5 x 5 pixels around (as in Karis,
    High-Quality Temporal Supersampling, 2014, against ghosting), and blended where forward-backward and photometric
    confidence allow (motion/consistency.py). The first frame after a cut is not changed, and a bit-identical repeat of
    a frame gives the last result again.

    Exposure is corrected apart from that, by a gain per color channel of the frame. This gain removes the flicker of
    lamps; local flicker is removed only as far as the range of the neighborhood allows. Fades and changes of light
    within 10 % per frame are delayed by weight / (1 - weight) frames, one at strength 0.6; from 25 % on they are not
    delayed. Alpha is blended like a color, without gain, and motion is not estimated where it hides the color.

    Holds the last result in full and reduced size. Raises ClipError for frames of a wrong shape or with values that are
    not finite (they would spread), and ValueError for a strength outside 0 to 1.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be from 0 to 1, got {strength}")
    if strength == 0:
        yield from frames
        return
    previous: _Previous | None = None
    done = 0
    for chunk, downloads in _downscale_ahead(frames, side):
        step = partial(
            _deflicker_chunk,
            downloads=downloads, previous=previous, first_frame=done, flow=flow, strength=strength, side=side,
        )  # fmt: skip
        result, previous = with_cpu_fallback(step, chunk)
        done += len(chunk)
        yield result
        del result


def _downscale_ahead(frames: Iterator[Frames], side: int) -> Iterator[tuple[Frames, list[Download] | None]]:
    """Yield each chunk, and its reduced frames on their way to the CPU.

    On a device a chunk is yielded after the next one has been taken, so that the device computes that while the CPU
    estimates motion. Chunks on the CPU have no transfers and are yielded at once.
    """
    ahead: list[tuple[Frames, list[Download] | None]] = []
    done = 0
    for chunk in frames:
        _check_frames(chunk, done)
        done += len(chunk)
        downloads: list[Download] | None = None
        if chunk.device.type != "cpu":
            downloads = with_cpu_fallback(partial(_start_chunk, side=side), chunk)
        ahead.append((chunk, downloads))
        del chunk  # Frames are large: nothing here refers to one that the consumer has.
        while len(ahead) > (downloads is not None):
            yield ahead.pop(0)
    yield from ahead


def _start_chunk(chunk: Frames, *, side: int) -> list[Download] | None:
    """Start to transfer the reduced frames; None where memory of the device ran out."""
    return None if chunk.device.type == "cpu" else [_start_downscaling(frame, side) for frame in chunk]


def _deflicker_chunk(
    chunk: Frames,
    *,
    downloads: list[Download] | None,
    previous: _Previous | None,
    first_frame: int,
    flow: FlowModel,
    strength: float,
    side: int,
) -> tuple[Frames, _Previous | None]:
    """The result for a chunk, on its device, and what the next one needs."""
    accelerator = accelerator_for(chunk.device)
    result = torch.empty(chunk.shape, device=chunk.device)
    for index, (frame, target) in enumerate(zip(chunk, result, strict=True)):
        target.copy_(frame)
        small = None if downloads is None else downloads[index]
        if small is None and not accelerator.is_cpu:
            small = _start_downscaling(target, side)
        # On another device, equal reduced frames are taken for equal frames: the frame itself stays there.
        checksum = crc32((target if small is None else small.wait()[0]).numpy().data)
        if previous is not None and previous.output.shape != target.shape:
            previous = None
        if previous is not None:
            previous = previous._replace(output=previous.output.to(target.device))
        if previous is not None and previous.checksum == checksum:
            target.copy_(previous.output)
        else:
            small = small or _start_downscaling(target, side)
            _check_finite(small.wait()[0], first_frame + index)
            alignment = None if previous is None else _align_previous(previous, small.wait()[0], flow)
            if previous is not None and alignment is not None:
                _blend(target, previous.output, alignment, MAX_BLEND_WEIGHT * strength, accelerator)
                small = _start_downscaling(target, side)
            previous = _Previous(target.clone(), small, checksum)  # a copy: the consumer may change the result
    return (result.to(chunk.dtype) if accelerator.is_cpu else result), previous


class _Previous(NamedTuple):
    """The last result, and the checksum of the frame that it was computed from."""

    output: Tensor  # (C, H, W)
    small: Download  # of the output, see _start_downscaling
    checksum: int


class _Alignment(NamedTuple):
    """How the last result maps to a frame, measured on reduced frames."""

    flow: Tensor  # (1, 2, h, w), from the frame to the last result, in reduced pixels
    confidence: Tensor  # (1, 1, h, w) in [0, 1]
    log_gain: Tensor  # (3,), how much brighter the frame is, see _estimate_log_gain


def _check_frames(chunk: Frames, frame_offset: int) -> None:
    if chunk.ndim != 4 or chunk.shape[1] not in (3, 4) or 0 in chunk.shape or not chunk.is_floating_point():
        raise ClipError(
            f"frames to deflicker must be floats of shape (B, 3 or 4, H, W) with at least one pixel; "
            f"from frame {frame_offset} on they are {chunk.dtype} {tuple(chunk.shape)}"
        )


def _check_finite(small: Tensor, frame_number: int) -> None:
    if not all_finite(small):
        raise ClipError(f"frame {frame_number} (counted from 0) has values that are not finite; they would spread")


def _start_downscaling(frame: Tensor, side: int) -> Download:
    """Reduce a frame for motion estimation, and start to transfer it to the CPU.

    (3 or 4, H, W) on any device -> (1, 3 or 4, h, w), float32. The longer side is at most `side` pixels; colors are
    premultiplied.
    """
    frame = frame.float()
    if len(frame) == 4:
        frame = torch.cat([frame[:3] * frame[3:], frame[3:]])
    small = ClipInfo(frame.shape[2], frame.shape[1], Fraction(1)).fit_within(side)
    size = (small.height, small.width)
    small_frame = F.interpolate(frame[None], size, mode="bilinear", antialias=True, align_corners=False)
    return start_download(small_frame, accelerator_for(frame.device))


def _align_previous(previous: _Previous, small: Tensor, flow: FlowModel) -> _Alignment | None:
    """Map the last result to a reduced frame.

    Returns None after a cut, or if nearly nothing of it fits.
    """
    (last,) = previous.small.wait()
    coarse = (F.avg_pool2d(f, EXPOSURE_BLOCK, ceil_mode=True) for f in (last, small))
    # With equal exposure, because optical flow takes a change of light for motion.
    before = _apply_log_gain(last, _estimate_log_gain(*coarse))
    forward, backward = flow(small[:, :3], before[:, :3]), flow(before[:, :3], small[:, :3])
    if is_cut(luma(small)[0, 0].numpy(), luma(before)[0, 0].numpy(), forward[0].numpy()):
        return None
    confidence = forward_backward_confidence(forward, backward)
    warped = backward_warp(last, forward)
    is_inconsistent = float(confidence.mean()) < MAX_UNRELATED_CONSISTENCY
    if is_inconsistent and are_unrelated(luma(small)[0, 0].numpy(), luma(warped)[0, 0].numpy()):
        return None
    log_gain = _estimate_log_gain(warped, small, confidence)
    confidence = confidence * photometric_confidence(_apply_log_gain(warped, log_gain), small)
    return _Alignment(forward, confidence, log_gain) if float(confidence.mean()) > MIN_MEAN_CONFIDENCE else None


def _estimate_log_gain(first: Tensor, second: Tensor, confidence: Tensor | None = None) -> Tensor:
    """Estimate the change of exposure from the first image to the second, per color.

    (1, C, h, w) twice -> (3,): natural logarithms of the gain, positive where the second is brighter. The median over
    confident pixels, so that moving subjects do not count; 0 if there are few.
    """
    log_gain = torch.zeros(3)
    for c, (a, b) in enumerate(zip(first[0, :3], second[0, :3], strict=True)):
        usable = (torch.minimum(a, b) > MIN_EXPOSURE_VALUE) & (torch.maximum(a, b) < MAX_EXPOSURE_VALUE)
        if confidence is not None:
            usable &= confidence[0, 0] > 0.5
        if int(usable.sum()) >= 16:
            log_gain[c] = (b[usable] / a[usable]).log().median()
    return log_gain if float(log_gain.abs().max()) > MIN_FLICKER_LOG_GAIN else torch.zeros(3)


def _apply_log_gain(small: Tensor, log_gain: Tensor) -> Tensor:
    """Multiply the colors of (1, 3 or 4, h, w) by exp(log_gain), (3,); alpha stays."""
    return torch.cat([small[:, :3] * log_gain.exp().view(1, 3, 1, 1), small[:, 3:]], dim=1)


def _blend(
    target: Tensor, previous: Tensor, alignment: _Alignment, max_weight: float, accelerator: Accelerator
) -> None:
    """Blend the last result into the frame `target`, in place.

    `target` and `previous` are (C, H, W).
    """
    channels, height, width = target.shape
    flow, confidence, log_gain = alignment
    maps = upload_array(torch.cat([flow, confidence], dim=1).numpy(), accelerator)
    # In this layout torch takes less than half of the time on a CPU, for the same result.
    maps = maps.contiguous(memory_format=torch.channels_last)
    x, y, weight = F.interpolate(maps, (height, width), mode="bilinear", align_corners=False)[0].contiguous()
    x.mul_(width / flow.shape[3]).add_(torch.arange(width, device=target.device))
    y.mul_(height / flow.shape[2]).add_(torch.arange(height, device=target.device)[:, None])
    weight.mul_(max_weight)
    fade = 1 - (float(log_gain.abs().max()) - MAX_FLICKER_LOG_GAIN) / (LIGHT_CHANGE_LOG_GAIN - MAX_FLICKER_LOG_GAIN)
    exposure_weight = max_weight * min(1.0, max(0.0, fade))  # of the exposure of the last result
    log_gain = F.pad(log_gain, (0, channels - 3)).view(-1, 1, 1)  # alpha has none
    cv2 = optional_opencv() if accelerator.is_cpu else None
    remap = make_remapper(cv2)
    # One channel after the other saves memory on a CPU; on a GPU each launch costs time.
    step = 1 if accelerator.is_cpu else channels
    for part in (slice(start, start + step) for start in range(0, channels, step)):
        planes, gain = target[part], log_gain[part]
        warped = remap(previous[part], x, y, Border.EDGE)
        if float(gain.abs().max()) != 0:
            planes.mul_(upload_array((-exposure_weight * gain).exp().numpy(), accelerator)).clamp_(max=1)
            warped.mul_(upload_array(((1 - exposure_weight) * gain).exp().numpy(), accelerator))
        minimum, maximum = local_min_max(planes, cv2)
        torch.maximum(warped, minimum, out=warped)
        torch.minimum(warped, maximum, out=warped)
        planes.lerp_(warped, weight)


def local_min_max(planes: Tensor, cv2: ModuleType | None = None) -> tuple[Tensor, Tensor]:
    """Return the minimum and maximum of the 5 x 5 pixels around each pixel.

    The planes and both results are (C, H, W); pixels outside the frame do not count.

    cv2: OpenCV, for planes on the CPU, with the same result: 9 % of the filter's time less at 1280x720.
    """
    if cv2 is None:
        return local_max(planes.neg(), 2).neg_(), local_max(planes, 2)
    minimum, maximum, kernel = torch.empty_like(planes), torch.empty_like(planes), np.ones((5, 5), np.uint8)
    for plane, low, high in zip(planes.numpy(), minimum.numpy(), maximum.numpy(), strict=True):
        cv2.erode(plane, kernel, dst=low)
        cv2.dilate(plane, kernel, dst=high)
    return minimum, maximum
