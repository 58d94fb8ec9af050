"""Measured motion of the pieces of a clip, each in a file of its own.

The estimate of a frame depends on a state that the frames before it leave: an inlier map, and the last steps. The file
of a piece holds the state that it was measured from. The motion in it is bit-identical to that of the whole clip
exactly if this start state is the end state of the piece before. So pieces can be measured in any order, from a state
that is only assumed.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..clip import ClipInfo
from ..lens import Lens
from ..motion.estimate import LINK_FRAMES, estimate_from_luma
from ..motion.fit.background_prior import ALL_INLIERS, InlierMap
from ..motion.optical_flow.flow import FlowModel
from ..motion.optical_flow.gray_frame import Masks
from ..motion.transitions.transitions import THUMBNAIL
from ..path.mesh import MESH_SHAPE
from ..path.motion import Motion
from .segments import FrameReader, split_clip
from .state.folder import Job
from .state.layout import JobFolder

AnyFloat = TypeVar("AnyFloat", np.float32, np.float64)

log = logging.getLogger(__name__)

WARM_UP_FRAMES = 128  # more often than not they contain a cut, where the state starts anew
_LINK_ENDS = np.array([1.0, 1.0] + [0.0] * 10)  # the columns of links that are frame numbers
_COLUMNS = {
    "steps": (-1, 3, 3),
    "confidence": (-1,),
    "agreement": (-1,),
    "links": (-1, 12),
    "thumbnails": (-1, THUMBNAIL[0] * THUMBNAIL[1]),
    "bows": (-1, 6),
}


class State(NamedTuple):
    """State of the motion estimate before a frame: what it depends on beside frames.

    recent: motion of up to LINK_FRAMES frames before it; None before the first frame.
    """

    recent: Motion | None
    inlier_map: InlierMap


@dataclass(frozen=True)
class MotionPiece:
    """The measured motion of a piece.

    first: number of the first frame of `motion`, LINK_FRAMES before the piece, or 0. start_map, end_map: the inlier
    maps before and after the piece.
    """

    frame_range: range
    first: int
    motion: Motion
    start_map: InlierMap
    end_map: InlierMap

    def continues(self, state: State) -> bool:
        """Whether the piece was measured from this state."""
        if state.recent is None:
            return True
        recent, own = state.recent, self.motion
        count = len(recent.steps)
        return (
            np.array_equal(self.start_map, state.inlier_map)
            and np.array_equal(own.steps[:count], recent.steps)
            and np.array_equal(_measured(own.agreement)[:count], _measured(recent.agreement))
            and np.array_equal(own.confidence[1:count], recent.confidence[1:])  # a first frame always has 0
        )


class MotionPieces:
    """The motion of all pieces of a clip, measured or read from the job.

    info: of the clip. side: longer side of the measured frames. flow, mask, with_residuals: as for `estimate_motion`.
    lens: of the view that is measured, if it is one. is_second_pass: with a lens or bars that the motion of the same
    job shows, whose files stay beside those of this pass. Files of other settings, or another source or software, are
    not read; a message says so.
    """

    def __init__(
        self,
        job: Job,
        info: ClipInfo,
        flow: FlowModel,
        side: int,
        mask: Masks | None,
        segment_seconds: float,
        *,
        with_residuals: bool = False,
        lens: Lens | None = None,
        is_second_pass: bool = False,
    ) -> None:
        times = job.timestamps(info.fps)
        self.ranges = split_clip(times.starts, times.time_base, segment_seconds)
        self.folder = JobFolder(job.location)
        self._info, self._flow, self._mask, self._reported = info, flow, mask, False
        self._with_residuals, self._of_view = with_residuals, is_second_pass
        self._columns = _COLUMNS | ({"residuals": (-1, *MESH_SHAPE, 2)} if with_residuals else {})
        extra: list[Any] = ["residuals", MESH_SHAPE] if with_residuals else []
        if lens is not None:
            extra.append([lens.fov, *lens.coefficients])
        settings = job.settings(measuring=[info, flow, side, mask, LINK_FRAMES, THUMBNAIL, *extra])
        self._settings = json.loads(json.dumps(settings))  # comparable with those of a file
        self._pieces: dict[int, MotionPiece] = {}
        self.read_missing()

    def __len__(self) -> int:
        return len(self._pieces)

    def __contains__(self, index: int) -> bool:
        return index in self._pieces

    def window(self, index: int) -> range:
        """The frames of a piece, and those before it that its state describes."""
        frames = self.ranges[index]
        return range(max(0, frames.start - LINK_FRAMES), frames.stop)

    def read_missing(self) -> None:
        """Read the files of the pieces that are not known."""
        # One request to a store, instead of one for each piece.
        listed = self.folder.measured_pieces(of_view=self._of_view)
        for index in range(len(self.ranges)):
            if index not in self and self._file(index) in listed:
                self._read(index)

    def _file(self, index: int) -> str:
        return self.folder.motion_piece(index, of_view=self._of_view)

    def _read(self, index: int) -> None:
        """Read the file of a piece, if it is a valid one."""
        frames, body = self.ranges[index], self.folder.read(self._file(index))
        if body is None:
            return
        if body["settings"] != self._settings or body["piece"] != [frames.start, frames.stop]:
            self._report_difference(body)
            return
        columns = {name: np.array(body[name], float).reshape(shape) for name, shape in self._columns.items()}
        residuals = columns["residuals"].astype(np.float32) if self._with_residuals else None
        motion = Motion(
            columns["steps"],
            columns["confidence"],
            self._info,
            agreement=columns["agreement"],
            links=columns["links"],
            thumbnails=columns["thumbnails"].astype(np.uint8),
            residuals=residuals,
            bows=columns["bows"],
        )
        start_map, end_map = (np.array(body[name]).reshape(ALL_INLIERS.shape) for name in ("start_map", "end_map"))
        self._pieces[index] = MotionPiece(frames, body["first"], motion, start_map, end_map)

    def is_valid(self, index: int) -> bool:
        """Whether the motion of a piece is known and continues the one before."""
        state = self.state_before(index)
        return index in self._pieces and state is not None and self._pieces[index].continues(state)

    def state_before(self, index: int) -> State | None:
        """The state in which the piece before ends; None if it is not known."""
        if index == 0:
            return State(None, ALL_INLIERS)
        before = self._pieces.get(index - 1)
        if before is None:
            return None
        # Its motion begins LINK_FRAMES before it, so that it suffices even where it is shorter than that.
        return State(_last_rows(before.motion, self.ranges[index].start - self.window(index).start), before.end_map)

    def warm_up(self, index: int, reader: FrameReader) -> State:
        """Approximate the state before a piece from the WARM_UP_FRAMES before it.

        These frames are measured as if the clip began with them.
        """
        stop = self.ranges[index].start
        frames = range(self.warm_up_start(index), stop)
        motion, inlier_map = self._estimate(frames, reader, State(None, ALL_INLIERS), self.window(index).start)
        return State(_last_rows(motion, stop - self.window(index).start), inlier_map)

    def warm_up_start(self, index: int) -> int:
        """The number of the first frame that `warm_up` reads."""
        return max(0, self.ranges[index].start - WARM_UP_FRAMES)

    def measure(self, index: int, reader: FrameReader, state: State) -> None:
        """Measure a piece from this state, and write its file."""
        window = self.window(index)
        motion, end_map = self._estimate(window, reader, state, window.stop - LINK_FRAMES)
        piece = MotionPiece(self.ranges[index], window.start, motion, state.inlier_map, end_map)
        body: dict[str, Any] = {"settings": self._settings, "piece": [piece.frame_range.start, window.stop]}
        body |= {"first": piece.first, "start_map": piece.start_map.ravel().tolist()}
        body |= {"end_map": end_map.ravel().tolist()}
        body |= {column: getattr(motion, column).ravel().tolist() for column in self._columns}
        self.folder.write(self._file(index), body)
        self._pieces[index] = piece

    def join(self) -> Motion:
        """The motion of the clip, as `estimate_from_luma` returns it."""
        pieces = [self._pieces[index] for index in range(len(self.ranges))]
        rows = [slice(piece.frame_range.start - piece.first, None) for piece in pieces]
        steps, confidence, agreement, thumbnails, bows = (
            np.concatenate([getattr(piece.motion, name)[own] for piece, own in zip(pieces, rows, strict=True)])
            for name in ("steps", "confidence", "agreement", "thumbnails", "bows")
        )
        links = [_measured(piece.motion.links) + _LINK_ENDS * piece.first for piece in pieces]
        motion = Motion(steps, confidence, self._info, agreement=agreement, links=np.concatenate(links))
        motion = replace(motion, thumbnails=thumbnails, bows=bows)
        if not self._with_residuals:
            return motion
        residuals = [_measured(piece.motion.residuals)[own] for piece, own in zip(pieces, rows, strict=True)]
        return replace(motion, residuals=np.concatenate(residuals))

    def _estimate(self, frames: range, reader: FrameReader, state: State, keep: int) -> tuple[Motion, InlierMap]:
        planes = (gray.numpy() for gray in reader.read_range(frames, keep))
        numbered = zip(frames, planes, strict=True)
        return estimate_from_luma(
            numbered,
            self._info,
            self._flow,
            self._mask,
            state.inlier_map,
            state.recent,
            with_residuals=self._with_residuals,
        )

    def _report_difference(self, body: dict[str, Any]) -> None:
        if self._reported:
            return
        self._reported = True
        own = {**self._settings, "pieces": None}
        changed = [name for name in own if own[name] != body["settings"].get(name)] or ["pieces"]
        log.warning(
            "%s: the settings of this run differ (%s), so measured motion is discarded",
            self.folder.path,
            ", ".join(changed),
        )


def _last_rows(motion: Motion, count: int) -> Motion:
    rows = slice(len(motion.steps) - count, None)
    agreement = _measured(motion.agreement)[rows]
    residuals = None if motion.residuals is None else motion.residuals[rows]
    bows = _measured(motion.bows)[rows]
    return Motion(
        motion.steps[rows], motion.confidence[rows], motion.info, agreement=agreement, residuals=residuals, bows=bows
    )


def _measured(values: NDArray[AnyFloat] | None) -> NDArray[AnyFloat]:
    """The agreements, links or residuals of a motion that is being measured."""
    assert values is not None, "the motion comes from `estimate_from_luma`"
    return values
