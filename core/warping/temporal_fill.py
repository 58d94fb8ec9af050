"""What a frame does not show, its neighbours may have seen: fill the border of stabilised frames from those around.

The measured poses say where each neighbour lies on the stabilised frame. Nearest first, each is brought to the same
exposure and laid under what is there already, with soft seams; where none of them looked, the frame itself is mirrored.
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
from ..path.border import FILL_RADIUS_FRAMES, Border
from ..path.trajectory import Correction
from ..path.zoom import visible_rect
from . import remap
from .remap import Remapper, Warped
from .sampling_map import SamplingMap, pixel_maps, sampling_map, source_coords

MAX_WINDOW_BYTES = 512 * 2**20  # of frames held at once: large frames look less far
SEAM_HEIGHT_FRACTION = 1 / 90  # width of a seam, in frame heights
MIN_COVERAGE = 0.1  # share of a pixel that is not worth asking one more neighbour for: the mirror gives it
EXPOSURE_DOWNSCALE = 8  # exposure is compared on frames reduced by this
MIN_CONTRAST = 0.01  # contrast below which a difference in contrast is noise


@dataclass(frozen=True)
class _BufferedFrame:
    """A frame that waits for its neighbours."""

    frame: Tensor  # (C, H, W) int16, see _packed
    thumbnail: Tensor  # (C, H / 8, W / 8) float32


def fill_from_neighbors(
    frames: Iterator[Frames],
    correction: Correction,
    remapper: Remapper,
    *,
    pad: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[Warped]:
    """Stabilise frames, one by one, and fill what is missing from up to `REACH` frames before and after each.

    `invented` is 1 wherever the frame itself shows nothing, also where a neighbour did.
    Raises ClipError where the correction does not carry the measured poses.
    """
    if correction.poses is None:
        raise ClipError(
            "filling from neighbouring frames needs to know how they lie on each other, and this correction does not "
            "say: make it with correction(measured, wanted), or choose the border 'mirror'"
        )
    ends = {i: shot for shot in correction.shots for i in range(shot.start, shot.stop)}
    held: dict[int, _BufferedFrame] = {}
    shown, reach = 0, FILL_RADIUS_FRAMES
    for index, frame in enumerate(frame for batch in frames for frame in batch):
        held[index] = _buffer_frame(frame.to(device))
        reach = min(FILL_RADIUS_FRAMES, int(MAX_WINDOW_BYTES // (2 * frame.numel()) - 1) // 2)
        while shown <= index and min(shown + reach, ends[shown].stop - 1) <= index:
            yield _fill_frame(shown, reach, held, ends[shown], correction, remapper, pad)
            shown += 1
            held.pop(shown - reach - 1, None)


def _buffer_frame(frame: Tensor) -> _BufferedFrame:
    size = [max(1, side // EXPOSURE_DOWNSCALE) for side in frame.shape[-2:]]
    return _BufferedFrame(_to_int16(frame), F.interpolate(frame[None].float(), size, mode="area")[0])


def _to_int16(frame: Tensor) -> Tensor:
    """[0, 1] in 65535 steps: half the memory of float32, and 8-bit and 16-bit sources come back as they were."""
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
    """The stabilised frame of that number."""
    width, height = correction.info.width, correction.info.height
    own, here = buffered[index], sampling_map(correction, index, pad)
    buffers = torch.empty(3, height + 2 * pad, width + 2 * pad, device=own.frame.device)
    x, y = here.source_coords(buffers)
    moved = remapper(_from_int16(own.frame), x, y, Border.MIRROR)
    invented = here.fill_mask(x, y)
    if invented.any():
        near = [index + side * k for k in range(1, radius + 1) for side in (-1, 1)]
        near = [j for j in near if shot.start <= j < shot.stop and j in buffered]
        soft = max(1.0, height * SEAM_HEIGHT_FRACTION)
        margins = [
            _missing_region(region, moved, remap.inside_distance(x, y, width, height), soft)
            for region in _missing_rects(here, correction, index, moved.shape, soft)
        ]
        _composite_neighbors(margins, index, near, buffered, correction, here, remapper, soft)
        for margin in margins:
            moved[:, margin.rows, margin.columns] = margin.mirrored * margin.remaining + margin.accumulated
    return Warped(moved[None].cpu(), invented[None].cpu())


@dataclass
class _MissingRegion:
    """A rectangle of the output in which something is missing."""

    rows: slice
    columns: slice
    mirrored: Tensor  # (C, h, w): the moved frame, mirrored where it ends
    accumulated: Tensor  # (C, h, w): what real frames show, times how much they count
    remaining: Tensor  # (h, w): how much is still left to farther neighbours
    buffers: Tensor  # (3, h, w), see `places.places`


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
    """Put the neighbours under the margins, one after the other, until nothing is missing.

    Every layer counts fully where it lies deeper than `soft` inside its own frame and fades towards its edge.
    """
    assert correction.poses is not None
    poses, width, height = correction.poses, correction.info.width, correction.info.height
    for j in neighbors:
        regions = [margin for margin in regions if float(margin.remaining.max()) > MIN_COVERAGE]
        onto = np.linalg.inv(poses[index]) @ poses[j]  # points of the neighbour -> of the frame
        rows = None if own_map.source_rows is None or correction.rows is None else correction.rows[j : j + 1]
        layer = replace(own_map, to_source=pixel_maps(onto, width, height) @ own_map.to_source, source_rows=rows)
        exposure = None
        for margin in regions:
            x, y = layer.crop(margin.rows, margin.columns).source_coords(margin.buffers)
            share = margin.remaining * (remap.inside_distance(x, y, width, height) / seam_width).clamp(0, 1)
            if float(share.max()) < MIN_COVERAGE:
                continue
            gain, offset = exposure = exposure or _match_exposure(
                buffered[index].thumbnail, buffered[j].thumbnail, onto, width
            )
            margin.accumulated += share * (_remap_crop(buffered[j].frame, x, y, share, remapper) * gain + offset).clamp(
                0, 1
            )
            margin.remaining -= share


def _match_exposure(
    first: Tensor, second: Tensor, second_to_first: geometry.Matrices, full_width: int
) -> tuple[Tensor, Tensor]:
    """Gain and offset (C, 1, 1) that give the second small frame the mean and the contrast of the first, as far as
    both show the same. Alpha is left alone.

    onto: from the second to the first, on frames `full` pixels wide.
    """
    channels, height, width = first.shape
    back = pixel_maps(geometry.rescale(second_to_first, width / full_width, width / full_width), width, height)
    x, y = source_coords(back, first.new_empty(3, height, width))
    gain, offset = torch.ones(channels, 1, 1, device=first.device), torch.zeros(channels, 1, 1, device=first.device)
    shared = remap.inside_distance(x, y, width, height) >= 0
    if int(shared.sum()) < 16:
        return gain, offset
    grid = torch.stack([(x + 0.5) * 2 / width - 1, (y + 0.5) * 2 / height - 1], dim=-1)[None]
    seen = F.grid_sample(second[None], grid, align_corners=False)[0]
    a, b = first[:3, shared], seen[:3, shared]
    gain[:3, 0, 0] = ((a.std(dim=1) + MIN_CONTRAST) / (b.std(dim=1) + MIN_CONTRAST)).clamp(0.5, 2.0)
    offset[:3, 0, 0] = a.mean(dim=1) - gain[:3, 0, 0] * b.mean(dim=1)
    return gain, offset


def _missing_rects(
    own_map: SamplingMap, correction: Correction, index: int, shape: torch.Size, seam_width: float
) -> list[tuple[slice, slice]]:
    """Rectangles (rows, columns) of the output, not overlapping, outside of which the frame shows itself, seams apart.

    The frame lies on the output as a quadrilateral; between the inmost points of its opposite sides it hides all.
    """
    rows, columns = shape[-2:]
    (left, top, right, bottom), (across, down) = (part[0] for part in visible_rect(correction, slice(index, index + 1)))
    middle = (np.array(own_map.source_size) - 1) / 2
    frame = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) + middle
    frame += seam_width * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = geometry.transform_points(geometry.inverse(own_map.to_source), frame)
    inner = [max(ay, by) + down + 1, min(cy, dy) - down, max(ax, dx) + across + 1, min(bx, cx) - across]
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
    """The frame at these places, right where the share is above 0: only what is needed of it is made float32."""
    used = weight > 0
    spans = []
    for place, size in ((y, frame.shape[-2]), (x, frame.shape[-1])):
        first, last = int(place[used].min()) - 2, int(place[used].max()) + 4  # the bicubic kernel reaches 2 pixels
        spans.append(slice(max(0, first), min(size, last)))
    piece = _from_int16(frame[:, spans[0], spans[1]])
    return remapper(piece, x - spans[1].start, y - spans[0].start, Border.EDGE)
