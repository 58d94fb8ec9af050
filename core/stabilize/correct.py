"""From the motion of a clip to its correction: arithmetic, without pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from ..clip import ClipError, ClipInfo
from ..crop.zoom import attenuate_to_zoom
from ..path.motion import Motion
from ..path.trajectory import Correction, Trajectory
from ..shake_guard import without_added_shake
from ..smoothing.keyframes import fade_changes, has_value, largest_zoom, zoom_limits
from ..smoothing.mesh_smooth import MeshWarp, with_mesh
from ..smoothing.ray_path import exact_rotations
from ..smoothing.smooth import Smoother, Smoothing
from ..smoothing.stabilize import plan_correction
from .settings import DEFAULT_SETTINGS, StabilizeSettings

SmootherLoader: TypeAlias = Callable[[float, float, "float | None"], Smoother]
"""(width, height, max_zoom; None without a crop) -> the smoother of `Smoothing.LEARNED` for frames of that size."""


def correct_motion(
    motion: Motion,
    settings: StabilizeSettings = DEFAULT_SETTINGS,
    *,
    load_smoother: SmootherLoader | None = None,
) -> Correction:
    """Smooth the path of a measured motion: what moves each frame onto it.

    No pixels are read. A shot that would shake more than it does is corrected less, down to not at all.

    motion: as `measure_motion` returns it. load_smoother: loads the network of `Smoothing.LEARNED`,
    usually `lambda *size: models.load_path_smoother(settings.smoother).make_smoother(*size)`.
    Raises ClipError as `smooth` does, for instance for a reference beyond the clip or LEARNED without `load_smoother`.
    """
    if motion.shot_bars is not None:
        return _correct_sections(motion, settings, load_smoother)
    measured = Trajectory.of(motion)
    smoother = _resolve_smoother(settings, measured.info, load_smoother)
    planned = plan_correction(
        measured,
        smoother,
        settings.seconds,
        border=settings.border,
        max_zoom=settings.max_zoom,
        reference=settings.reference,
        strength=settings.strength,
        horizon=settings.horizon,
        keyframes=settings.keyframes,
        dissolves=motion.dissolves,
    )
    # These follow a given path, however the camera moves.
    is_exact = settings.horizon > 0 or settings.smoothing in (Smoothing.LOCKED, Smoothing.L1)
    is_exact |= has_value(settings.keyframes, "center")
    guarded = planned if is_exact else without_added_shake(planned)
    bent = guarded
    if planned.lens is not None:
        bent = exact_rotations(guarded, seconds=settings.seconds)
    elif settings.mesh is MeshWarp.AUTO:
        max_zoom = settings.max_zoom if settings.is_cropped else None
        trusted = [shot for shot in planned.shots if np.array_equal(guarded.matrices[shot], planned.matrices[shot])]
        bent = with_mesh(guarded, motion, smoother, settings.seconds, max_zoom=max_zoom, shots=trusted)
    final = replace(fade_changes(bent, guarded, settings.keyframes), bars=motion.bars)
    # What follows the path's own limit (a guard against shake, rays of a lens, a mesh) may need more zoom.
    limits = zoom_limits(settings.keyframes, settings.max_zoom, final)
    return attenuate_to_zoom(final, limits) if settings.is_cropped else final


def _correct_sections(motion: Motion, settings: StabilizeSettings, load_smoother: SmootherLoader | None) -> Correction:
    """Correct shots whose bars differ, each within the area inside its own bars."""
    count, times = len(motion.steps), motion.times
    if settings.reference is not None and not 0 <= settings.reference < count:
        raise ClipError(f"frame {settings.reference} cannot be the reference: the clip has frames 0 to {count - 1}")
    if settings.keyframes:  # their times are those of the clip
        motion = replace(motion, times=motion.frame_times / float(motion.info.fps))
    assert motion.shot_bars is not None
    parts: list[Correction] = []
    start = 0
    for section in motion.split_by_bars():
        stop = start + len(section.steps)
        held = settings.reference
        held = held - start if held is not None and start <= held < stop else None
        parts.append(correct_motion(section, replace(settings, reference=held), load_smoother=load_smoother))
        start = stop
    info, shots = motion.info, motion.shots
    parts = [replace(part, times=None if times is None else part.times) for part in parts]
    whole = Correction(np.zeros((0, 3, 3)), shots, info, times=times, shot_bars=motion.shot_bars)
    return whole.join_by_bars(parts)


def _resolve_smoother(
    settings: StabilizeSettings, info: ClipInfo, load_smoother: SmootherLoader | None
) -> Smoothing | Smoother:
    if settings.smoothing is not Smoothing.LEARNED or load_smoother is None:
        return settings.smoothing
    max_zoom = largest_zoom(settings.keyframes, settings.max_zoom)
    return load_smoother(info.width, info.height, max_zoom if settings.is_cropped else None)
