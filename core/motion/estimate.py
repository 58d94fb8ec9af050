"""Pass 1: pixels become a few numbers per frame, how the camera moved from each to the next and how sure that is."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..clip import Clip, ClipError, ClipInfo, Frames
from ..opencv import optional_opencv
from ..pipeline import ahead
from ..shots import is_cut, is_repeat
from .align import align
from .correspondences import Correspondences, sampled
from .fit import fit
from .flow import LUMA, FlowMethod, FlowModel, field_between, flow_model, luma
from .followers import EVERYWHERE, Followers, updated, weighted
from .grey import Grey, Masks, Plane, hidden_by

WHOLE = 0.85  # share of the picture that follows the camera, below which something near may have torn the flow
EXACT = 0.3  # pixels between a point and a step that it is taken for an instance of
WORKING_SIDE = 480  # longer side of the frames that are measured: finer costs much and gains hundredths of a pixel


@dataclass(frozen=True)
class Motion:
    """The camera's motion between neighbouring frames, as measured.

    steps: (N, 3, 3); steps[i] carries points of frame i - 1 to where they are seen in frame i, in full-size pixels
    (geometry.py has the convention). steps[0] is the identity.
    trust: (N,) in [0, 1]; how much of the picture agrees with the step. 0 means that frame i does not continue
    frame i - 1: it is the first of a shot.
    readout: of a rolling shutter: the share of the frame time between the exposure of the first and of the last row,
    from -1 (the last comes first) to 1; 0 where all of a frame is exposed at once. See readout.py.
    """

    steps: geometry.Matrices
    trust: NDArray[np.float64]
    info: ClipInfo
    readout: float = 0.0

    @property
    def shots(self) -> list[slice]:
        """The runs of frames between cuts."""
        starts = np.flatnonzero(self.trust == 0).tolist()
        return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(self.trust)], strict=True)]


class Step(NamedTuple):
    """From one frame to the next: matrix (3, 3) in their pixels, trust as in `Motion`, and who followed so far."""

    matrix: geometry.Matrices
    trust: float
    followers: Followers


START = Step(np.eye(3), 0.0, EVERYWHERE)  # of the first frame of a clip


def estimate_motion(clip: Clip, flow: FlowModel, *, side: int = WORKING_SIDE, mask: Masks | None = None) -> Motion:
    """Read the clip once and measure the step from each frame to the next.

    flow: measures on frames reduced to `side` pixels on the longer side. Holds two frames at a time.
    mask: what moves by itself and is not to be followed, people for instance: (N, H, W) in [0, 1], or (1, H, W) for all
    frames, more than 0.5 where not to look; or a function that gives the mask (H, W) of frame i. Of any size: it is
    laid over the whole frame.
    Raises ClipError for a clip without frames, and for masks that are not as many as the frames.
    """
    motion, _ = motion_of(enumerate(ahead(greys(clip, side), name="decode")), clip.info, flow, mask, EVERYWHERE)
    masks = 1 if mask is None or callable(mask) else len(mask)
    count = len(motion.steps)
    if masks not in (1, count):
        raise ClipError(f"the clip has {count} frames, the mask {masks}: give one for each frame, or only one")
    return motion


def motion_of(
    small: Iterable[tuple[int, Plane]], info: ClipInfo, flow: FlowModel, mask: Masks | None, followers: Followers
) -> tuple[Motion, Followers]:
    """The motion of numbered grey frames (1, 1, h, w), and where the camera was followed up to the last of them.

    followers: where it was followed up to the first, which for the first of a clip is everywhere. info: of the clip;
    steps are in its pixels. Raises ClipError for no frames.
    """
    steps, trust = array("d"), array("d")
    previous: Grey | None = None
    step = START._replace(followers=followers)
    for number, grey in small:
        height, width = grey.shape[-2:]
        current = Grey.of(grey, hidden_by(mask, number, height, width))
        if previous is not None:
            step = next_step(previous, current, flow, step.followers)
        steps.extend(geometry.rescaled(step.matrix, info.width / width, info.height / height).ravel())
        trust.append(step.trust)
        previous = current
    if not steps:
        raise ClipError("the clip has no frames, so there is no motion to measure")
    return Motion(np.array(steps).reshape(-1, 3, 3), np.array(trust), info), step.followers


def greys(clip: Clip, side: int) -> Iterator[Plane]:
    """The clip's frames as brightness (1, 1, h, w), float32 in [0, 1], of the size `clip.info.within(side)`."""
    own = getattr(clip, "greys", None)
    if own is not None:
        yield from own(side)
        return
    small = clip.info.within(side)
    for frames in clip.frames():
        yield reduced(frames, small.height, small.width)


