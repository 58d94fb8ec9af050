"""Camera motion estimation of a clip.

The result has one homography and one confidence per frame.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..clip import Clip, ClipError, ClipInfo, Frames
from ..path.mesh import MeshOffsets, quantize
from ..path.motion import Motion
from ..runtime.optional_cv2 import optional_opencv
from ..runtime.threads.prefetch import prefetch
from ..shots import MIN_SCENE_CORRELATION, is_cut, is_duplicate, is_screen
from .camera.lens_estimate import NO_BOW, fit_bow
from .fit.background_prior import ALL_INLIERS, InlierMap, apply_inlier_map, update_inlier_map
from .fit.homography import fit_homography
from .fit.mesh_residuals import are_visible, no_residuals, vertex_residuals
from .fit.pose_graph import MIN_AGREEMENT, UNKNOWN, solve_pose_graph
from .fit.stillness import is_small, is_still
from .fit.subpixel import Evidence, align, step_evidence
from .frame_times import frame_times
from .optical_flow.correspondences import Correspondences, sample_flow
from .optical_flow.flow import LUMA_WEIGHTS, FlowMethod, FlowModel, flow_between_planes, flow_model, luma
from .optical_flow.gray_frame import GrayFrame, Masks, Plane, mask_of
from .transitions.transitions import resolve_transitions, thumbnail

if TYPE_CHECKING:
    from ..video.decode.timestamps import Timestamps

LOW_CONFIDENCE = 0.85  # inlier fraction below which a near object may have disturbed the dense flow
EXACT_MATCH_PIXELS = 0.3  # residual up to which a point matches a step exactly
EVEN_LIGHT_MARGIN = 0.02  # gain of correlation under even light from which the light has changed in parts
FOLLOWED_LIGHT = 0.3  # correlation under even light below which a step has followed the light
RELATED = 0.2  # correlation under even light from which two frames may show one scene
BETTER_MARGIN = 0.05  # gain of correlation, under even light, of a step that was measured there and is better
MUCH_BETTER_MARGIN = 0.4  # the same where most pixels do not show it
LINK_FRAMES = 5  # longest measurement across doubtful steps, and that across still frames
WORKING_SIDE = 480  # longer side of the measured frames: more costs much and gains hundredths of a pixel


class Step(NamedTuple):
    """Motion from one frame to the next, and the updated inlier map.

    matrix: (3, 3), in pixels of the measured frames. confidence, agreement: as in `Motion`. residuals: of the matrix,
    see `vertex_residuals`; None where none were asked for, or the step has none. bow: see `fit_bow`.
    """

    matrix: geometry.Matrices
    confidence: float
    inlier_map: InlierMap
    agreement: float = 1.0
    residuals: MeshOffsets | None = None
    bow: NDArray[np.float64] = NO_BOW


FIRST_STEP = Step(np.eye(3), 0.0, ALL_INLIERS, 0.0)
"""The step to the first frame of a clip or shot."""


def estimate_motion(
    clip: Clip,
    flow: FlowModel,
    *,
    side: int = WORKING_SIDE,
    mask: Masks | None = None,
    with_residuals: bool = False,
) -> Motion:
    """Measure the camera motion between neighboring frames, in one pass over the clip.

    flow: runs on frames reduced to `side` pixels on the longer side. Two frames are in memory at a time.
    mask: moving subjects to ignore, people for instance: (N, H, W) in [0, 1], or (1, H, W) for all frames, above 0.5
    where the frame is ignored; or a function that returns the mask (H, W) of frame i. Any size: it is stretched to the
    frame.
    with_residuals: measure those of `Motion` as well.
    The timestamps of a video file are read as well, see `frame_times`.
    Raises ClipError for a clip without frames, and for a number of masks that differs from the number of frames.
    """
    motion, _ = estimate_from_luma(
        enumerate(prefetch(luma_frames(clip, side), name="decode")), clip.info, flow, mask, ALL_INLIERS,
        with_residuals=with_residuals,
    )  # fmt: skip
    motion = resolve_transitions(solve_pose_graph(motion))
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
    known: Motion | None = None,
    *,
    with_residuals: bool = False,
) -> tuple[Motion, InlierMap]:
    """Estimate the motion of (frame number, luma (1, 1, h, w)) pairs.

    Returns also the final inlier map. The motion has links, agreements and thumbnails: the
    input of `solve_pose_graph` and `resolve_transitions`.

    inlier_map: that of the first frame to measure; `ALL_INLIERS` at the start of a clip. info: of the clip; steps are
    in its pixels. known: the motion of the first frames, which are not measured again; `LINK_FRAMES` of them are enough
    to continue a clip. with_residuals: see `estimate_motion`. Raises ClipError if there are no frames.
    """
    steps, confidence, agreement, links, bows = array("d"), array("d"), array("d"), array("d"), array("d")
    thumbnails = array("B")
    residuals = array("f")
    recent: deque[GrayFrame] = deque(maxlen=LINK_FRAMES + 1)
    rested = 0  # frames since the last large step
    for i, (number, plane) in enumerate(numbered_luma):
        height, width = plane.shape[-2:]
        thumbnails.frombytes(thumbnail(plane).tobytes())
        recent.append(GrayFrame.of(plane, mask_of(mask, number, height, width)))
        to_clip = info.width / width, info.height / height
        if known is not None and i < len(known.steps):
            assert known.agreement is not None
            assert known.bows is not None
            bows.extend(known.bows[i])
            steps.extend(known.steps[i].ravel())
            confidence.append(known.confidence[i] if i else 0.0)
            agreement.append(known.agreement[i])
            known_step = geometry.rescale(known.steps[i], 1 / to_clip[0], 1 / to_clip[1])
            rested = rested + 1 if confidence[-1] > 0 and is_small(known_step, height, width) else 0
            if with_residuals and known.residuals is not None:
                residuals.extend(known.residuals[i].ravel())
            continue
        step = FIRST_STEP._replace(inlier_map=inlier_map)
        if i:
            step = estimate_step(recent[-2], recent[-1], flow, inlier_map, with_residuals=with_residuals)
        inlier_map = step.inlier_map
        steps.extend(geometry.rescale(step.matrix, *to_clip).ravel())
        confidence.append(step.confidence)
        agreement.append(step.agreement)
        if with_residuals:
            of_step = (
                no_residuals() if step.residuals is None else quantize(step.residuals * np.array(to_clip, np.float32))
            )
            residuals.extend(of_step.ravel())
        bows.extend(step.bow)
        for frames in _frames_to_link(agreement):
            link = estimate_step(recent[-1 - frames], recent[-1], flow, ALL_INLIERS)
            if link.agreement >= MIN_SCENE_CORRELATION:
                links.extend([i - frames, i, link.agreement, *geometry.rescale(link.matrix, *to_clip).ravel()])
        rested = rested + 1 if step.confidence > 0 and is_small(step.matrix, height, width) else 0
        is_exact = (step.matrix == np.eye(3)).all()  # a duplicate or a screen
        if rested >= LINK_FRAMES and not is_exact and is_still(recent[0], recent[-1]):
            links.extend([i - LINK_FRAMES, i, 1.0, *np.eye(3).ravel()])
    if not steps:
        raise ClipError("the clip has no frames, so there is no motion to measure")
    motion = Motion(np.array(steps).reshape(-1, 3, 3), np.array(confidence), info)
    motion = replace(motion, agreement=np.array(agreement), links=np.array(links).reshape(-1, 12))
    motion = replace(motion, bows=np.array(bows).reshape(-1, 6))
    motion = replace(motion, thumbnails=np.array(thumbnails).reshape(len(confidence), -1))
    if with_residuals:
        motion = replace(motion, residuals=np.array(residuals).reshape(-1, *no_residuals().shape))
    return motion, inlier_map


def _frames_to_link(agreement: Sequence[float]) -> list[int]:
    """Return how far to go back from the last frame for links, in frames.

    Empty unless a step is doubtful. agreement: of the steps so far. One link leads across all recent doubtful steps:
    after a flash, to the frame before it.
    """
    doubtful = [k for k in range(1, LINK_FRAMES) if k < len(agreement) and agreement[-k] < MIN_AGREEMENT]
    if not doubtful or doubtful[0] > 2:
        return []
    if doubtful == [1] and agreement[-1] == 0:
        return []  # perhaps a cut: the next frame tells
    return sorted({frames for frames in (2, doubtful[-1]) if 1 < frames < len(agreement)})


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


def luma_range(
    clip: Clip, side: int, first: int, stop: int | None, times: Timestamps | None
) -> Generator[Plane, None, None]:
    """Yield the frames of `luma_frames` from number `first` to before `stop`.

    A video file is decoded from the key frame before. times: of its frames, if they have been read.
    """
    read_range = getattr(clip, "luma_range", None)
    if read_range is not None:
        yield from read_range(side, first, stop, times)
    else:
        yield from islice(luma_frames(clip, side), first, stop)


def second_pass(clip: Clip, count: int) -> Clip:
    """Return the same clip, for reading `count` of its frames once more; see `Clip`."""
    begin = getattr(clip, "second_pass", None)
    return clip if begin is None else begin(count)


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


def estimate_step(
    first: GrayFrame, second: GrayFrame, flow: FlowModel, inlier_map: InlierMap, *, with_residuals: bool = False
) -> Step:
    """Estimate the camera motion between two frames.

    inlier_map: that of the first frame. with_residuals: see `Step`. The matrix is in pixels of the planes. After a cut,
    returns `FIRST_STEP`.
    """
    if is_duplicate(first.plane, second.plane):
        return Step(np.eye(3), 1.0, inlier_map)
    if is_screen(first.plane, second.plane):
        return Step(np.eye(3), 1.0, inlier_map)
    step, fitted, evidence = _measure_step(first, second, flow, inlier_map, with_residuals=with_residuals)
    if step.confidence >= LOW_CONFIDENCE and step.agreement >= MIN_AGREEMENT:
        return step
    # In doubt. Where parts of the frame change their brightness, the frames are more alike under even light, or hardly
    # alike along a step that has followed the light. After a cut they are not alike at all.
    a, b = first.even_light, second.even_light
    with_step, with_fit = (step_evidence(a, b, matrix).step for matrix in (step.matrix, fitted))
    if step.confidence == 0:
        is_lit_evenly = max(with_step, with_fit) < RELATED
    else:
        is_lit_evenly = with_fit < evidence.step + EVEN_LIGHT_MARGIN and with_step > FOLLOWED_LIGHT
    if is_lit_evenly:
        return step
    other, _, other_evidence = _measure_step(a, b, flow, inlier_map, with_residuals=with_residuals)
    gain = other_evidence.step - with_step
    is_better = gain > (BETTER_MARGIN if other_evidence.is_clear else MUCH_BETTER_MARGIN)
    return other if is_better and other.confidence > step.confidence else step


def _measure_step(
    first: GrayFrame, second: GrayFrame, flow: FlowModel, inlier_map: InlierMap, *, with_residuals: bool
) -> tuple[Step, geometry.Matrices, Evidence]:
    """Measure the step between two frames in the light that they have.

    Returns also the fit to matches that was refined, and how well the frames agree.
    """
    size = first.plane.shape
    matches, matrix, confidence, cut = _fit_step(first, second, flow, inlier_map)
    disturbed = confidence < LOW_CONFIDENCE and not hasattr(flow, "track_points")
    fallback = _fallback_flow(flow) if cut or disturbed else None
    if fallback is not None:
        other = _fit_step(first, second, fallback, inlier_map)
        if cut or _exact_fraction(*other[:2]) > _exact_fraction(matches, matrix):
            matches, matrix, confidence, cut = *other[:3], cut and other[3]
    matched, bow, fitted = confidence > 0, NO_BOW, matrix
    if matched:
        bow = fit_bow(matches, matrix, *size[-2:])
        inlier_map = update_inlier_map(inlier_map, matches, matrix, *size)
        matrix = align(first, second, matrix, inlier_map)
    evidence = step_evidence(first, second, matrix)
    agreement = max(evidence.step, evidence.still)
    if cut and (agreement < MIN_SCENE_CORRELATION or evidence.is_empty):
        return FIRST_STEP, fitted, evidence
    if evidence.favors_still:
        return Step(np.eye(3), UNKNOWN, inlier_map, agreement), fitted, evidence
    if not matched or evidence.is_empty or evidence.is_clear:
        agreement = 1.0  # nothing to see, or objects before a background: nothing to doubt
    residuals = vertex_residuals(matches, matrix, *size) if with_residuals and matched else None
    if residuals is not None and not are_visible(residuals, matrix, first, second):
        residuals = None
    return Step(matrix, max(confidence, UNKNOWN), inlier_map, agreement, residuals, bow), fitted, evidence


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
