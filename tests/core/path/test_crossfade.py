"""Two shots with constant corrections, and a dissolve between them."""

from fractions import Fraction

import numpy as np
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo
from steadyscale.core.path.crossfade import crossfade
from steadyscale.core.path.trajectory import Correction


def test_a_correction_goes_over_without_a_jump():
    tangents = np.zeros((40, 8))
    tangents[:20, 0], tangents[20:, 0], tangents[20:, 2] = 5.0, -3.0, 0.1
    original = Correction(
        geometry.matrices_from_tangents(tangents), [slice(0, 20), slice(20, 40)], ClipInfo(64, 36, Fraction(25))
    )
    faded = geometry.to_tangents(crossfade(original, [slice(15, 24)]).matrices)
    assert np.allclose(faded[:15], tangents[:15])
    assert np.allclose(faded[24:], tangents[24:])
    assert np.allclose(faded[19, :3], [1.0, 0, 0.05])  # half way
    assert np.abs(np.diff(faded[:, 0])).max() < 1.3  # of 8 in 10 steps: a smooth curve
    assert crossfade(original, []) is original
    assert np.array_equal(crossfade(original, [slice(2, 9)]).matrices, original.matrices)  # no shot starts there
