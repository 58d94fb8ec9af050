"""Measure the motion of a held layer or subject, in place of the camera's.

The clip is read a second time, with the motion of the camera known. Where the layer or subject is not visible, the
steps of the camera are kept, so that the path has no jumps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ... import geometry
from ...clip import Clip, ClipError, ClipInfo
from ...hold import Hold, Region, RegionMask
from ...path.motion import Motion
from ...path.trajectory import MIN_CONFIDENCE, interpolate_low_confidence
from ...runtime.threads.prefetch import prefetch
from ..estimate import WORKING_SIDE, luma_frames, luma_range, second_pass
from ..lens_view import LensView, ViewClip, to_homographies, to_rotations, view_masks
from ..optical_flow.gray_frame import GrayFrame, Masks, mask_of
from .background import Background, PlaneBackground, RayBackground
from .layers import Layer, find_layers
from .subject import SubjectTracker, UntrackableError

MIN_SHARE = 0.05  # of a shot's points that a layer has on average; smaller ones are details
SAME_SHAKE = 0.1  # logarithm of the ratio of the shake of two layers that cannot be distinguished
EDGE_WEIGHT = 1.0  # of the fraction of a layer's points near the edge of the frame, relative to that logarithm
SLOW_SECONDS = 0.25  # standard deviation of the mean that is not shake
NOISE_PIXELS = 0.05  # added to the shake of a layer: less than this is no difference
MAX_BRIDGE_SECONDS = 1.0  # for which the path of a lost subject is interpolated, if it is found again
FADE_SECONDS = 0.5  # in which the path of a lost subject passes over to that of the camera
BACKWARD_FRAMES = 256  # in memory at a time where a subject is tracked backwards

Array = NDArray[np.float64]


def hold_motion(
    clip: Clip,
    motion: Motion,
    hold: Hold,
    *,
    region: Region | RegionMask | None = None,
    strength: float = 1.0,
    side: int = WORKING_SIDE,
    mask: Masks | None = None,
) -> Motion:
    """Return the motion of the held layer or subject instead of the camera's.

    clip: all of its frames, with bars. motion: of the camera, as `estimate_motion` returns it, or with a lens, and then
    inside its bars. side, mask: as for `estimate_motion`; the mask does not hide
    the region. BACKGROUND: the layer that shakes least and reaches the edges of the frame. FOREGROUND: the layer that
    shakes most, as near objects do, and is most central; the only layer where there is one. REGION: the subject is held
    in position only; the frame turns and zooms with the camera. A box or a single mask is tracked through its shot, a
    mask per frame through all shots. strength: REGION only, the share of the subject's own motion that is followed, 0
    to 1.
    Raises ClipError without OpenCV, and for a region outside the clip, or without texture.
    """
    hold = Hold(hold)
    if hold is Hold.AUTO:
        return motion
    if hold is not Hold.REGION:
        if motion.lens is None:
            return _hold_layer(clip, motion, hold, side, mask)
        view = LensView(motion.frame_info, motion.lens, motion.bars)
        flat = _hold_layer(ViewClip(clip, view), to_homographies(motion, view), hold, side, view_masks(mask, view))
        assert flat.held is not None, "of all that is held"
        return _with_steps(motion, to_rotations(flat, view).steps, flat.held, hold)
    if region is None:
        raise ClipError("hold is 'region': give the region (--region), a box or a mask")
    return _hold_region(clip, motion, region, strength, side)


# -- layers


def _hold_layer(clip: Clip, motion: Motion, hold: Hold, side: int, mask: Masks | None) -> Motion:
    small = motion.info.fit_within(side)
    to_small = small.width / motion.info.width, small.height / motion.info.height
    camera = geometry.rescale(_resolved_steps(motion), *to_small)
    steps, held = camera.copy(), np.zeros(len(camera))
    frames = enumerate(prefetch(luma_frames(second_pass(clip, len(camera)), side), name="decode"))
    for shot in motion.shots:
        numbered = (
            (number, GrayFrame.of(plane, mask_of(mask, number, *plane.shape[-2:])))
            for number, plane in _until(frames, shot.stop)
        )
        layers = find_layers(numbered)
        for layer in reversed(_rank(layers, camera, shot, hold, float(motion.info.fps))):
            for number, step in layer.steps.items():
                steps[number], held[number] = step, 1.0
    return _with_steps(motion, geometry.rescale(steps, 1 / to_small[0], 1 / to_small[1]), held, hold)


def _until(frames: Iterator[tuple[int, NDArray[np.float32]]], stop: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The frames up to number `stop`, without taking that one."""
    for number, plane in frames:
        yield number, plane
        if number == stop - 1:
            return


