"""Two models on the same frames: the one that knows the truth wins, by what can be worked out."""

from __future__ import annotations

import pytest
import torch
from steadyscale.core.training import TrainingError, bicubic, score
from steadyscale.core.training.evaluate.compare_models import compare_models, make_lr_pairs
from steadyscale.core.upscaling.resize import resize


class Model:
    """Enlarges by bicubic, or by a function of its own."""

    def __init__(self, scale: int, enlarge=None) -> None:
        self.scale, self.halo = scale, 4
        self._enlarge = enlarge or (lambda x: resize(x, x.shape[-1] * scale, x.shape[-2] * scale))

    def __call__(self, x):
        return self._enlarge(x)


def frames(texture_factory, count: int = 2, side: int = 96):
    return [texture_factory(number, side)[None].float() / 255 for number in range(count)]


def test_the_same_figures_as_everywhere_else(texture_factory):
    stills = frames(texture_factory)
    found = compare_models(
        make_lr_pairs(stills, 2), [Model(2), Model(2, lambda x: torch.zeros_like(x).repeat(1, 1, 2, 2))], ("a", "b")
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


def test_a_model_that_knows_the_truth_is_perfect(texture_factory):
    (true,) = frames(texture_factory, 1)
    found = compare_models(make_lr_pairs([true], 2), [Model(2, lambda x: true), Model(2)], ("a", "b"))
    assert found.scores[0].psnr == 100
    assert found.scores[0].ssim == pytest.approx(1)
    part = 96 * 3  # enlarged to be seen, with 6 pixels between
    left, truth = found.image[..., part + 6 : 2 * part + 6], found.image[..., :part]
    assert torch.allclose(left[..., 40:, :], truth[..., 40:, :], atol=0.01)


def test_models_of_different_scales_meet_at_the_size_of_the_truth(texture_factory):
    found = compare_models(make_lr_pairs(frames(texture_factory, 1), 4), [Model(2), Model(4)], ("a", "b"))
    assert abs(found.scores[0].psnr - found.scores[1].psnr) < 1.0, "twice and the rest of the way is nearly four times"


def test_the_picture_shows_the_place_where_they_differ():
    true = torch.rand(1, 3, 1, 1).expand(1, 3, 400, 600).clone()
    spoiled = true.clone()
    spoiled[..., 300:340, 500:560] = 0
    found = compare_models(
        make_lr_pairs([true], 2), [Model(2, lambda x: true), Model(2, lambda x: spoiled)], ("a", "b")
    )
    height, width = found.image.shape[-2:]
    part = (width - 18) // 4
    assert height == 320
    dark = (found.image[0, :, 40:, 2 * (part + 6) : 2 * (part + 6) + part].amax(0) == 0).float().mean()
    assert dark > 0.05


def test_frames_that_are_too_small_or_missing_are_named(texture_factory):
    with pytest.raises(TrainingError, match="8x8 are too small"):
        list(make_lr_pairs([torch.rand(1, 3, 8, 8)], 4))
    with pytest.raises(TrainingError, match="no frames"):
        compare_models([], [Model(2), Model(2)], ("a", "b"))
