"""Camera motion estimation of a clip.

The result has one homography and one confidence per frame.
"""

from __future__ import annotations

from array import array
from collections.abc import Generator, Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .. import geometry
from ..clip import Clip, ClipError, ClipInfo, Frames
from ..path.motion import Motion
from ..runtime.optional_cv2 import optional_opencv
from ..runtime.prefetch import prefetch
from ..shots import is_cut, is_duplicate
from .background_prior import ALL_INLIERS, InlierMap, apply_inlier_map, update_inlier_map
from .correspondences import Correspondences, sample_flow
from .flow import LUMA_WEIGHTS, FlowMethod, FlowModel, flow_between_planes, flow_model, luma
from .frame_times import frame_times
from .gray_frame import GrayFrame, Masks, Plane, mask_of
from .homography import fit_homography
from .subpixel import align

LOW_CONFIDENCE = 0.85  # inlier fraction below which a near object may have disturbed the dense flow
EXACT_MATCH_PIXELS = 0.3  # residual up to which a point matches a step exactly
WORKING_SIDE = 480  # longer side of the measured frames: more costs much and gains hundredths of a pixel


class Step(NamedTuple):
    """Motion from one frame to the next, and the updated inlier map.

    matrix: (3, 3), in pixels of the measured frames. confidence: as in `Motion`.
    """

    matrix: geometry.Matrices
    confidence: float
    inlier_map: InlierMap


FIRST_STEP = Step(np.eye(3), 0.0, ALL_INLIERS)
"""The step to the first frame of a clip or shot."""


def estimate_motion(clip: Clip, flow: FlowModel, *, side: int = WORKING_SIDE, mask: Masks | None = None) -> Motion:
    """Measure the camera motion between neighboring frames, in one pass over the clip.

    flow: runs on frames reduced to `side` pixels on the longer side. Two frames are in memory at a time.
    mask: moving subjects to ignore, people for instance: (N, H, W) in [0, 1], or (1, H, W) for all frames, above 0.5
    where the frame is ignored; or a function that returns the mask (H, W) of frame i. Any size: it is stretched to the
    frame.
    The timestamps of a video file are read as well, see `frame_times`.
    Raises ClipError for a clip without frames, and for a number of masks that differs from the number of frames.
    """
    motion, _ = estimate_from_luma(
        enumerate(prefetch(luma_frames(clip, side), name="decode")), clip.info, flow, mask, ALL_INLIERS
    )
    masks = 1 if mask is None or callable(mask) else len(mask)
    count = len(motion.steps)
    if masks not in (1, count):
        raise ClipError(f"the clip has {count} frames, the mask {masks}: give one for each frame, or only one")
    return replace(motion, times=frame_times(clip, count))


def estimate_from_luma(
    numbered_luma: Iterable[tuple[int, Plane]],
    info: ClipInfo,
    flow: FlowModel,
    mask: Masks | None,
    inlier_map: InlierMap,
) -> tuple[Motion, InlierMap]:
    """Estimate the motion of (frame number, luma (1, 1, h, w)) pairs.

    Returns also the final inlier map.

    inlier_map: that of the first frame; `ALL_INLIERS` at the start of a clip. info: of the clip; steps are in its
    pixels. Raises ClipError if there are no frames.
    """
    steps, confidence = array("d"), array("d")
    previous: GrayFrame | None = None
    step = FIRST_STEP._replace(inlier_map=inlier_map)
    for number, plane in numbered_luma:
        height, width = plane.shape[-2:]
        current = GrayFrame.of(plane, mask_of(mask, number, height, width))
        if previous is not None:
            step = estimate_step(previous, current, flow, step.inlier_map)
        steps.extend(geometry.rescale(step.matrix, info.width / width, info.height / height).ravel())
        confidence.append(step.confidence)
        previous = current
    if not steps:
        raise ClipError("the clip has no frames, so there is no motion to measure")
    return Motion(np.array(steps).reshape(-1, 3, 3), np.array(confidence), info), step.inlier_map


def luma_frames(clip: Clip, side: int) -> Generator[Plane, None, None]:
    """Yield the luma of a clip in reduced size.

    Each is (1, 1, h, w) float32 in [0, 1], of the size `clip.info.fit_within(side)`.
    """
    read_luma = getattr(clip, "luma_frames", None)
    if read_luma is not None:
        yield from read_luma(side)
        return
    small = clip.info.fit_within(side)
    for frames in clip.frames():
        yield downscale_luma(frames, small.height, small.width)


def downscale_luma(frame: Frames, height: int, width: int) -> Plane:
    """Return the luma of a frame, reduced by area averaging.

    (1, C, H, W) -> (1, 1, height, width).
    """
    cv2 = optional_opencv()
    if cv2 is None:
        import torch.nn.functional as F

        size = (height, width)
        return F.interpolate(luma(frame), size, mode="bilinear", antialias=True, align_corners=False).cpu().numpy()
    planes = frame[0, :3].cpu().float().numpy()
    if planes.shape[1:] != (height, width):
        planes = [cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in planes]
    total = planes[0] * np.float32(LUMA_WEIGHTS[0])
    for plane, weight in zip(planes[1:], LUMA_WEIGHTS[1:], strict=True):
        total += plane * np.float32(weight)
    return total[None, None]


