"""Model comparison: scores equal those of `score`, and the image shows where the models differ."""

from __future__ import annotations

import pytest
import torch
from steadyscale.core.training import TrainingError, bicubic, score
from steadyscale.core.training.evaluate.compare_models import compare_models, make_lr_pairs
from steadyscale.core.upscaling.resize import resize


class Model:
    """Upscales bicubically, or with a given function."""

    def __init__(self, scale: int, upscale=None) -> None:
        self.scale, self.halo = scale, 4
        self._upscale = upscale or (lambda x: resize(x, x.shape[-1] * scale, x.shape[-2] * scale))

    def __call__(self, x):
        return self._upscale(x)


def make_frames(texture_factory, count: int = 2, side: int = 96):
    return [texture_factory(number, side)[None].float() / 255 for number in range(count)]


def test_scores_equal_those_of_the_validation(texture_factory):
    frames = make_frames(texture_factory)
    found = compare_models(
        make_lr_pairs(frames, 2), [Model(2), Model(2, lambda x: torch.zeros_like(x).repeat(1, 1, 2, 2))], ("a", "b")
    )
    expected = score(bicubic(2), [texture_factory(number, 96) for number in range(2)], 2)
    assert found.frame_count == 2
    same, black, plain = found.scores
    assert same.psnr == pytest.approx(expected.psnr, abs=0.01)
    assert same.ssim == pytest.approx(expected.ssim, abs=1e-3)
    assert plain == pytest.approx(same)
    assert black.psnr < same.psnr - 5
    assert found.image.shape[1] == 3
    assert found.image.shape[-1] > 4 * 96, "truth, both, and bicubic side by side"


def test_a_model_that_returns_the_truth_has_perfect_scores(texture_factory):
    (true,) = make_frames(texture_factory, 1)
    found = compare_models(make_lr_pairs([true], 2), [Model(2, lambda x: true), Model(2)], ("a", "b"))
    assert found.scores[0].psnr == 100
    assert found.scores[0].ssim == pytest.approx(1)
    panel = 96 * 3  # zoomed by 3, with a gap of 6 pixels
    left, truth = found.image[..., panel + 6 : 2 * panel + 6], found.image[..., :panel]
    assert torch.allclose(left[..., 40:, :], truth[..., 40:, :], atol=0.01)


def test_results_of_other_scales_are_resized_to_the_truth(texture_factory):
    found = compare_models(make_lr_pairs(make_frames(texture_factory, 1), 4), [Model(2), Model(4)], ("a", "b"))
    assert abs(found.scores[0].psnr - found.scores[1].psnr) < 1.0, "2x and a bicubic resize are close to 4x"


def test_the_image_shows_where_the_models_differ():
    true = torch.rand(1, 3, 1, 1).expand(1, 3, 400, 600).clone()
    damaged = true.clone()
    damaged[..., 300:340, 500:560] = 0
    found = compare_models(
        make_lr_pairs([true], 2), [Model(2, lambda x: true), Model(2, lambda x: damaged)], ("a", "b")
    )
    height, width = found.image.shape[-2:]
    panel = (width - 18) // 4
    assert height == 320
    dark = (found.image[0, :, 40:, 2 * (panel + 6) : 2 * (panel + 6) + panel].amax(0) == 0).float().mean()
    assert dark > 0.05


def test_small_or_missing_frames_are_refused(texture_factory):
    with pytest.raises(TrainingError, match="8x8 are too small"):
        list(make_lr_pairs([torch.rand(1, 3, 8, 8)], 4))
    with pytest.raises(TrainingError, match="no frames"):
        compare_models([], [Model(2), Model(2)], ("a", "b"))
