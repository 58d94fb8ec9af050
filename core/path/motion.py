"""The measured motion of a camera: the table that pass 1 produces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..clip import ClipInfo


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
    confidence: NDArray[np.float64]
    info: ClipInfo
    readout: float = 0.0

    @property
    def shots(self) -> list[slice]:
        """The runs of frames between cuts."""
        starts = np.flatnonzero(self.confidence == 0).tolist()
        return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(self.confidence)], strict=True)]