def estimate_step(first: GrayFrame, second: GrayFrame, flow: FlowModel, inlier_map: InlierMap) -> Step:
    """Estimate the camera motion between two frames.

    inlier_map: that of the first frame. The matrix is in pixels of the planes. After a cut, returns `FIRST_STEP`.
    """
    if is_duplicate(first.plane, second.plane):
        return Step(np.eye(3), 1.0, inlier_map)
    size = first.plane.shape
    matches, matrix, confidence, cut = _fit_step(first, second, flow, inlier_map)
    disturbed = confidence < LOW_CONFIDENCE and not hasattr(flow, "track_points")
    fallback = _fallback_flow(flow) if cut or disturbed else None
    if fallback is not None:
        other = _fit_step(first, second, fallback, inlier_map)
        if cut or _exact_fraction(*other[:2]) > _exact_fraction(matches, matrix):
            matches, matrix, confidence, cut = *other[:3], cut and other[3]
    if cut:
        return FIRST_STEP
    if confidence > 0:
        inlier_map = update_inlier_map(inlier_map, matches, matrix, *size)
        matrix = align(first, second, matrix, inlier_map)
    return Step(matrix, max(confidence, 1e-3), inlier_map)  # 0 would mark a cut


def _fit_step(
    first: GrayFrame, second: GrayFrame, flow: FlowModel, inlier_map: InlierMap
) -> tuple[Correspondences, geometry.Matrices, float, bool]:
    """Fit a homography to the matches between two frames.

    Returns (matches, step in pixels of the planes, confidence, whether the second frame starts a new shot).
    """
    size = first.plane.shape
    a, b = (f.half if min(size) >= 64 else f for f in (first, second))  # coarse flow is enough: `align` refines it
    track_points = getattr(flow, "track_points", None)
    if track_points is None:
        dense = flow_between_planes(flow, a.plane, b.plane)
        invalid = np.logical_not(np.isfinite(dense).all(axis=0))  # a network in half precision may overflow
        dense = np.where(invalid, 0, dense)
        ignore_mask = invalid if a.ignore_mask is None else np.logical_or(a.ignore_mask, invalid)
        matches = _scale_matches(sample_flow(dense, a.plane, ignore_mask), size[1] // a.plane.shape[1])
        matrix, confidence = fit_homography(*apply_inlier_map(matches, inlier_map, *size))
    else:
        matches = track_points(first, second)
        matrix, confidence = fit_homography(*apply_inlier_map(matches, inlier_map, *size))
        dense = _flow_from_step(matrix, size, a.plane.shape)
    return matches, matrix, confidence, is_cut(a.plane, b.plane, dense)


def _exact_fraction(matches: Correspondences, step: geometry.Matrices) -> float:
    """Return the weighted fraction of the matches that fit exactly, in [0, 1].

    Their residual is below `EXACT_MATCH_PIXELS`.
    """
    residuals = np.hypot(*(geometry.transform_points(step, matches.src_points) - matches.dst_points).T)
    return float((matches.weights * (residuals < EXACT_MATCH_PIXELS)).sum() / max(matches.weights.sum(), 1e-9))


def _fallback_flow(flow: FlowModel) -> FlowModel | None:
    """Return the second estimator; None without OpenCV.

    It is used before a cut is accepted and at low confidence.

    Dense flow may fail at large jumps, tracks in frames with little texture. Dense flow is also smooth across the edge
    of a near object, so with many near objects few of its vectors are right; tracks do not depend on neighbors.
    """
    if optional_opencv() is None:
        return None
    return flow_model(FlowMethod.DIS if hasattr(flow, "track_points") else FlowMethod.TRACKS)


def _scale_matches(matches: Correspondences, factor: int) -> Correspondences:
    return Correspondences(matches.src_points * factor, matches.dst_points * factor, matches.weights)


def _flow_from_step(step: geometry.Matrices, frame_size: tuple[int, int], flow_size: tuple[int, int]) -> Plane:
    """Convert a step to a dense flow (2, h, w).

    step: in pixels of `frame_size` (H, W). The flow is in pixels of `flow_size` (h, w).
    """
    height, width = flow_size
    m = geometry.rescale(step, width / frame_size[1], height / frame_size[0]).astype(np.float32)
    x = np.arange(width, dtype=np.float32) + np.float32(0.5 - width / 2)
    y = np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5 - height / 2)
    depth = m[2, 0] * x + m[2, 1] * y + 1
    flow_x = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / depth - x
    flow_y = (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / depth - y
    return np.stack([flow_x, flow_y])
