"""Warp the frames of a clip by a correction and fill the border."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice

import torch
from torch import Tensor

from ..clip import ClipError, Frames
from ..crop.border import Border, check_frame_count, with_border_zoom
from ..path.trajectory import Correction
from ..runtime.device.transfer import with_cpu_fallback
from ..runtime.optional_cv2 import optional_opencv
from .remap import Warped, make_remapper
from .sampling_map import SamplingMap, sampling_maps
from .temporal_fill import fill_from_neighbors


def warp(
    frames: Iterator[Frames],
    correction: Correction,
    border: Border = Border.CROP,
    *,
    pad: int = 0,
    device: torch.device | str = "cpu",
    on_device: bool = False,
) -> Iterator[Warped]:
    """Apply one correction per frame, with one bicubic interpolation; alpha is kept.

    border: CROP zooms the whole clip just enough that nothing has to be filled, CROP_ADAPTIVE each moment just enough,
    with slow transitions; the others keep the scale of the frames and fill. FILL uses neighboring frames of the shot,
    of which it holds a window (temporal_fill.py), and yields frames one by one. BLACK is transparent in frames with
    alpha.
    pad: pixels of canvas added on every side, filled by the border (a margin to outpaint); not with a crop.
    device: of the interpolation; OpenCV is used on the CPU if it is installed. Results are on the CPU, or on_device.
    Bars of the correction stay as they are; only the area inside is moved, zoomed and filled.
    Raises ClipError if the number or the size of the frames is not that of the correction, and for bars with a pad.
    """
    border = Border(border)
    if pad and border in (Border.CROP, Border.CROP_ADAPTIVE):
        raise ClipError("a padded frame cannot be cropped: choose another border, or a pad of 0")
    if correction.shot_bars is not None:
        yield from _warp_sections(frames, correction, border, pad=pad, device=device, on_device=on_device)
        return
    if correction.bars is not None:
        yield from _warp_inside_bars(frames, correction, border, pad=pad, device=device, on_device=on_device)
        return
    correction = with_border_zoom(correction, border)
    device = torch.device(device)
    frames = _check_frames(frames, correction)
    if border is Border.FILL:
        remapper = make_remapper(optional_opencv() if device.type == "cpu" else None)
        results = fill_from_neighbors(frames, correction, remapper, pad=pad, device=device)
    else:
        results = _warp_frames(frames, correction, border, pad, device)
    yield from results if on_device else (Warped(w.frames.cpu(), w.fill_mask.cpu()) for w in results)


def _warp_sections(
    frames: Iterator[Frames],
    correction: Correction,
    border: Border,
    *,
    pad: int,
    device: torch.device | str,
    on_device: bool,
) -> Iterator[Warped]:
    """As `warp`, for a correction whose shots have different bars."""
    if pad:
        raise ClipError("frames with bars cannot be padded: measure them without bars, or choose a pad of 0")
    parts = with_border_zoom(correction, border).split_by_bars()
    if border in (Border.CROP, Border.CROP_ADAPTIVE):
        border = Border.EDGE  # the zoom is done; the kernel reaches past the edge by a pixel
    stream = _check_frames(frames, correction)
    rest: Frames | None = None

    def take(count: int) -> Iterator[Frames]:
        nonlocal rest
        while count:
            batch = next(stream, None) if rest is None else rest
            if batch is None:
                return
            rest = batch[count:] if len(batch) > count else None
            count -= min(count, len(batch))
            yield batch if rest is None else batch[: len(batch) - len(rest)]

    for part in parts:
        yield from warp(take(len(part.matrices)), part, border, device=device, on_device=on_device)
    for _ in stream:  # which reports frames that nothing was measured for
        pass


def _warp_inside_bars(
    frames: Iterator[Frames],
    correction: Correction,
    border: Border,
    *,
    pad: int,
    device: torch.device | str,
    on_device: bool,
) -> Iterator[Warped]:
    """As `warp`, for a correction with bars."""
    assert correction.bars is not None
    if pad:
        raise ClipError(
            f"frames with bars ({correction.bars}) cannot be padded: measure them without bars, or choose a pad of 0"
        )
    size = correction.frame_info
    area = (..., *correction.bars.area(size.height, size.width))
    pending: deque[Frames] = deque()

    def crop() -> Iterator[Frames]:
        for batch in _check_frames(frames, correction):
            pending.extend(batch)
            yield batch[area].contiguous()

    inside = replace(correction, bars=None)
    for warped in warp(crop(), inside, border, device=device, on_device=on_device):
        whole = torch.stack([pending.popleft() for _ in warped.frames]).to(warped.frames)
        whole[area] = warped.frames
        fill_mask = warped.fill_mask.new_zeros(len(whole), size.height, size.width)
        fill_mask[area] = warped.fill_mask
        yield Warped(whole, fill_mask)


def _check_frames(frames: Iterator[Frames], correction: Correction) -> Iterator[Frames]:
    """Yield the frames and check their number and size.

    Raises ClipError if they are not those of the correction.
    """
    info, count = correction.frame_info, len(correction.matrices)
    done = 0
    for batch in frames:
        if tuple(batch.shape[-2:]) != (info.height, info.width):
            raise ClipError(
                f"frame {done} is {batch.shape[-1]}x{batch.shape[-2]}, but the correction is for "
                f"{info.width}x{info.height}: scale the correction, or measure these frames"
            )
        done += len(batch)
        check_frame_count(done, count)
        yield batch
    check_frame_count(done, count, ended=True)


def _warp_frames(
    frames: Iterator[Frames], correction: Correction, border: Border, pad: int, device: torch.device
) -> Iterator[Warped]:
    maps, buffers = sampling_maps(correction, pad), _Buffers(correction, pad)
    for batch in frames:
        batch_maps = list(islice(maps, len(batch)))
        yield with_cpu_fallback(partial(_warp_batch, maps=batch_maps, border=border, buffers=buffers), batch.to(device))


class _Buffers:
    """The memory of sampling coordinates, see `source_coords`.

    It is used again for each frame.
    """

    def __init__(self, correction: Correction, pad: int) -> None:
        self._shape = 3, correction.info.height + 2 * pad, correction.info.width + 2 * pad
        self._last: Tensor | None = None

    def on(self, device: torch.device) -> Tensor:
        if self._last is None or self._last.device != device:
            self._last = None  # Before the next one is allocated.
            self._last = torch.empty(self._shape, device=device)
        return self._last


def _warp_batch(batch: Frames, *, maps: list[SamplingMap], border: Border, buffers: _Buffers) -> Warped:
    remapper = make_remapper(optional_opencv() if batch.device.type == "cpu" else None)
    warped: list[Tensor] = []
    fill_masks: list[Tensor] = []
    for frame, sampling in zip(batch, maps, strict=True):
        x, y = sampling.source_coords(buffers.on(batch.device))
        warped.append(remapper(frame.float(), x, y, border))
        fill_masks.append(sampling.fill_mask(x, y))
    return Warped(_stack(warped), _stack(fill_masks))


def _stack(tensors: list[Tensor]) -> Tensor:
    """As torch.stack, without a copy for a single tensor."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)
