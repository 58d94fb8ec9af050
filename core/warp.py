"""Pass 2: move the pixels where the correction wants them, and decide what stands where no source pixel is."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import geometry
from .clip import ClipError, Frames
from .crop import zoomed, zooms_to_fill
from .flow import optional_opencv
from .trajectory import Correction

LARGEST_ZOOM = 4.0  # a crop that would leave less than a quarter of each side is refused: something else is wrong


class Border(str, Enum):
    """What fills the places that the source does not reach."""

    CROP = "crop"
    MIRROR = "mirror"
    WRAP = "wrap"
    EDGE = "edge"
    BLACK = "black"


class Warped(NamedTuple):
    """frames: as `Frames` says. invented: (B, H, W) float32, 1 where a pixel was made up by the border, else 0."""

    frames: Frames
    invented: Tensor


def warp(
    frames: Iterator[Frames],
    correction: Correction,
    border: Border = Border.CROP,
    *,
    pad: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[Warped]:
    """Apply one correction per frame, by one bicubic look-up, and keep alpha.

    border: CROP enlarges the whole clip just enough that nothing has to be invented; the others keep the size of the
    picture and fill. BLACK is transparent where the frames have alpha.
    pad: pixels of canvas added on every side, filled by the border (a margin to outpaint); not with CROP.
    device: where the look-up runs; on the CPU by OpenCV where it can be imported. Frames come out on the CPU.
    Raises ClipError when the number or the size of the frames is not what the correction was made for.
    """
    border = Border(border)
    info = correction.info
    if border is Border.CROP:
        if pad:
            raise ClipError("a padded frame cannot be cropped: choose another border, or a pad of 0")
        correction = zoomed(correction, _zoom(correction))
    device = torch.device(device)
    cv2 = optional_opencv() if device.type == "cpu" else None
    done = 0
    for batch in frames:
        if tuple(batch.shape[-2:]) != (info.height, info.width):
            raise ClipError(
                f"frame {done} is {batch.shape[-1]}x{batch.shape[-2]}, but the correction is for "
                f"{info.width}x{info.height}: scale the correction, or measure these frames"
            )
        matrices = correction.matrices[done : done + len(batch)]
        done += len(batch)
        if len(matrices) < len(batch):
            raise ClipError(
                f"the clip has more than the {len(correction.matrices)} frames whose motion was measured: "
                "measure and correct the same frames"
            )
        back = _pixel_maps(matrices, info.width, info.height, pad)
        if cv2 is not None:
            yield _warp_opencv(cv2, batch, back, border, pad)
        else:
            yield _warp_torch(batch.to(device), back, border, pad)
    if done < len(correction.matrices):
        raise ClipError(
            f"the clip ended after {done} frames, but motion was measured for {len(correction.matrices)}: "
            "measure and correct the same frames"
        )


def _zoom(correction: Correction) -> float:
    zooms = zooms_to_fill(correction)
    worst = int(zooms.argmax())
    if zooms[worst] > LARGEST_ZOOM:
        raise ClipError(
            f"frame {worst} is moved so far that cropping would leave less than 1/{LARGEST_ZOOM:g} of each side: "
            "limit the zoom, smooth over fewer seconds, or choose a border that fills (mirror, edge, wrap)"
        )
    return float(zooms[worst])


def _pixel_maps(matrices: geometry.Matrices, width: int, height: int, pad: int) -> geometry.Matrices:
    """Corrections in the centred convention -> maps from output pixel indices to source pixel indices."""
    to_centre = np.array([[1, 0, 0.5 - width / 2 - pad], [0, 1, 0.5 - height / 2 - pad], [0, 0, 1.0]])
    to_index = np.array([[1, 0, width / 2 - 0.5], [0, 1, height / 2 - 0.5], [0, 0, 1.0]])
    return to_index @ np.linalg.inv(matrices) @ to_centre


def _warp_opencv(cv2: ModuleType, batch: Frames, back: geometry.Matrices, border: Border, pad: int) -> Warped:
    mode = {
        Border.CROP: cv2.BORDER_REPLICATE,  # only the bicubic kernel reaches past the edge, by a pixel
        Border.MIRROR: cv2.BORDER_REFLECT,
        Border.WRAP: cv2.BORDER_WRAP,
        Border.EDGE: cv2.BORDER_REPLICATE,
        Border.BLACK: cv2.BORDER_CONSTANT,
    }[border]
    height, width = batch.shape[-2:]
    size = (width + 2 * pad, height + 2 * pad)
    frames, invented = [], []
    for image, matrix in zip(batch.permute(0, 2, 3, 1).contiguous().numpy(), back, strict=True):
        x, y = _lookup(torch.from_numpy(matrix), *size)
        moved = cv2.remap(image, x.numpy(), y.numpy(), cv2.INTER_CUBIC, borderMode=mode, borderValue=0)
        frames.append(torch.from_numpy(moved).permute(2, 0, 1).clamp_(0, 1))
        invented.append(_outside(x, y, width, height))
    return Warped(torch.stack(frames), torch.stack(invented))


def _warp_torch(batch: Frames, back: geometry.Matrices, border: Border, pad: int) -> Warped:
    height, width = batch.shape[-2:]
    lookups = [_lookup(torch.from_numpy(m), width + 2 * pad, height + 2 * pad) for m in back]
    x, y = (torch.stack(c).to(batch.device) for c in zip(*lookups, strict=True))
    invented = _outside(x, y, width, height)
    mode = {Border.MIRROR: "reflection", Border.BLACK: "zeros"}.get(border, "border")
    if border is Border.WRAP:  # grid_sample cannot wrap: look up in a copy that shows the opposite edge, 2 pixels wide
        batch = F.pad(batch, (2, 2, 2, 2), mode="circular")
        x, y = torch.remainder(x + 0.5, width) + 1.5, torch.remainder(y + 0.5, height) + 1.5
        height, width = batch.shape[-2:]
    grid = torch.stack([(x + 0.5) * 2 / width - 1, (y + 0.5) * 2 / height - 1], dim=-1)
    moved = F.grid_sample(batch, grid, mode="bicubic", padding_mode=mode, align_corners=False)
    return Warped(moved.clamp_(0, 1).cpu(), invented.cpu())


def _lookup(back: Tensor, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Source pixel indices (x, y), each (height, width) float32, for every output pixel."""
    column = torch.arange(width, dtype=torch.float64)
    row = torch.arange(height, dtype=torch.float64)[:, None]
    depth = back[2, 0] * column + back[2, 1] * row + back[2, 2]
    x = (back[0, 0] * column + back[0, 1] * row + back[0, 2]) / depth
    y = (back[1, 0] * column + back[1, 1] * row + back[1, 2]) / depth
    return x.float(), y.float()


def _outside(x: Tensor, y: Tensor, width: int, height: int) -> Tensor:
    """1.0 where a look-up falls outside the source's pixels, which reach from -0.5 to size - 0.5."""
    slack = 1e-3  # rounding of a map that should be the identity invents nothing
    inside = (x >= -0.5 - slack) & (x <= width - 0.5 + slack) & (y >= -0.5 - slack) & (y <= height - 0.5 + slack)
    return (~inside).float()
