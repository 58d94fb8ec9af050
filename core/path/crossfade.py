"""Crossfade the corrections of two shots over the dissolve between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .. import geometry
from .trajectory import Correction


def crossfade(correction: Correction, dissolves: Sequence[slice]) -> Correction:
    """Let the correction of one shot go over into that of the next during a dissolve, without a jump.

    dissolves: the mixed frames; a shot ends within each. Beyond its end, and before its start, the correction of a shot
    stays as it is there.
    """
    if not dissolves:
        return correction
    matrices = correction.matrices.copy()
    for mixed in dissolves:
        middle = next((shot.start for shot in correction.shots if mixed.start < shot.start < mixed.stop), None)
        if middle is None:
            continue
        part = np.arange(mixed.start, mixed.stop)
        before, after = (
            geometry.to_tangents(correction.matrices[held])
            for held in (np.minimum(part, middle - 1), np.maximum(part, middle))
        )
        t = (part - mixed.start + 1) / (len(part) + 1)
        share = (t * t * (3 - 2 * t))[:, None]
        matrices[part] = geometry.matrices_from_tangents((1 - share) * before + share * after)
    return replace(correction, matrices=matrices)
