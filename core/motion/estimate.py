"""Pass 1: pixels become a few numbers per frame, how the camera moved from each to the next and how sure that is."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
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
from .gray_frame import GrayFrame, Masks, Plane, mask_of
from .homography import fit_homography
from .subpixel import align

LOW_CONFIDENCE = 0.85  # share of the picture that follows the camera, below which something near may have torn the flow
EXACT_MATCH_PIXELS = 0.3  # pixels between a point and a step that it is taken for an instance of
WORKING_SIDE = 480  # longer side of the frames that are measured: finer costs much and gains hundredths of a pixel


class Step(NamedTuple):
    """From one frame to the next: matrix (3, 3) in their pixels, trust as in `Motion`, and who followed so far."""

    matrix: geometry.Matrices
    confidence: float
    inlier_map: InlierMap


FIRST_STEP = Step(np.eye(3), 0.0, ALL_INLIERS)  # of the first frame of a clip


def estimate_motion(clip: Clip, flow: FlowModel, *, side: int = WORKING_SIDE, mask: Masks | None = None) -> Motion:
    """Read the clip once and measure the step from each frame to the next.

    flow: measures on frames reduced to `side` pixels on the longer side. Holds two frames at a time.
    mask: what moves by itself and is not to be followed, people for instance: (N, H, W) in [0, 1], or (1, H, W) for all
    frames, more than 0.5 where not to look; or a function that gives the mask (H, W) of frame i. Of any size: it is
    laid over the whole frame.
    Raises ClipError for a clip without frames, and for masks that are not as many as the frames.
    """
    motion, _ = estimate_from_luma(
        enumerate(prefetch(luma_frames(clip, side), name="decode")), clip.info, flow, mask, ALL_INLIERS
    )
    masks = 1 if mask is None or callable(mask) else len(mask)
    count = len(motion.steps)
    if masks not in (1, count):
        raise ClipError(f"the clip has {count} frames, the mask {masks}: give one for each frame, or only one")
    return motion


def estimate_from_luma(
    numbered_luma: Iterable[tuple[int, Plane]],
    info: ClipInfo,
    flow: FlowModel,
    mask: Masks | None,
    inlier_map: InlierMap,
) -> tuple[Motion, InlierMap]:
    """The motion of numbered grey frames (1, 1, h, w), and where the camera was followed up to the last of them.

    followers: where it was followed up to the first, which for the first of a clip is everywhere. info: of the clip;
    steps are in its pixels. Raises ClipError for no frames.
    """
    steps, trust = array("d"), array("d")
    previous: GrayFrame | None = None
    step = FIRST_STEP._replace(inlier_map=inlier_map)
    for number, grey in numbered_luma:
        height, width = grey.shape[-2:]
        current = GrayFrame.of(grey, mask_of(mask, number, height, width))
        if previous is not None:
            step = estimate_step(previous, current, flow, step.inlier_map)
        steps.extend(geometry.rescale(step.matrix, info.width / width, info.height / height).ravel())
        trust.append(step.confidence)
        previous = current
    if not steps:
        raise ClipError("the clip has no frames, so there is no motion to measure")
    return Motion(np.array(steps).reshape(-1, 3, 3), np.array(trust), info), step.inlier_map


def luma_frames(clip: Clip, side: int) -> Iterator[Plane]:
    """The clip's frames as brightness (1, 1, h, w), float32 in [0, 1], of the size `clip.info.within(side)`."""
    own = getattr(clip, "luma_frames", None)
    if own is not None:
        yield from own(side)
        return
    small = clip.info.fit_within(side)
    for frames in clip.frames():
        yield downscale_luma(frames, small.height, small.width)


def downscale_luma(frame: Frames, height: int, width: int) -> Plane:
    """(1, C, H, W) -> its brightness (1, 1, height, width): each pixel the mean of what it covers."""
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
    """The step between two frames, given where the camera was followed up to the first."""
    if is_duplicate(first.plane, second.plane):
        return Step(np.eye(3), 1.0, inlier_map)
    size = first.plane.shape
    found, matrix, sure, cut = _fit_step(first, second, flow, inlier_map)
    torn = sure < LOW_CONFIDENCE and not hasattr(flow, "track_points")
    other = _fallback_flow(flow) if cut or torn else None
    if other is not None:
        asked = _fit_step(first, second, other, inlier_map)
        if cut or _exact_fraction(*asked[:2]) > _exact_fraction(found, matrix):
            found, matrix, sure, cut = *asked[:3], cut and asked[3]
    if cut:
        return FIRST_STEP
    if sure > 0:
        inlier_map = update_inlier_map(inlier_map, found, matrix, *size)
        matrix = align(first, second, matrix, inlier_map)
    return Step(matrix, max(sure, 1e-3), inlier_map)  # weak is not a cut


def _fit_step(
    first: GrayFrame, second: GrayFrame, flow: FlowModel, inlier_map: InlierMap
) -> tuple[Correspondences, geometry.Matrices, float, bool]:
    """What went where, the camera's step in full-size pixels and how sure it is, and whether even so it is a cut."""
    size = first.plane.shape
    a, b = (f.half if min(size) >= 64 else f for f in (first, second))  # flow is coarse: alignment does the rest
    follow = getattr(flow, "track_points", None)
    if follow is None:
        field = flow_between_planes(flow, a.plane, b.plane)
        found = _scale_matches(sample_flow(field, a.plane, a.ignore_mask), size[1] // a.plane.shape[1])
        matrix, sure = fit_homography(*apply_inlier_map(found, inlier_map, *size))
    else:
        found = follow(first, second)
        matrix, sure = fit_homography(*apply_inlier_map(found, inlier_map, *size))
        field = _flow_from_step(matrix, size, a.plane.shape)
    return found, matrix, sure, is_cut(a.plane, b.plane, field)


def _exact_fraction(matches: Correspondences, step: geometry.Matrices) -> float:
    """The share of what was found, in [0, 1], that does just what the step says."""
    off = np.hypot(*(geometry.transform_points(step, matches.src_points) - matches.dst_points).T)
    return float((matches.weights * (off < EXACT_MATCH_PIXELS)).sum() / max(matches.weights.sum(), 1e-9))


def _fallback_flow(flow: FlowModel) -> FlowModel | None:
    """Who is asked before a cut is believed: dense flow may fail where the picture jumps, tracks where it is plain.

    And where much does not follow: dense flow runs smoothly from a near thing to what is behind it, and of many near
    things little is left that moves as anything does. Tracks know no neighbours.
    """
    if optional_opencv() is None:
        return None
    return flow_model(FlowMethod.DIS if hasattr(flow, "track_points") else FlowMethod.TRACKS)


def _scale_matches(matches: Correspondences, factor: int) -> Correspondences:
    return Correspondences(matches.src_points * factor, matches.dst_points * factor, matches.weights)


def _flow_from_step(step: geometry.Matrices, frame_size: tuple[int, int], flow_size: tuple[int, int]) -> Plane:
    """The flow (2, h, w) of a frame that all follows a step: in the pixels of the smaller size, the step in full."""
    height, width = flow_size
    m = geometry.rescale(step, width / frame_size[1], height / frame_size[0]).astype(np.float32)
    x = np.arange(width, dtype=np.float32) + np.float32(0.5 - width / 2)
    y = np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5 - height / 2)
    depth = m[2, 0] * x + m[2, 1] * y + 1
    across, down = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / depth - x, (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / depth - y
    return np.stack([across, down])
