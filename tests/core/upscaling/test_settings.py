from __future__ import annotations

import pytest
from steadyscale.core.upscaling.settings import OutputSize, PostProcess, Reuse, Tiling, UpscaleStats


@pytest.mark.parametrize(
    ("target", "size"),
    [
        (OutputSize(), (28, 20)),
        (OutputSize(factor=1.5), (21, 15)),
        (OutputSize(factor=0.01), (1, 1)),
        (OutputSize(size=(13, 31)), (13, 31)),
    ],
)
def test_output_size_is_resolved(target: OutputSize, size: tuple[int, int]):
    assert target.resolve(14, 10, 2) == size


@pytest.mark.parametrize(
    "wrong", [{"factor": 2, "size": (4, 4)}, {"factor": 0}, {"factor": float("nan")}, {"size": (0, 5)}]
)
def test_invalid_output_sizes_are_refused(wrong: dict):
    with pytest.raises(ValueError, match=r"factor|size"):
        OutputSize(**wrong)


@pytest.mark.parametrize("wrong", [{"strength": 1.1}, {"strength": -0.1}, {"grain": 2.0}, {"grain": float("nan")}])
def test_invalid_postprocessing_is_refused(wrong: dict):
    with pytest.raises(ValueError, match="from 0 to 1"):
        PostProcess(**wrong)


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_invalid_thresholds_are_refused(wrong: float):
    with pytest.raises(ValueError, match="threshold"):
        Reuse(threshold=wrong)


def test_invalid_tilings_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        Tiling(size=0)
    with pytest.raises(ValueError, match="negative"):
        Tiling(halo=-1)


def test_computed_fraction_is_1_before_the_first_frame():
    assert UpscaleStats().computed_fraction == 1
    assert UpscaleStats(pixels=400, pixels_computed=100).computed_fraction == 0.25