def reduced(frame: Frames, height: int, width: int) -> Plane:
    """(1, C, H, W) -> its brightness (1, 1, height, width): each pixel the mean of what it covers."""
    cv2 = optional_opencv()
    if cv2 is None:
        import torch.nn.functional as F

        size = (height, width)
        return F.interpolate(luma(frame), size, mode="bilinear", antialias=True, align_corners=False).cpu().numpy()
    planes = frame[0, :3].cpu().float().numpy()
    if planes.shape[1:] != (height, width):
        planes = [cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in planes]
    total = planes[0] * np.float32(LUMA[0])
    for plane, weight in zip(planes[1:], LUMA[1:], strict=True):
        total += plane * np.float32(weight)
    return total[None, None]


def next_step(first: Grey, second: Grey, flow: FlowModel, followers: Followers) -> Step:
    """The step between two frames, given where the camera was followed up to the first."""
    if is_repeat(first.plane, second.plane):
        return Step(np.eye(3), 1.0, followers)
    size = first.plane.shape
    found, matrix, sure, cut = _explained(first, second, flow, followers)
    torn = sure < WHOLE and not hasattr(flow, "follow")
    other = _second_opinion(flow) if cut or torn else None
    if other is not None:
        asked = _explained(first, second, other, followers)
        if cut or _exactness(*asked[:2]) > _exactness(found, matrix):
            found, matrix, sure, cut = *asked[:3], cut and asked[3]
    if cut:
        return START
    if sure > 0:
        followers = updated(followers, found, matrix, *size)
        matrix = align(first, second, matrix, followers)
    return Step(matrix, max(sure, 1e-3), followers)  # weak is not a cut


def _explained(
    first: Grey, second: Grey, flow: FlowModel, followers: Followers
) -> tuple[Correspondences, geometry.Matrices, float, bool]:
    """What went where, the camera's step in full-size pixels and how sure it is, and whether even so it is a cut."""
    size = first.plane.shape
    a, b = (f.half if min(size) >= 64 else f for f in (first, second))  # flow is coarse: alignment does the rest
    follow = getattr(flow, "follow", None)
    if follow is None:
        field = field_between(flow, a.plane, b.plane)
        unknown = np.logical_not(np.isfinite(field).all(axis=0))  # a network in half precision may overflow
        field = np.where(unknown, 0, field)
        hidden = unknown if a.hidden is None else np.logical_or(a.hidden, unknown)
        found = _enlarged(sampled(field, a.plane, hidden), size[1] // a.plane.shape[1])
        matrix, sure = fit(*weighted(found, followers, *size))
    else:
        found = follow(first, second)
        matrix, sure = fit(*weighted(found, followers, *size))
        field = _everywhere(matrix, size, a.plane.shape)
    return found, matrix, sure, is_cut(a.plane, b.plane, field)


def _exactness(found: Correspondences, step: geometry.Matrices) -> float:
    """The share of what was found, in [0, 1], that does just what the step says."""
    off = np.hypot(*(geometry.apply(step, found.points) - found.moved).T)
    return float((found.weights * (off < EXACT)).sum() / max(found.weights.sum(), 1e-9))


def _second_opinion(flow: FlowModel) -> FlowModel | None:
    """Who is asked before a cut is believed: dense flow may fail where the picture jumps, tracks where it is plain.

    And where much does not follow: dense flow runs smoothly from a near thing to what is behind it, and of many near
    things little is left that moves as anything does. Tracks know no neighbours.
    """
    if optional_opencv() is None:
        return None
    return flow_model(FlowMethod.DIS if hasattr(flow, "follow") else FlowMethod.TRACKS)


def _enlarged(found: Correspondences, factor: int) -> Correspondences:
    return Correspondences(found.points * factor, found.moved * factor, found.weights)


def _everywhere(step: geometry.Matrices, size: tuple[int, int], smaller: tuple[int, int]) -> Plane:
    """The flow (2, h, w) of a frame that all follows a step: in the pixels of the smaller size, the step in full."""
    height, width = smaller
    m = geometry.rescaled(step, width / size[1], height / size[0]).astype(np.float32)
    x = np.arange(width, dtype=np.float32) + np.float32(0.5 - width / 2)
    y = np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5 - height / 2)
    depth = m[2, 0] * x + m[2, 1] * y + 1
    across, down = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / depth - x, (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / depth - y
    return np.stack([across, down])
