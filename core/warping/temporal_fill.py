"""Fill the border of stabilized frames from neighboring frames.

The measured poses give the position of each neighbor on the stabilized frame. Nearest first, each is matched in
exposure and composited below the existing content, with soft seams; what no neighbor shows is mirrored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import geometry
from ..clip import ClipError, Frames
from ..crop.border import FILL_RADIUS_FRAMES, Border
from ..crop.zoom import visible_rect
from ..path.trajectory import Correction
from . import remap
from .remap import Remapper, Warped
from .sampling_map import SamplingMap, pixel_maps, sampling_map, source_coords

MAX_WINDOW_BYTES = 512 * 2**20  # of buffered frames: the radius is smaller for large frames
SEAM_HEIGHT_FRACTION = 1 / 90  # width of a seam, in frame heights
MIN_COVERAGE = 0.1  # weight of a pixel too small to process one more neighbor: it is mirrored
EXPOSURE_DOWNSCALE = 8  # exposure is compared on frames reduced by this factor
MIN_CONTRAST = 0.01  # regularizes the ratio of two contrasts


@dataclass(frozen=True)
class _BufferedFrame:
    """A frame in the window."""

    frame: Tensor  # (C, H, W) int16, see _to_int16
    thumbnail: Tensor  # (C, H / 8, W / 8) float32


def fill_from_neighbors(
    frames: Iterator[Frames],
    correction: Correction,
    remapper: Remapper,
    *,
    pad: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[Warped]:
    """Warp frames one by one and fill the border from neighboring frames.

    Up to `FILL_RADIUS_FRAMES` frames before and after each are used.

    `fill_mask` is 1 outside the frame itself, also where a neighbor provides the pixel.
    Raises ClipError if the correction has no poses.
    """
    if correction.poses is None:
        raise ClipError(
            "filling from neighbouring frames needs the camera path, which this correction does not contain: create it "
            "with correction(measured, wanted), or choose the border 'mirror'"
        )
    shot_of = {i: shot for shot in correction.shots for i in range(shot.start, shot.stop)}
    buffered: dict[int, _BufferedFrame] = {}
    next_index, radius = 0, FILL_RADIUS_FRAMES
    for index, frame in enumerate(frame for batch in frames for frame in batch):
        buffered[index] = _buffer_frame(frame.to(device).float())
        radius = min(FILL_RADIUS_FRAMES, int(MAX_WINDOW_BYTES // (2 * frame.numel()) - 1) // 2)
        while next_index <= index and min(next_index + radius, shot_of[next_index].stop - 1) <= index:
            yield _fill_frame(next_index, radius, buffered, shot_of[next_index], correction, remapper, pad)
            next_index += 1
            buffered.pop(next_index - radius - 1, None)


def _buffer_frame(frame: Tensor) -> _BufferedFrame:
    size = [max(1, side // EXPOSURE_DOWNSCALE) for side in frame.shape[-2:]]
    return _BufferedFrame(_to_int16(frame), F.interpolate(frame[None].float(), size, mode="area")[0])


def _to_int16(frame: Tensor) -> Tensor:
    """Quantize [0, 1] to 65535 steps.

    This takes half the memory of float32, and is exact for 8-bit and 16-bit sources.
    """
    return (frame.clamp(0, 1) * 65535 - 32768).round_().to(torch.int16)


def _from_int16(frame: Tensor) -> Tensor:
    return (frame.float() + 32768) / 65535


def _fill_frame(
    index: int,
    radius: int,
    buffered: dict[int, _BufferedFrame],
    shot: slice,
    correction: Correction,
    remapper: Remapper,
    pad: int,
) -> Warped:
    """Warp frame `index` and fill its border."""
    width, height = correction.info.width, correction.info.height
    own, own_map = buffered[index], sampling_map(correction, index, pad)
    buffers = torch.empty(3, height + 2 * pad, width + 2 * pad, device=own.frame.device)
    x, y = own_map.source_coords(buffers)
    warped = remapper(_from_int16(own.frame), x, y, Border.MIRROR)
    fill_mask = own_map.fill_mask(x, y)
    if fill_mask.any():
        neighbors = [index + side * k for k in range(1, radius + 1) for side in (-1, 1)]
        neighbors = [j for j in neighbors if shot.start <= j < shot.stop and j in buffered]
        seam_width = max(1.0, height * SEAM_HEIGHT_FRACTION)
        regions = [
            _missing_region(rect, warped, remap.inside_distance(x, y, width, height), seam_width)
            for rect in _missing_rects(own_map, correction, index, warped.shape, seam_width)
        ]
        _composite_neighbors(regions, index, neighbors, buffered, correction, own_map, remapper, seam_width)
        for region in regions:
            warped[:, region.rows, region.columns] = region.mirrored * region.remaining + region.accumulated
    return Warped(warped[None], fill_mask[None])


@dataclass
class _MissingRegion:
    """A rectangle of the output with missing pixels."""

    rows: slice
    columns: slice
    mirrored: Tensor  # (C, h, w): the warped frame with a mirrored border
    accumulated: Tensor  # (C, h, w): weighted sum of real frames
    remaining: Tensor  # (h, w): 1 minus the sum of the weights
    buffers: Tensor  # (3, h, w), see `sampling_map.source_coords`


def _missing_region(region: tuple[slice, slice], warped: Tensor, distance: Tensor, seam_width: float) -> _MissingRegion:
    mirrored = warped[:, region[0], region[1]]
    own = (distance[region] / seam_width).clamp(0, 1)
    return _MissingRegion(*region, mirrored, mirrored * own, 1 - own, mirrored.new_empty(3, *own.shape))


def _composite_neighbors(
    regions: list[_MissingRegion],
    index: int,
    neighbors: list[int],
    buffered: dict[int, _BufferedFrame],
    correction: Correction,
    own_map: SamplingMap,
    remapper: Remapper,
    seam_width: float,
) -> None:
    """Composite the neighbors below the regions until nothing is missing.

    The neighbors are used one after the other.

    The weight of a layer is 1 at more than `seam_width` inside its frame and decreases to 0 at its edge.
    """
    assert correction.poses is not None
    poses, width, height = correction.poses, correction.info.width, correction.info.height
    for j in neighbors:
        regions = [region for region in regions if float(region.remaining.max()) > MIN_COVERAGE]
        onto = geometry.inverse(poses[index]) @ poses[j]  # points of the neighbor -> of the frame
        rows = None if own_map.source_rows is None or correction.rows is None else correction.rows[j : j + 1]
        mesh = None if own_map.source_mesh is None or correction.mesh is None else correction.mesh[j]
        to_source = pixel_maps(onto, width, height) @ own_map.to_source
        layer = replace(own_map, to_source=to_source, source_rows=rows, source_mesh=mesh)
        if own_map.camera is not None and own_map.view is not None:
            layer = replace(layer, view=own_map.camera.compose(geometry.inverse(onto), own_map.view))
        exposure = None
        for region in regions:
            x, y = layer.crop(region.rows, region.columns).source_coords(region.buffers)
            weight = region.remaining * (remap.inside_distance(x, y, width, height) / seam_width).clamp(0, 1)
            if float(weight.max()) < MIN_COVERAGE:
                continue
            gain, offset = exposure = exposure or _match_exposure(
                buffered[index].thumbnail, buffered[j].thumbnail, onto, width
            )
            pixels = _remap_crop(buffered[j].frame, x, y, weight, remapper) * gain + offset
            region.accumulated += weight * pixels.clamp(0, 1)
            region.remaining -= weight


def _match_exposure(
    first: Tensor, second: Tensor, second_to_first: geometry.Matrices, full_width: int
) -> tuple[Tensor, Tensor]:
    """Match the exposure of the second thumbnail to the first.

    Returns gain and offset (C, 1, 1) that equalize mean and contrast in their overlap.

    Alpha is not changed. second_to_first: (3, 3), on frames `full_width` pixels wide.
    """
    channels, height, width = first.shape
    to_second = pixel_maps(geometry.rescale(second_to_first, width / full_width, width / full_width), width, height)
    x, y = source_coords(to_second, first.new_empty(3, height, width))
    gain, offset = torch.ones(channels, 1, 1, device=first.device), torch.zeros(channels, 1, 1, device=first.device)
    overlap = remap.inside_distance(x, y, width, height) >= 0
    if int(overlap.sum()) < 16:
        return gain, offset
    grid = torch.stack([(x + 0.5) * 2 / width - 1, (y + 0.5) * 2 / height - 1], dim=-1)[None]
    aligned = F.grid_sample(second[None], grid, align_corners=False)[0]
    a, b = first[:3, overlap], aligned[:3, overlap]
    gain[:3, 0, 0] = ((a.std(dim=1) + MIN_CONTRAST) / (b.std(dim=1) + MIN_CONTRAST)).clamp(0.5, 2.0)
    offset[:3, 0, 0] = a.mean(dim=1) - gain[:3, 0, 0] * b.mean(dim=1)
    return gain, offset


def _missing_rects(
    own_map: SamplingMap, correction: Correction, index: int, shape: torch.Size, seam_width: float
) -> list[tuple[slice, slice]]:
    """Return disjoint rectangles that contain all missing pixels and seams.

    They are (rows, columns) of the output.

    The frame is a quadrilateral on the output; between the innermost points of opposite sides it covers everything.
    """
    rows, columns = shape[-2:]
    rect, margin = visible_rect(correction, slice(index, index + 1))
    (left, top, right, bottom), (margin_x, margin_y) = rect[0], margin[0]
    center = (np.array(own_map.source_size) - 1) / 2
    frame = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) + center
    frame += seam_width * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = geometry.transform_points(geometry.inverse(own_map.to_source), frame)
    inner = [max(ay, by) + margin_y + 1, min(cy, dy) - margin_y, max(ax, dx) + margin_x + 1, min(bx, cx) - margin_x]
    top, bottom, left, right = np.ceil(np.clip(np.nan_to_num(inner), 0, [rows, rows, columns, columns])).astype(int)
    if top >= bottom or left >= right:
        return [(slice(0, rows), slice(0, columns))]
    parts = [
        (slice(0, top), slice(0, columns)),
        (slice(bottom, rows), slice(0, columns)),
        (slice(top, bottom), slice(0, left)),
        (slice(top, bottom), slice(right, columns)),
    ]
    return [(r, c) for r, c in parts if r.start < r.stop and c.start < c.stop]


def _remap_crop(frame: Tensor, x: Tensor, y: Tensor, weight: Tensor, remapper: Remapper) -> Tensor:
    """Sample the frame; the result is valid where the weight is positive.

    Only the required crop is converted to float32.
    """
    used = weight > 0
    spans: list[slice] = []
    for coords, size in ((y, frame.shape[-2]), (x, frame.shape[-1])):
        first, last = int(coords[used].min()) - 2, int(coords[used].max()) + 4  # the bicubic kernel's radius is 2
        spans.append(slice(max(0, first), min(size, last)))
    crop = _from_int16(frame[:, spans[0], spans[1]])
    return remapper(crop, x - spans[1].start, y - spans[0].start, Border.EDGE)
