"""Join the shots on both sides of a dissolve.

The camera paths of the two scenes are smoothed independently, so their corrections differ where one ends and the other
starts. Each frame is corrected by the path of the scene that is more visible; the difference is spread over a second or
the dissolve, whichever is longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..path.trajectory import Correction

SPREAD_SECONDS = 1.0


def join_dissolved_shots(correction: Correction, dissolves: Sequence[slice]) -> Correction:
    """Join the two shots of each dissolve into one, without a jump.

    dissolves: ranges of the frames that show both shots, in order; the second shot starts within. Its poses continue
    those of the first.
    """
    starts = {shot.start: shot for shot in correction.shots}
    middles = [next((i for i in range(mixed.start + 1, mixed.stop) if i in starts), None) for mixed in dissolves]
    if all(middle is None for middle in middles):
        return correction
    matrices, poses, shots = correction.matrices.copy(), correction.poses, correction.shots
    for mixed, middle in zip(dissolves, middles, strict=True):
        if middle is None:
            continue
        before = next(shot for shot in shots if shot.stop == middle)
        after = starts[middle]
        radius = round(SPREAD_SECONDS * float(correction.info.fps) / 2)
        window = slice(
            max(before.start, min(mixed.start, middle - radius)), min(after.stop, max(mixed.stop, middle + radius))
        )
        matrices[window] = _spread_jump(matrices[window], middle - window.start)
        if poses is not None:
            poses = poses.copy()
            poses[after] = _continued(poses, middle) @ poses[after]
        shots = [shot for shot in shots if shot not in (before, after)] + [slice(before.start, after.stop)]
        shots = sorted(shots, key=lambda shot: shot.start)
    return replace(correction, matrices=matrices, poses=poses, shots=shots)


def _spread_jump(matrices: geometry.Matrices, middle: int) -> geometry.Matrices:
    """Spread the jump before the frame `middle` over all of the matrices (n, 3, 3)."""
    tangents = geometry.to_tangents(matrices)
    jump = tangents[middle] - tangents[middle - 1] - _mean_step(np.diff(tangents, axis=0), middle - 1)
    t: NDArray[np.float64] = np.arange(1, len(tangents) + 1, dtype=np.float64) / (len(tangents) + 1)
    share = t * t * (3 - 2 * t)
    share[middle:] -= 1
    return geometry.matrices_from_tangents(tangents + share[:, None] * jump)


def _continued(poses: geometry.Matrices, middle: int) -> geometry.Matrices:
    """Return what moves the poses from `middle` on to where others lead.

    (3, 3); the others are those before it.
    """
    around = slice(max(0, middle - 2), middle + 2)
    near = poses[around]
    steps = geometry.to_tangents(geometry.inverse(near[1:]) @ near[:-1])
    step = geometry.matrices_from_tangents(_mean_step(steps, middle - 1 - around.start)[None])[0]
    return geometry.normalize(poses[middle - 1] @ geometry.inverse(step) @ geometry.inverse(poses[middle]))


def _mean_step(steps: NDArray[np.float64], gap: int) -> NDArray[np.float64]:
    """Return the mean of the steps (n, 8) around the one at `gap`.

    The step at an end is zero.
    """
    before = steps[gap - 1] if gap > 0 else np.zeros(8)
    after = steps[gap + 1] if gap + 1 < len(steps) else np.zeros(8)
    return (before + after) / 2
