"""Smooth the motion that homographies leave, as offsets of a mesh.

Each vertex has a profile: the residual motion of the content near it, accumulated over a shot (Liu et al., MeshFlow,
2016). The profile is smoothed as the path of the camera is, and its deviation moves the vertex. The mesh is used in
shots in which much moves that way, for a reason that holds for the whole shot: because the scene has depth, so that
the deviations go with the shake of the camera, or because textures swim all over the frame. Subjects that
move before a background do neither. In a scene with depth, straight lines stay straight (mesh_bend.py); where textures
swim, lines are bent already, and the mesh straightens them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..clip import ClipInfo
from ..crop.zoom import slice_correction, zooms_to_fill
from ..path.even_time import even_grid, is_constant_rate
from ..path.mesh import (
    MAX_SLOPE,
    MESH_SHAPE,
    MeshOffsets,
    mean_of_neighbors,
    median_of_neighbors,
    mesh_vertices,
    quantize,
)
from ..path.motion import Motion
from ..path.rolling_shutter import rectify_points
from ..path.trajectory import Correction, is_reliable
from .mesh_bend import limit_bend
from .smooth import Smoother, Smoothing
from .smoothers.kalman import kalman

MESH_SECONDS = 2.0  # longest period of the smoothing: content stays near a vertex for a short time only
MAX_OFFSET = 0.04  # frame widths
MAX_MARGIN = 0.01  # sides of the frame that the outermost cells may take from outside it at each edge
STILL_SPEED, FAST_SPEED = 0.1, 0.25  # frame widths per second at which content passes a vertex: full effect, none
MIN_PIXELS = 0.00125  # frame widths: root mean square of the deviations in a shot that uses a mesh
MIN_SHAKE_SHARE = 0.5  # of the deviations, that the shake of the camera explains in a scene with depth
MAX_DEPTH_AREA = 0.95  # of the frame, that moves against the homography in a scene with depth
MIN_AREA = 0.85  # of the frame, in which textures swim
MIN_COHERENCE = 0.3  # correlation of the residuals of consecutive steps, where textures swim
MIN_GAIN = 0.5  # share of the deviations that the mesh removes
MAX_BEND = 0.0009  # frame widths by which a straight line is bent in a scene with depth
MIN_BENT_GAIN = 0.1  # as MIN_GAIN, of the mesh that bends lines no farther
HELD_DEVIATION = 0.0006  # frame widths: errors of the flow at a vertex that the homography holds
HELD_SECONDS = 1.0  # content stays near a vertex for about as long
STRENGTHS = (1.0, 0.75, 0.5, 0.25)
MIN_FRAMES = 8
OVERLAP_PERIODS = 2  # weights of a smoother farther away are negligible

Array = NDArray[np.float64]


class MeshWarp(str, Enum):
    """Whether frames are bent by a mesh: where it helps, or never."""

    AUTO = "auto"
    OFF = "off"


@dataclass(frozen=True)
class Evidence:
    """Measures by which a shot gets a mesh or none.

    deviation: root mean square over vertices and frames, in frame widths. shake_share: of its energy, that the shake of
    the camera explains. area: share of the vertices that deviate by `MIN_PIXELS`. gain: share of the deviation that a
    mesh of any bend removes. coherence: correlation of the residuals of consecutive steps; that of errors of the flow
    is about 0. bent_gain: as `gain`, of the mesh that bends lines by `MAX_BEND` at most.
    """

    deviation: float
    shake_share: float
    area: float
    gain: float
    coherence: float
    bent_gain: float = 1.0

    @property
    def is_depth(self) -> bool:
        """Whether the scene has depth."""
        # The homography follows a layer of the scene. Where no vertex follows it, the flow is wrong.
        return self.shake_share >= MIN_SHAKE_SHARE and self.area <= MAX_DEPTH_AREA

    @property
    def suffices(self) -> bool:
        """Whether a mesh is used."""
        # Textures do not swim with the camera; flow that is drawn to overlays of a faint scene does.
        is_swimming = self.area >= MIN_AREA and self.coherence >= MIN_COHERENCE
        is_swimming &= self.shake_share < MIN_SHAKE_SHARE
        is_reason = self.bent_gain >= MIN_BENT_GAIN if self.is_depth else is_swimming
        return self.deviation >= MIN_PIXELS and self.gain >= MIN_GAIN and is_reason


def with_mesh(
    correction: Correction,
    motion: Motion,
    method: Smoothing | Smoother = Smoothing.KALMAN,
    seconds: float = 4.0,
    *,
    max_zoom: float | None = None,
    shots: Sequence[slice] | None = None,
    max_bend: float | None = MAX_BEND,
) -> Correction:
    """Add a mesh to the correction of a measured motion, in the shots that gain by it.

    motion: with residuals. method, seconds: as for `smooth`; methods that are no mean smooth the mesh as KALMAN does.
    max_zoom: offsets are reduced where a crop would need more; None for borders that do not crop. shots: those that may
    have a mesh; None for all. max_bend: frame widths by which lines of a scene with depth are bent; None for no limit.
    Returns the same correction if no shot gains.
    """
    if motion.residuals is None or correction.poses is None:
        return correction
    smoother = method.smoother if isinstance(method, Smoothing) else None
    mesh = None
    for shot in correction.shots if shots is None else shots:
        if shot.stop - shot.start < MIN_FRAMES:
            continue
        period = min(seconds, MESH_SECONDS)
        offsets, evidence = shot_mesh(correction, motion, shot, smoother or kalman, period, max_bend)
        if evidence.suffices:
            mesh = np.zeros(motion.residuals.shape, np.float32) if mesh is None else mesh
            mesh[shot] = _limit_zoom(slice_correction(correction, shot), offsets, max_zoom)
    return correction if mesh is None or not mesh.any() else replace(correction, mesh=mesh)


def shot_mesh(
    correction: Correction,
    motion: Motion,
    shot: slice,
    smoother: Smoother,
    seconds: float,
    max_bend: float | None = MAX_BEND,
) -> tuple[MeshOffsets, Evidence]:
    """Return the offsets of a shot (n, *MESH_SHAPE, 2), and what speaks for them."""
    assert motion.residuals is not None
    offsets = np.empty_like(motion.residuals[shot])
    straight = offsets if max_bend is None else np.empty_like(offsets)
    overlap = int(np.ceil(OVERLAP_PERIODS * seconds * float(correction.info.fps)))
    energy, left, bent_left, explained, product, square = np.zeros(MESH_SHAPE), 0.0, 0.0, 0.0, 0.0, 0.0
    for part in geometry.chunks(len(offsets)):
        frames = slice(shot.start + part.start, shot.start + min(part.stop, len(offsets)))
        extended = slice(max(shot.start, frames.start - overlap), min(shot.stop, frames.stop + overlap))
        own = slice(frames.start - extended.start, frames.stop - extended.start)
        residuals = _rectified_residuals(correction, motion, shot, extended)
        deviation, share, shake = _part_deviation(correction, residuals, extended, smoother, seconds)
        wanted = deviation * share
        bent = _limit(mean_of_neighbors(wanted), correction.info)
        if max_bend is not None:
            straight[part] = _limit_bend(_limit(wanted, correction.info), correction.info, max_bend)[own]
        offsets[part], deviation, residuals = bent[own], deviation[own], residuals[own]
        product += float((residuals[1:] * residuals[:-1]).sum())
        square += float(np.square(residuals).sum())
        energy += np.square(deviation).sum(axis=(0, 3))
        left += float(np.square(deviation - offsets[part]).sum())
        bent_left += float(np.square(deviation - straight[part]).sum())
        explained += _explained_energy(shake[own], deviation.reshape(len(deviation), -1))
    total, width = float(energy.sum()), max(correction.info.width, 1)
    vertices = energy / len(offsets)
    evidence = Evidence(
        deviation=float(np.sqrt(vertices.mean())) / width,
        shake_share=explained / max(total, 1e-12),
        area=float((vertices >= (MIN_PIXELS * width) ** 2).mean()),
        gain=1 - float(np.sqrt(left / max(total, 1e-12))),
        coherence=product / max(square, 1e-12),
        bent_gain=1 - float(np.sqrt(bent_left / max(total, 1e-12))),
    )
    return (straight if evidence.is_depth else offsets), evidence


def _part_deviation(
    correction: Correction, residuals: MeshOffsets, frames: slice, smoother: Smoother, seconds: float
) -> tuple[MeshOffsets, MeshOffsets, Array]:
    """Smooth the residuals of some frames of a shot.

    Returns deviations (n, *MESH_SHAPE, 2), the share of them that is used (n, *MESH_SHAPE, 1), and the shake of the
    camera (n, 4).
    """
    times, period = correction.frame_times[frames], seconds * float(correction.info.fps)
    profile = np.cumsum(residuals, axis=0, dtype=np.float64).reshape(len(residuals), -1)
    smooth_profile = _smooth_table(profile, times, period, smoother)
    deviation = (profile - smooth_profile).astype(np.float32).reshape(residuals.shape)
    share = _still_share(correction, frames, smooth_profile.reshape(residuals.shape))
    shake = geometry.to_tangents(correction.matrices[frames])[:, :4]
    return deviation, share[..., None], shake - _smooth_table(shake, times, period, smoother)


def _limit(offsets: MeshOffsets, info: ClipInfo) -> MeshOffsets:
    """Reduce offsets to short ones that need little crop and fold nothing."""
    offsets = _limit_margins(_limit_size(offsets, MAX_OFFSET * info.width), info.width, info.height)
    return _limit_slope(offsets, info.width, info.height)


def _limit_bend(offsets: MeshOffsets, info: ClipInfo, max_bend: float) -> MeshOffsets:
    """Reduce offsets so that lines are bent by `max_bend` frame widths at most."""
    window = max(1, round(HELD_SECONDS * float(info.fps)))
    return _limit_slope(
        limit_bend(offsets, max_bend * info.width, HELD_DEVIATION * info.width, window), info.width, info.height
    )


def _rectified_residuals(correction: Correction, motion: Motion, shot: slice, frames: slice) -> MeshOffsets:
    """Residuals of frames of a shot, without unreliable ones.

    Of a rolling shutter, they are those of the rectified frames.
    """
    assert motion.residuals is not None
    assert correction.poses is not None
    residuals = median_of_neighbors(motion.residuals[frames])
    steps = motion.steps[frames]
    ignored = ~is_reliable(motion.confidence[frames], steps)
    ignored[0] |= frames.start == shot.start
    if correction.rows is not None:
        poses, rows, height = correction.poses[frames], correction.rows[frames], motion.info.height
        vertices = mesh_vertices(motion.info.width, height).reshape(1, -1, 2)
        moved = geometry.transform_points(steps[1:], vertices) + residuals[1:].reshape(len(steps) - 1, -1, 2)
        rectified = geometry.transform_points(
            geometry.inverse(poses[1:]) @ poses[:-1], rectify_points(rows[:-1], vertices, height)
        )
        residuals[1:] = (rectify_points(rows[1:], moved, height) - rectified).reshape(-1, *MESH_SHAPE, 2)
    residuals[ignored] = 0
    return residuals


def _smooth_table(values: Array, times: Array, period: float, smoother: Smoother) -> Array:
    """Smooth the columns (n, k) of one shot. times, period: in frame times."""
    if is_constant_rate(times):
        return smoother(values, period)
    grid = even_grid(times)
    smoothed = smoother(_resample(values, times, grid), period / float(grid[1] - grid[0]))
    return _resample(smoothed, grid, times)


def _resample(values: Array, times: Array, at: Array) -> Array:
    """Interpolate the columns (n, k) linearly at other times."""
    columns: list[Array] = [np.interp(at, times, column) for column in values.T]
    return np.stack(columns, axis=-1)


def _still_share(correction: Correction, shot: slice, smooth_profile: Array) -> NDArray[np.float32]:
    """Return whether a vertex shows the same content for long.

    (n, *MESH_SHAPE), in [0, 1].     The profile of a vertex that content passes quickly is not that of any content.
    """
    assert correction.poses is not None
    info = correction.info
    wanted = geometry.normalize(correction.poses[shot] @ geometry.inverse(correction.matrices[shot]))
    vertices = mesh_vertices(info.width, info.height).reshape(1, -1, 2)
    moved = geometry.transform_points(geometry.inverse(wanted[1:]) @ wanted[:-1], vertices) - vertices
    elapsed = np.diff(correction.frame_times[shot])[:, None, None, None]
    velocity = (moved.reshape(-1, *MESH_SHAPE, 2) + np.diff(smooth_profile, axis=0)) / elapsed
    speed = np.linalg.norm(velocity, axis=-1) * float(info.fps) / max(info.width, 1)
    speed = np.maximum(speed[np.r_[0, : len(speed)]], speed[np.r_[: len(speed), len(speed) - 1]])
    share = np.clip((FAST_SPEED - speed) / (FAST_SPEED - STILL_SPEED), 0, 1)
    return mean_of_neighbors(share.astype(np.float32)[..., None])[..., 0]


def _limit_size(offsets: MeshOffsets, limit: float) -> MeshOffsets:
    """Reduce offsets so that none is longer than the limit."""
    length = np.linalg.norm(offsets, axis=-1, keepdims=True)
    return offsets * (_soft_minimum(length, limit) / np.maximum(length, np.float32(1e-6)))


def _limit_margins(offsets: MeshOffsets, width: int, height: int) -> MeshOffsets:
    """Reduce what the outermost cells take from outside the frame, which costs crop."""
    limited = offsets.copy()
    for axis, size in ((0, width), (1, height)):
        for sign, edge in ((-1, slice(None, 2)), (1, slice(-2, None))):
            area = (slice(None), slice(None), edge, axis) if axis == 0 else (slice(None), edge, slice(None), axis)
            outward = np.maximum(sign * limited[area], 0)
            limited[area] -= sign * (outward - _soft_minimum(outward, MAX_MARGIN * size))
    return limited


def _soft_minimum(values: MeshOffsets, limit: float) -> MeshOffsets:
    """Reduce values of 0 or more smoothly below a limit.

    Half of the limit is hardly changed.
    """
    return (values / np.sqrt(np.sqrt(1 + (values / max(limit, 1e-6)) ** 4))).astype(np.float32)


def _limit_slope(offsets: MeshOffsets, width: int, height: int) -> MeshOffsets:
    """Reduce the offsets of frames where they exceed `MAX_SLOPE`."""
    rows, columns = MESH_SHAPE
    slopes = [
        np.abs(np.diff(offsets, axis=axis)).max(axis=(1, 2, 3)) * (count - 1) / max(size, 1)
        for axis, count, size in ((1, rows, height), (2, columns, width))
    ]
    factor = MAX_SLOPE / np.maximum(np.maximum(*slopes), MAX_SLOPE)
    return offsets * factor[:, None, None, None].astype(np.float32)


def _explained_energy(causes: Array, effects: NDArray[np.float32]) -> float:
    """Energy of the effects (n, k) that is a linear function of the causes (n, j)."""
    size = np.linalg.norm(causes, axis=0)
    relative = size / np.maximum(np.abs(causes).max(initial=0), 1e-9)
    causes = causes[:, relative > 1e-9]
    if causes.shape[1] == 0:
        return 0.0
    basis = np.linalg.qr(causes / np.linalg.norm(causes, axis=0))[0]
    return float(np.square(basis.T @ effects).sum())


def _limit_zoom(correction: Correction, offsets: MeshOffsets, max_zoom: float | None) -> MeshOffsets:
    """Reduce the offsets of a shot to what `max_zoom` allows.

    No frame needs more than that, or than it did without a mesh.
    """
    if max_zoom is None:
        return quantize(offsets)
    limit = max(max_zoom, float(zooms_to_fill(correction).max(initial=1.0)))
    for strength in STRENGTHS:
        reduced = quantize(offsets * np.float32(strength))
        if float(zooms_to_fill(replace(correction, mesh=reduced)).max(initial=1.0)) <= limit:
            return reduced
    return np.zeros_like(offsets)