def _rank(layers: list[Layer], camera: geometry.Matrices, shot: slice, hold: Hold, fps: float) -> list[Layer]:
    """The layers that may be held, the most suitable first."""
    length = max(1, shot.stop - shot.start - 1)
    layers = [layer for layer in layers if sum(layer.shares.values()) >= MIN_SHARE * length]
    shake = {id(layer): _relative_shake(layer, camera, fps) for layer in layers}

    def depth(layer: Layer) -> float:
        """The higher, the nearer."""
        return shake[id(layer)] - EDGE_WEIGHT * float(np.mean(list(layer.edges.values())))

    ranked = sorted(layers, key=depth)
    if hold is Hold.BACKGROUND or not ranked:
        return ranked
    farthest = ranked[0]
    nearer = [layer for layer in ranked if shake[id(layer)] > shake[id(farthest)] + SAME_SHAKE]
    return nearer[::-1] or ranked[::-1]


def _relative_shake(layer: Layer, camera: geometry.Matrices, fps: float) -> float:
    """Logarithm of a layer's shake, at its points, relative to the camera's."""
    numbers = sorted(layer.steps)
    centers = np.stack([layer.centers[number] for number in numbers])[:, None]
    moves = [
        (geometry.transform_points(steps, centers) - centers)[:, 0]
        for steps in (np.stack([layer.steps[number] for number in numbers]), camera[numbers])
    ]
    own, others = (_fast_part(move, SLOW_SECONDS * fps) + NOISE_PIXELS for move in moves)
    return float(np.log(own / others))


