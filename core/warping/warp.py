"""Pass 2: move the pixels where the correction wants them, and decide what stands where no source pixel is."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..clip import ClipError, Frames
from ..motion.flow import optional_opencv
from ..path.border import Border, check_frame_count, with_border_zoom
from ..path.trajectory import Correction
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
) -> Iterator[Warped]:
    """Apply one correction per frame, by one bicubic look-up, and keep alpha.

    border: CROP enlarges the whole clip just enough that nothing has to be invented, CROP_ADAPTIVE each moment just
    enough, slowly; the others keep the size of the picture and fill. FILL takes what is missing from neighbouring
    frames of the shot, of which it holds a window (fill.py), and yields frames one by one. BLACK is transparent where
    the frames have alpha.
    pad: pixels of canvas added on every side, filled by the border (a margin to outpaint); not with a crop.
    device: where the look-up runs; on the CPU by OpenCV where it can be imported. Frames come out on the CPU.
    Raises ClipError when the number or the size of the frames is not what the correction was made for.
    """
    border = Border(border)
    if pad and border in (Border.CROP, Border.CROP_ADAPTIVE):
        raise ClipError("a padded frame cannot be cropped: choose another border, or a pad of 0")
    correction = with_border_zoom(correction, border)
    device = torch.device(device)
    look = remap.make_remapper(optional_opencv() if device.type == "cpu" else None)
    frames = _check_frames(frames, correction)
    if border is Border.FILL:
        yield from fill_from_neighbors(frames, correction, look, pad=pad, device=device)
    else:
        yield from _warp_frames(frames, correction, look, border, pad, device)


def _check_frames(frames: Iterator[Frames], correction: Correction) -> Iterator[Frames]:
    """The same frames, as many and as large as the correction is for; otherwise a ClipError."""
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
    path = sampling_maps(correction, pad)
    buffers = torch.empty(3, height + 2 * pad, width + 2 * pad, device=device)
    for batch in frames:
        moved: list[Tensor] = []
        invented: list[Tensor] = []
        for frame, way in zip(batch.to(device), path, strict=False):
            x, y = way.source_coords(buffers)
            moved.append(remapper(frame, x, y, border).cpu())
            invented.append(way.fill_mask(x, y).cpu())
        yield Warped(_stack(moved), _stack(invented))


def _stack(tensors: list[Tensor]) -> Tensor:
    """As torch.stack, without a copy of one alone."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)
