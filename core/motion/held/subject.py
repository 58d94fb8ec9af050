"""Track a subject through a shot, relative to the motion of the camera.

Corners inside the region are tracked from frame to frame. Each has a probability to belong to the subject and not to
the background that a box contains as well; the way it moves decides. Where too few are left, or the subject does not
look as it did, it is lost, and searched for around where it should be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ... import geometry
from ...clip import ClipError
from ...runtime.optional_cv2 import optional_opencv
from ..fit.homography import fit_homography
from ..optical_flow.gray_frame import GrayFrame, Plane
from .layers import FORGETTING, HALF_LIKELIHOOD_PIXELS, track_points

MAX_POINTS = 120
POINT_DISTANCE = 5  # pixels between tracked points
QUALITY = 0.02  # texture of a point relative to the strongest of the region
MIN_POINTS = 5  # that have to agree on the subject's motion
MIN_KEPT = 0.25  # fraction of the subject's points that have to survive a step
AGREEMENT_PIXELS = 0.8  # residual of a point that agrees with the subject's motion
PATCH_PIXELS, MIN_PATCH_PIXELS = 40, 8  # longer side, and shorter one at least, of the image that is compared
MIN_LIKENESS, MIN_FOUND_LIKENESS = 0.4, 0.75  # correlation of a tracked subject, and of one that is found again
UPDATE_LIKENESS, UPDATE_SHARE = 0.7, 0.05  # likeness from which the image follows the subject, and how quickly
SEARCH_PIXELS, SEARCH_GROWTH, MAX_SEARCH_PIXELS = 12.0, 2.0, 80.0  # radius of the search, and its growth per frame
MAX_ZOOM_STEP = 0.05  # logarithm of the change of size in a step
VELOCITY_DECAY = 0.8  # of the mean velocity of the subject, which predicts where it will be
BACKGROUND_PRIOR = 0.35  # probability of a new point at the edge of a box to belong to the background

Array = NDArray[np.float64]

BackgroundMove: TypeAlias = Callable[[Array], Array]
"""Moves points (P, 2) of the background to the next frame, in pixels of the frames from their center."""


class UntrackableError(ClipError):
    """A region is too small or shows too little to be tracked."""


@dataclass
class Subject:
    """Where the subject is.

    center: (2,), in pixels from the center of the frame; and half its size (2,).
    """

    center: Array
    half_size: Array


class SubjectTracker:
    """Tracks a subject from frame to frame, forwards or backwards in time.

    The first frame is given with a mask (h, w) of the subject; is_box: whether the mask is a box that also contains
    background. Raises ClipError without OpenCV, and UntrackableError for an empty region or one without texture.
    """

    def __init__(self, frame: GrayFrame, mask: NDArray[np.bool_], is_box: bool) -> None:
        cv2 = optional_opencv()
        if cv2 is None:
            raise ClipError("tracking a region needs OpenCV: install one of its distributions "
                            "(pip install opencv-python-headless), or hold the background")  # fmt: skip
        if not mask.any():
            raise UntrackableError("the region is smaller than a pixel of the measured frames: choose a larger one")
        self._cv2: ModuleType = cv2
        self._is_box = is_box
        self._size = frame.plane.shape
        self._to_center = 0.5 - np.array(self._size[::-1]) / 2
        self.subject, self._shape = self._outline(mask)
        self._velocity = np.zeros(2)  # relative to the background, per frame
        self._missing = 0  # frames since the subject was seen
        self._points, self._probabilities = np.empty((0, 2)), np.empty(0)
        self._frame = frame
        factor = min(1.0, PATCH_PIXELS / (2 * float(self.subject.half_size.max())))
        self._patch_size = np.maximum(np.rint(2 * self.subject.half_size * factor), MIN_PATCH_PIXELS).astype(int)
        self._patch = self._view(frame, self.subject)
        self._replenish(frame, mask)
        if len(self._points) < MIN_POINTS:
            raise UntrackableError("the region shows too little to be tracked: choose one with corners or texture")

    def step(self, frame: GrayFrame, camera: BackgroundMove, mask: NDArray[np.bool_] | None = None) -> Array | None:
        """Follow the subject into the next frame.

        camera: the motion of the background to it. mask: of the subject there, if it is known. Returns the center
        of the subject, or None where it is lost.
        """
        if mask is not None and not mask.any():
            found = False
        elif self._missing and mask is not None:
            self.subject, self._shape = self._outline(mask)
            found = True
        elif self._missing:
            found = self._search(frame, camera)
        else:
            found = self._track(frame, camera)
        if not found:
            self._missing += 1
            self._points, self._probabilities = np.empty((0, 2)), np.empty(0)
            center = camera(self.subject.center[None])[0] + self._velocity
            self.subject = Subject(center, self.subject.half_size)
            self._velocity = self._velocity * 0.97
        else:
            self._missing = 0
            self._replenish(frame, self._region() if mask is None else mask)
        self._frame = frame
        return self.subject.center if found else None

    def _track(self, frame: GrayFrame, camera: BackgroundMove) -> bool:
        if len(self._points) < MIN_POINTS:
            return False
        before = self._points + self._to_center
        along = camera(before)
        guess = along + self._probabilities[:, None] * self._velocity - self._to_center
        moved, valid = track_points(self._cv2, self._frame, frame, self._points, guess)
        belongs = self._probabilities > 0.5
        src, dst, probabilities = before[valid], moved[valid] + self._to_center, self._probabilities[valid]
        if (probabilities > 0.5).sum() < max(MIN_POINTS, MIN_KEPT * belongs.sum()):
            return False
        step, _ = fit_homography(src, dst, np.where(probabilities > 0.2, probabilities, 0))
        own, others = (np.hypot(*(moved - dst).T) for moved in (geometry.transform_points(step, src), camera(src)))
        prior = (1 - 2 * FORGETTING) * probabilities + FORGETTING
        likelihood = 1 / (1 + (own / HALF_LIKELIHOOD_PIXELS) ** 2)
        other = 1 / (1 + (others / HALF_LIKELIHOOD_PIXELS) ** 2)
        after = prior * likelihood / (prior * likelihood + (1 - prior) * other)
        agreeing = (after > 0.5) & (own < AGREEMENT_PIXELS)
        if agreeing.sum() < max(MIN_POINTS, MIN_KEPT * belongs.sum()):
            return False
        center = geometry.transform_points(step, self.subject.center[None])[0]
        zoom = float(np.clip(_zoom_at(step, self.subject.center), -MAX_ZOOM_STEP, MAX_ZOOM_STEP))
        subject = Subject(center, self.subject.half_size * np.exp(zoom))
        view = self._view(frame, subject)
        likeness = _likeness(self._patch, view)
        if likeness < MIN_LIKENESS or not self._is_visible(center):
            return False
        if likeness > UPDATE_LIKENESS:
            self._patch = (1 - UPDATE_SHARE) * self._patch + UPDATE_SHARE * view
        relative = center - camera(self.subject.center[None])[0]
        self._velocity = VELOCITY_DECAY * self._velocity + (1 - VELOCITY_DECAY) * relative
        self.subject = subject
        self._points, self._probabilities = moved[valid], after
        return True

    def _search(self, frame: GrayFrame, camera: BackgroundMove) -> bool:
        """Look for the subject around where it should be."""
        center = camera(self.subject.center[None])[0] + self._velocity
        radius = min(SEARCH_PIXELS + SEARCH_GROWTH * self._missing, MAX_SEARCH_PIXELS)
        around = self._view(frame, Subject(center, self.subject.half_size), radius)
        if around.std() < 1e-4 or self._patch.std() < 1e-4:
            return False
        scores = self._cv2.matchTemplate(around, self._patch.astype(np.float32), self._cv2.TM_CCOEFF_NORMED)
        _, best, _, (column, row) = self._cv2.minMaxLoc(scores)
        scale = self._patch_size / (2 * self.subject.half_size)
        offset = (np.array([column, row]) - (np.array(scores.shape[::-1]) - 1) / 2) / scale
        if best < MIN_FOUND_LIKENESS or not self._is_visible(center + offset):
            return False
        self.subject = Subject(center + offset, self.subject.half_size)
        return True

    def _outline(self, mask: NDArray[np.bool_]) -> tuple[Subject, NDArray[np.bool_]]:
        """The bounding box of a mask, and the part of the mask in it."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        low, high = np.array([columns[0], rows[0]]), np.array([columns[-1], rows[-1]])
        shape = mask[low[1] : high[1] + 1, low[0] : high[0] + 1]
        return Subject((low + high) / 2 + self._to_center, (high - low + 1) / 2), shape

    def _is_visible(self, center: Array) -> bool:
        return bool((np.abs(center) < np.array(self._size[::-1]) / 2).all())

    def _view(self, frame: GrayFrame, subject: Subject, radius: float = 0.0) -> Plane:
        """Image of the subject at the size of the patch, with a margin of the frame."""
        scale = self._patch_size / (2 * subject.half_size)
        size = self._patch_size + 2 * np.rint(radius * scale).astype(int)
        pixel = subject.center - self._to_center
        matrix = np.array([[1 / scale[0], 0, 0], [0, 1 / scale[1], 0]])
        matrix[:, 2] = pixel - (size - 1) / 2 / scale
        flags = self._cv2.INTER_LINEAR | self._cv2.WARP_INVERSE_MAP
        plane = self._cv2.blur(frame.plane, (3, 3)) if scale.min() < 0.7 else frame.plane
        return self._cv2.warpAffine(plane, matrix, size.tolist(), flags=flags, borderMode=self._cv2.BORDER_REPLICATE)

    def _region(self) -> NDArray[np.bool_]:
        """The mask of the subject where it is now."""
        region = np.zeros(self._size, bool)
        low = self.subject.center - self._to_center - self.subject.half_size
        rows, columns = (
            np.arange(max(0, round(a)), max(0, min(n, round(a + 2 * h))))
            for a, h, n in zip(low[::-1], self.subject.half_size[::-1], self._size, strict=True)
        )
        height, width = self._shape.shape
        y = ((rows - low[1]) / (2 * self.subject.half_size[1]) * height).astype(int).clip(0, height - 1)
        x = ((columns - low[0]) / (2 * self.subject.half_size[0]) * width).astype(int).clip(0, width - 1)
        region[np.ix_(rows, columns)] = self._shape[np.ix_(y, x)]
        return region

    def _replenish(self, frame: GrayFrame, region: NDArray[np.bool_]) -> None:
        """Select points in the region where none is tracked, and drop those outside."""
        column, row = np.rint(self._points).astype(int).T if len(self._points) else np.empty((2, 0), int)
        inside = (row >= 0) & (row < self._size[0]) & (column >= 0) & (column < self._size[1])
        inside[inside] = region[row[inside], column[inside]]
        self._points, self._probabilities = self._points[inside], self._probabilities[inside]
        free = region.astype(np.uint8) * 255
        for x, y in np.rint(self._points).astype(int).tolist():
            self._cv2.circle(free, (x, y), POINT_DISTANCE, 0, -1)
        count = MAX_POINTS - len(self._points)
        if count <= 0 or not free.any():
            return
        found = self._cv2.goodFeaturesToTrack(frame.plane_uint8, count, QUALITY, POINT_DISTANCE, mask=free, blockSize=5)
        if found is None:
            return
        new = found[:, 0].astype(np.float64)
        self._probabilities = np.concatenate([self._probabilities, self._prior_of(new)])
        self._points = np.concatenate([self._points, new])

    def _prior_of(self, points: Array) -> Array:
        """Probability that new points belong to the subject, by place and neighbors."""
        if not self._is_box:
            prior = np.full(len(points), 0.9)
        else:
            offsets = (points + self._to_center - self.subject.center) / self.subject.half_size
            prior = 0.9 - (0.9 - BACKGROUND_PRIOR) * np.minimum(1, (offsets**2).sum(axis=1))
        if not len(self._points):
            return prior
        squares = ((points[:, None] - self._points[None]) ** 2).sum(axis=-1)
        kernel = np.exp(-squares / (2 * (3 * POINT_DISTANCE) ** 2))
        return (prior + 2 * kernel @ self._probabilities) / (1 + 2 * kernel.sum(axis=1))


def _zoom_at(step: geometry.Matrices, point: Array) -> float:
    """The logarithm of the scale of a step at a point."""
    away = np.eye(3)
    away[:2, 2] = point
    return float(geometry.to_parameters(step @ away)[3])


def _likeness(first: Plane, second: Plane) -> float:
    a, b = (plane.ravel() - plane.mean() for plane in (first, second))
    return float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-9)
