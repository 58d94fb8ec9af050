"""Separate planes of a scene that move differently.

Points are tracked through a shot. A homography per layer is fitted to each step, and each point keeps a probability for
each layer, which all steps together determine: where two layers move alike for a moment, as at the turning points of a
shake, their points keep apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from ... import geometry
from ...clip import ClipError
from ...runtime.optional_cv2 import optional_opencv
from ..fit.background_prior import ALL_INLIERS, InlierMap, cell_indices
from ..fit.homography import fit_homography
from ..fit.subpixel import align
from ..optical_flow.gray_frame import GrayFrame, Plane
from ..optical_flow.klt import FB_ERROR_PIXELS, PYRAMID_LEVELS, WINDOW_PIXELS

MAX_LAYERS = 4
CELL_PIXELS = 12  # side of the cells with at least one tracked point each
MIN_TEXTURE = 0.004  # of a tracked point, see `texture_strength`
HALF_LIKELIHOOD_PIXELS = 0.4  # residual at which the likelihood of a layer is halved
OUTLIER_LIKELIHOOD = 0.08  # of a point under no layer: that of a residual of 1.4 pixels
FORGETTING = 0.03  # probability that a point changes the layer, by slipping off an edge
NEIGHBOR_PIXELS = 25.0  # distance at which a new point takes over half of another's probabilities
MIN_NEW_SHARE = 0.06  # of the points that a new layer has to explain
MIN_NEW_PIXELS = 1.0  # median distance of a new layer's points from where the other layers would move them
MIN_POINTS = 8  # of a layer in a step that is measured
MERGE_PIXELS, MERGE_DECAY = 0.25, 0.95  # mean difference of two layers that are one, and the decay of that mean

Array = NDArray[np.float64]


@dataclass
class Layer:
    """A layer of a shot.

    steps: by number of the frame, the step (3, 3) to it, in pixels of the measured frames. shares: the fraction of the
    points that belong to the layer, likewise. centers: where its points are, (2,), in pixels from the center of the
    frame. edges: the fraction of its points that lie in the outer half of the frame's area.
    """

    steps: dict[int, geometry.Matrices] = field(default_factory=dict[int, geometry.Matrices])
    shares: dict[int, float] = field(default_factory=dict[int, float])
    centers: dict[int, Array] = field(default_factory=dict[int, Array])
    edges: dict[int, float] = field(default_factory=dict[int, float])


def find_layers(numbered_frames: Iterable[tuple[int, GrayFrame]]) -> list[Layer]:
    """Separate the layers of a shot: (frame number, frame) in order.

    Raises ClipError without OpenCV.
    """
    cv2 = optional_opencv()
    if cv2 is None:
        raise ClipError("layers need OpenCV: install any of its distributions (pip install opencv-python-headless)")
    tracker, previous = _LayerTracker(cv2), None
    for number, frame in numbered_frames:
        if previous is not None:
            tracker.add(number, previous, frame)
        previous = frame
    return tracker.finished_layers()


class _LayerTracker:
    """Points of the current frame, with the probability of each layer."""

    def __init__(self, cv2: ModuleType) -> None:
        self._cv2 = cv2
        self._points = np.empty((0, 2))  # pixel indices, (x, y)
        self._probabilities = np.empty((0, 1))  # (P, layers); the rest to 1 is that of no layer
        self._layers, self._ended = [Layer()], list[Layer]()
        self._differences = np.full((MAX_LAYERS, MAX_LAYERS), np.inf)

    def finished_layers(self) -> list[Layer]:
        return [*self._ended, *self._layers]

    def add(self, number: int, first: GrayFrame, second: GrayFrame) -> None:
        """Track the points of the first frame, and measure the step of each layer."""
        size = first.plane.shape
        self._replenish(first)
        if len(self._points) < 2 * MIN_POINTS:
            return
        moved, valid = track_points(self._cv2, first, second, self._points)
        src_pixels, dst_pixels, before = self._points[valid], moved[valid], self._probabilities[valid]
        to_center = 0.5 - np.array(size[::-1]) / 2
        src, dst = src_pixels + to_center, dst_pixels + to_center
        if len(src) < 2 * MIN_POINTS:
            self._points, self._probabilities = dst_pixels, before
            return
        steps = [self._fit(src, dst, before[:, k]) for k in range(len(self._layers))]
        residuals = np.stack([np.full(len(src), 1e3) if m is None else _residuals(m, src, dst) for m in steps], axis=-1)
        after = _update(before, residuals)
        after = self._add_layer(src, dst, steps, residuals, after)
        for k, step in enumerate(steps):
            if step is None:
                continue
            weights = after[:, k]
            if weights.sum() < MIN_POINTS:
                continue
            step = align(first, second, step, _rasterize(src, weights, size))
            layer = self._layers[k]
            layer.steps[number] = step
            layer.shares[number] = float(weights.mean())
            layer.centers[number] = (weights[:, None] * src).sum(axis=0) / weights.sum()
            outer = np.abs(src / (np.array(size[::-1]) / 2)).max(axis=1) > np.sqrt(0.5)
            layer.edges[number] = float((weights * outer).sum() / weights.sum())
        inside = ((dst_pixels > 0) & (dst_pixels < np.array(size[::-1]) - 1)).all(axis=1)
        self._points, self._probabilities = dst_pixels[inside], after[inside]
        self._merge(steps, src, after)

    def _fit(self, src: Array, dst: Array, weights: Array) -> geometry.Matrices | None:
        if weights.sum() < MIN_POINTS:
            return None
        matrix, inliers = fit_homography(src, dst, np.where(weights > 0.2, weights, 0))
        return matrix if inliers > 0 else None

    def _add_layer(
        self,
        src: Array,
        dst: Array,
        steps: list[geometry.Matrices | None],
        residuals: Array,
        probabilities: Array,
    ) -> Array:
        """Start a layer of unexplained points, if enough of them move alike."""
        lost = (residuals.min(axis=1) > MIN_NEW_PIXELS).astype(np.float64)
        count = max(MIN_POINTS, MIN_NEW_SHARE * len(src))
        if len(self._layers) >= MAX_LAYERS or lost.sum() < count:
            return probabilities
        matrix, _ = fit_homography(src, dst, lost)
        own = (lost > 0) & (_residuals(matrix, src, dst) < HALF_LIKELIHOOD_PIXELS)
        if own.sum() < count or np.median(residuals[own].min(axis=1)) < MIN_NEW_PIXELS:
            return probabilities
        self._layers.append(Layer())
        steps.append(matrix)
        column = np.where(own, 0.6, 0.1)[:, None]
        return np.concatenate([probabilities * (1 - column), column], axis=1)

    def _merge(self, steps: list[geometry.Matrices | None], src: Array, probabilities: Array) -> None:
        """Join layers that have moved alike, and end those whose points are gone."""
        count = len(self._layers)
        for a in range(count):
            for b in range(a + 1, count):
                one, other = steps[a], steps[b]
                if one is None or other is None:
                    continue
                points = src[probabilities[:, b] > 0.5]
                if not len(points):
                    continue
                difference = float(np.median(_residuals(one, points, geometry.transform_points(other, points))))
                known = self._differences[a, b]
                mean = 1.0 if not np.isfinite(known) else known
                self._differences[a, b] = MERGE_DECAY * mean + (1 - MERGE_DECAY) * difference
        for b in range(count - 1, 0, -1):
            twin = next((a for a in range(b) if self._differences[a, b] < MERGE_PIXELS), None)
            if twin is not None:
                self._probabilities[:, twin] += self._probabilities[:, b]
            if twin is not None or self._probabilities[:, b].sum() < MIN_POINTS / 2:
                self._remove(b)

    def _remove(self, index: int) -> None:
        self._ended.append(self._layers.pop(index))
        self._probabilities = np.delete(self._probabilities, index, axis=1)
        kept = np.delete(np.delete(self._differences, index, 0), index, 1)
        self._differences = np.pad(kept, (0, 1), constant_values=np.inf)

    def _replenish(self, frame: GrayFrame) -> None:
        """Add a point to each cell without one, with probabilities of those around."""
        new = select_points(self._cv2, frame, self._points)
        if not len(new):
            return
        count = len(self._layers)
        known = self._probabilities
        if len(known):
            squares = ((new[:, None] - self._points[None]) ** 2).sum(axis=-1)
            kernel = 1 / (1 + (squares / NEIGHBOR_PIXELS**2) ** 2)
            around = (kernel @ known + 0.3 / count) / (kernel.sum(axis=1, keepdims=True) + 0.35)
        else:
            around = np.full((len(new), count), 0.9 / count)
        self._points = np.concatenate([self._points, new])
        self._probabilities = np.concatenate([known.reshape(-1, count), around])


def track_points(
    cv2: ModuleType, first: GrayFrame, second: GrayFrame, points: Array, guess: Array | None = None
) -> tuple[Array, NDArray[np.bool_]]:
    """Track points (P, 2), pixel indices, into the second frame.

    guess: (P, 2), where they may be found. Returns the positions, and which of them pass the forward-backward test.
    """
    settings = {
        "winSize": (WINDOW_PIXELS, WINDOW_PIXELS),
        "maxLevel": PYRAMID_LEVELS,
        "criteria": (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 10, 0.03),
    }
    src = points.astype(np.float32)
    dst = None if guess is None else guess.astype(np.float32)
    flags = 0 if guess is None else cv2.OPTFLOW_USE_INITIAL_FLOW
    track = cv2.calcOpticalFlowPyrLK
    moved, forward, _ = track(first.plane_uint8, second.plane_uint8, src, dst, flags=flags, **settings)
    again = {**settings, "flags": cv2.OPTFLOW_USE_INITIAL_FLOW}
    returned, backward, _ = track(second.plane_uint8, first.plane_uint8, moved, src.copy(), **again)
    error = np.hypot(*(returned - src).T)
    valid = (forward[:, 0] > 0) & (backward[:, 0] > 0) & (error < FB_ERROR_PIXELS)
    return moved.astype(np.float64), valid


def select_points(cv2: ModuleType, frame: GrayFrame, known: Array) -> Array:
    """Select the corner with most texture in each cell without a known point.

    (P, 2) pixel indices.
    """
    half, side = frame.half, CELL_PIXELS // 2
    texture = texture_of(cv2, frame)
    rows, columns = (n // side for n in half.plane.shape)
    if not rows * columns:
        return np.empty((0, 2))
    cells = texture[: rows * side, : columns * side].reshape(rows, side, columns, side)
    cells = cells.transpose(0, 2, 1, 3).reshape(rows, columns, -1)
    best, strength = cells.argmax(axis=-1), cells.max(axis=-1)
    is_free = strength > MIN_TEXTURE
    if len(known):
        column, row = (known / CELL_PIXELS).astype(int).clip(0, [columns - 1, rows - 1]).T
        is_free[row, column] = False
    y = np.arange(rows, dtype=np.int_)[:, None] * side + best // side
    x = np.arange(columns, dtype=np.int_) * side + best % side
    return np.stack([x[is_free], y[is_free]], axis=-1) * 2 + 0.5


def texture_of(cv2: ModuleType, frame: GrayFrame) -> Plane:
    """Texture of each pixel of the half size, in its weaker direction.

    0 where the frame is ignored.
    """
    half = frame.half
    texture = np.sqrt(cv2.cornerMinEigenVal(half.plane, 5).clip(min=0)) / 2
    if half.ignore_mask is not None:
        texture[half.ignore_mask] = 0
    return texture


def _residuals(step: geometry.Matrices, src: Array, dst: Array) -> Array:
    return np.hypot(*(geometry.transform_points(step, src) - dst).T)


def _update(probabilities: Array, residuals: Array) -> Array:
    """The probabilities (P, layers) of the points after a step with these residuals."""
    count = probabilities.shape[1]
    prior = (1 - FORGETTING) * probabilities + FORGETTING / (count + 1)
    joint = prior / (1 + (residuals / HALF_LIKELIHOOD_PIXELS) ** 2)
    outlier = OUTLIER_LIKELIHOOD * (1 - prior.sum(axis=1, keepdims=True)).clip(FORGETTING / (count + 1))
    return joint / (joint.sum(axis=1, keepdims=True) + outlier)


def _rasterize(points: Array, weights: Array, size: tuple[int, ...]) -> InlierMap:
    """Mean weight of the points in each cell of an inlier map; 0 without points."""
    cells = cell_indices(points[:, 0], points[:, 1], *size)
    total = np.bincount(cells, minlength=ALL_INLIERS.size)
    mean = np.bincount(cells, weights, ALL_INLIERS.size) / np.maximum(total, 1)
    return mean.reshape(ALL_INLIERS.shape)
