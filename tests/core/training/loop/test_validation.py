"""Which validation is the best so far."""

from types import SimpleNamespace

import pytest
from steadyscale.core.training.evaluate.metrics import Scores
from steadyscale.core.training.loop.validation import update_best


def scores(*psnr: float) -> dict[int, Scores]:
    return {scale: Scores(value, 0.9) for scale, value in enumerate(psnr, start=2)}


@pytest.mark.parametrize(
    ("gain", "is_best"), [(0.0015, True), (0.0005, False), (0.0, False), (-1.0, False), (float("nan"), False)]
)
def test_only_a_gain_above_a_thousandth_of_a_decibel_is_a_new_best(gain, is_best):
    state = SimpleNamespace(best_psnr=30.0, validations_since_best=2)
    assert update_best(state, scores(30.0 + gain)) == is_best
    assert state.best_psnr == (30.0 + gain if is_best else 30.0)
    assert state.validations_since_best == (0 if is_best else 3)


def test_the_first_validation_is_the_best():
    state = SimpleNamespace(best_psnr=float("-inf"), validations_since_best=0)
    assert update_best(state, scores(12.0))


def test_the_mean_over_scales_decides():
    state = SimpleNamespace(best_psnr=30.0, validations_since_best=0)
    assert not update_best(state, scores(35.0, 24.0))
    assert update_best(state, scores(35.0, 26.0))
    assert state.best_psnr == 30.5