def _fast_part(moves: Array, sigma: float) -> float:
    """The root mean square of moves (n, 2) without their slow part."""
    radius = max(1, round(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weight = np.convolve(np.ones(len(moves)), kernel, mode="full")[radius:-radius]
    slow = np.stack([np.convolve(column, kernel, mode="full")[radius:-radius] / weight for column in moves.T], axis=-1)
    return float(np.sqrt(np.square(moves - slow).sum(axis=1).mean()))


# -- region


def _hold_region(clip: Clip, motion: Motion, region: Region | RegionMask, strength: float, side: int) -> Motion:
    count, info = len(motion.steps), motion.frame_info
    small = info.fit_within(side)
    to_small = np.array([small.width / info.width, small.height / info.height])
    resolved = _resolved_steps(motion)
    is_flat = motion.lens is None
    background = PlaneBackground(resolved, to_small) if is_flat else RayBackground(motion, resolved, to_small)
    positions = np.full((count, 2), np.nan)
    if isinstance(region, RegionMask):
        region.check(count)
    else:
        region.check(info, count)
    if isinstance(region, RegionMask) and len(region.masks) > 1:
        _track_masks(second_pass(clip, count), motion.shots, background, region, side, positions)
    else:
        shot = next(shot for shot in motion.shots if shot.start <= region.frame < shot.stop)
        _track_both_ways(second_pass(clip, shot.stop - shot.start), shot, background, region, side, info, positions)
    moves, held = np.zeros((count, background.columns)), np.zeros(count)
    for shot in motion.shots:
        moves[shot], held[shot] = _own_moves(positions[shot], background, shot, float(motion.info.fps))
    return _with_steps(motion, background.add_moves(strength * moves), held, Hold.REGION)


def _track_masks(
    clip: Clip, shots: Sequence[slice], background: Background, region: RegionMask, side: int, positions: Array
) -> None:
    """Track a subject with a mask for each frame.

    Tracking begins in the first frame of a shot in which the subject shows enough: it may enter the frame slowly.
    """
    tracker, starts = None, {shot.start for shot in shots}
    failure: UntrackableError | None = None
    for number, plane in enumerate(prefetch(luma_frames(clip, side), name="decode")):
        frame, mask = GrayFrame.of(plane), _region_mask(region.masks[number], *plane.shape[-2:])
        if number in starts:
            tracker = None
        if tracker is None:
            if mask.any():
                try:
                    tracker = SubjectTracker(frame, mask, is_box=False)
                except UntrackableError as error:
                    failure = error
                else:
                    positions[number] = tracker.subject.center
            continue
        center = tracker.step(frame, partial(background.move, number), mask)
        if center is not None:
            positions[number] = center
    if failure is not None and np.isnan(positions).all():
        raise failure


def _track_both_ways(
    clip: Clip,
    shot: slice,
    background: Background,
    region: Region | RegionMask,
    side: int,
    info: ClipInfo,
    positions: Array,
) -> None:
    """Track a subject from its frame on, to the end of the shot and to its start."""
    tracker: SubjectTracker | None = None
    first: GrayFrame | None = None
    for number, plane in enumerate(luma_range(clip, side, region.frame, shot.stop, None), start=region.frame):
        frame = GrayFrame.of(plane)
        if tracker is None:
            first, tracker = frame, _start(frame, region, info)
            center = tracker.subject.center
        else:
            center = tracker.step(frame, partial(background.move, number))
        if center is not None:
            positions[number] = center
    if region.frame == shot.start:
        return
    assert first is not None, "the frame of the region is read first"
    tracker = _start(first, region, info)
    for stop in range(region.frame, shot.start, -BACKWARD_FRAMES):
        start = max(shot.start, stop - BACKWARD_FRAMES)
        planes = [np.rint(plane[0, 0] * 255).astype(np.uint8) for plane in luma_range(clip, side, start, stop, None)]
        for number in range(stop - 1, start - 1, -1):
            frame = GrayFrame.of(np.divide(planes[number - start], 255, dtype=np.float32)[None, None])
            center = tracker.step(frame, partial(background.move_back, number + 1))
            if center is not None:
                positions[number] = center


def _start(frame: GrayFrame, region: Region | RegionMask, info: ClipInfo) -> SubjectTracker:
    height, width = frame.plane.shape
    if isinstance(region, RegionMask):
        return SubjectTracker(frame, _region_mask(region.masks[0], height, width), is_box=False)
    mask = np.zeros((height, width), bool)
    x, y = width / info.width, height / info.height
    rows = slice(round(region.y * y), max(round((region.y + region.height) * y), round(region.y * y) + 1))
    columns = slice(round(region.x * x), max(round((region.x + region.width) * x), round(region.x * x) + 1))
    mask[rows, columns] = True
    return SubjectTracker(frame, mask, is_box=True)


def _region_mask(mask: object, height: int, width: int) -> NDArray[np.bool_]:
    """A mask (H, W) of the subject at the size of the measured frames."""
    import torch.nn.functional as F
    from torch import Tensor

    assert isinstance(mask, Tensor)
    return F.interpolate(mask[None, None].float().cpu(), (height, width), mode="area")[0, 0].numpy() > 0.5


def _own_moves(positions: Array, background: Background, shot: slice, fps: float) -> tuple[Array, Array]:
    """Moves of a subject relative to the background, and the frames held.

    positions: (n, 2) in the frames of a shot, in pixels from the center, NaN where the subject is lost. Returns (n, k),
    the move from each frame before, and (n,), 1 where it is held and less where it fades.
    """
    n, seen = len(positions), np.isfinite(positions[:, 0])
    held = np.zeros(n)
    if seen.sum() < 2:
        return np.zeros((n, background.columns)), held
    in_scene = background.to_scene(shot, np.nan_to_num(positions))
    numbers = np.flatnonzero(seen)
    times = np.arange(n, dtype=np.float64)
    columns: list[Array] = [np.interp(times, numbers, column) for column in in_scene[seen].T]
    bridged = np.stack(columns, axis=-1)
    for before, after in pairwise(numbers.tolist()):
        if after - before <= MAX_BRIDGE_SECONDS * fps:
            held[before + 1 : after + 1] = 1
    moves = background.own_moves(shot, bridged) * held[:, None]
    return _with_fades(moves, held, round(FADE_SECONDS * fps))


def _with_fades(moves: Array, held: Array, length: int) -> tuple[Array, Array]:
    """Let the mean speed at the ends of what is held fade, not stop at once."""
    moves, shares = moves.copy(), held.copy()
    edges = np.flatnonzero(np.diff(held > 0, prepend=False, append=False)).reshape(-1, 2)
    for start, stop in edges.tolist():
        for outside, inside in (
            (range(stop, min(stop + length, len(held))), slice(max(start, stop - length), stop)),
            (range(start - 1, max(start - 1 - length, -1), -1), slice(start, min(stop, start + length))),
        ):
            speed = moves[inside].mean(axis=0)
            for k, number in enumerate(outside):
                if held[number]:
                    break
                share = 0.5 + 0.5 * np.cos(np.pi * (k + 1) / (length + 1))
                moves[number] += share * speed
                shares[number] = max(shares[number], share)
    return moves, shares


# -- both


def _resolved_steps(motion: Motion) -> geometry.Matrices:
    """The steps of the camera, with unreliable ones interpolated."""
    steps = geometry.matrices_from_tangents(interpolate_low_confidence(motion))
    steps[[shot.start for shot in motion.shots]] = np.eye(3)
    return steps


def _with_steps(motion: Motion, steps: geometry.Matrices, held: Array, hold: Hold) -> Motion:
    """Motion with other steps where something is held.

    They are measured, so their confidence is enough.
    """
    is_held = (motion.confidence > 0) & (held > 0)
    confidence = np.where(is_held, np.maximum(motion.confidence, MIN_CONFIDENCE), motion.confidence)
    steps = np.where(is_held[:, None, None], steps, motion.steps)
    held = held.copy()
    for shot in motion.shots:  # the first frame has no step: it is held as the next one is
        held[shot.start] = held[shot.start + 1] if shot.stop > shot.start + 1 else 0.0
    return replace(motion, steps=steps, confidence=confidence, hold=hold, held=held)
