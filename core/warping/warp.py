"""Warp the frames of a clip by a correction and fill the border."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..clip import ClipError, Frames
from ..path.border import Border, check_frame_count, with_border_zoom
from ..path.trajectory import Correction
from ..runtime.optional_cv2 import optional_opencv
from . import remap
from .remap import Remapper, Warped
from .sampling_map import sampling_maps
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
    Raises ClipError if the number or the size of the frames is not that of the correction.
    """
    border = Border(border)
    if pad and border in (Border.CROP, Border.CROP_ADAPTIVE):
        raise ClipError("a padded frame cannot be cropped: choose another border, or a pad of 0")
    correction = with_border_zoom(correction, border)
    device = torch.device(device)
    remapper = remap.make_remapper(optional_opencv() if device.type == "cpu" else None)
    frames = _check_frames(frames, correction)
    if border is Border.FILL:
        results = fill_from_neighbors(frames, correction, remapper, pad=pad, device=device)
    else:
        results = _warp_frames(frames, correction, remapper, border, pad, device)
    yield from results if on_device else (Warped(w.frames.cpu(), w.fill_mask.cpu()) for w in results)


def _check_frames(frames: Iterator[Frames], correction: Correction) -> Iterator[Frames]:
    """Yield the frames and check their number and size.

    Raises ClipError if they are not those of the correction.
    """
    info, count = correction.info, len(correction.matrices)
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
    frames: Iterator[Frames], correction: Correction, remapper: Remapper, border: Border, pad: int, device: torch.device
) -> Iterator[Warped]:
    width, height = correction.info.width, correction.info.height
    maps = sampling_maps(correction, pad)
    buffers = torch.empty(3, height + 2 * pad, width + 2 * pad, device=device)
    for batch in frames:
        warped: list[Tensor] = []
        fill_masks: list[Tensor] = []
        for frame, sampling in zip(batch.to(device), maps, strict=False):
            x, y = sampling.source_coords(buffers)
            warped.append(remapper(frame.float(), x, y, border))
            fill_masks.append(sampling.fill_mask(x, y))
        yield Warped(_stack(warped), _stack(fill_masks))


def _stack(tensors: list[Tensor]) -> Tensor:
    """As torch.stack, without a copy for a single tensor."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)
