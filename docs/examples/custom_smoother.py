"""Stabilize with a smoother of your own.

python custom_smoother.py IN OUT
"""

import sys

import numpy as np
import steadyscale
from numpy.typing import NDArray
from steadyscale.core import StabilizeSettings


def moving_average(values: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    """Average over one period.

    values: (frames, parameters). period: in frames. Returns the same shape.
    """
    width = max(1, round(period)) | 1  # odd, so that the average is centered
    padded = np.pad(values, ((width // 2, width // 2), (0, 0)), mode="reflect", reflect_type="odd")
    sums = np.cumsum(np.concatenate([np.zeros((1, values.shape[1])), padded]), axis=0)
    return (sums[width:] - sums[:-width]) / width


if __name__ == "__main__":
    settings = StabilizeSettings(smoothing=moving_average, seconds=0.5)
    print(steadyscale.stabilize_video(sys.argv[1], sys.argv[2], settings=settings))
