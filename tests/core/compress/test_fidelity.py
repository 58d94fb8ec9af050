"""Candidates whose fault is known, judged against a teacher: each fault exceeds its own limit and no other."""

import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from steadyscale.core.compress import fidelity
from steadyscale.core.compress.fidelity import TeacherComparison, load_feature_distance
from steadyscale.core.compress.model_metrics import ModelMetrics
from steadyscale.core.compress.quality_limits import QualityLimits, describe_failures, judge
from steadyscale.core.training.errors import TrainingError
from steadyscale.core.training.evaluate.metrics import bicubic, score
from steadyscale.core.training.losses.perceptual_features import FeatureExtractor
from steadyscale.models import load_upscaler
from steadyscale.models.zoo import zoo

BICUBIC = bicubic(2)


def blur(image):
    line = torch.tensor([1.0, 2.0, 1.0]) / 4
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, torch.outer(line, line).expand(3, 1, 3, 3), groups=3)


def teacher(small):
    """Bicubic upscaling, sharpened: as even, stable and neutral as bicubic, with more detail."""
    large = BICUBIC(small)
    return large + 3 * (large - blur(large))


def detail(small):
    return fidelity.detail(teacher(small), 2)


def make_clouds(seed, side=98):
    """(3, side, side), uint8, between 60 and 200: noise with the spectrum of photographs, amplitude ~ 1 / frequency."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)
    radius = torch.sqrt(rows**2 + columns**2).clamp_min(1 / side)
    spectrum = torch.fft.rfft2(torch.randn(3, side, side, generator=generator)) / radius
    clouds = torch.fft.irfft2(spectrum, s=(side, side))
    return (130 + 20 * clouds / clouds.std()).clamp(60, 200).round().byte()


@pytest.fixture(scope="module")
def images():
    return [make_clouds(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def comparison(images):
    return TeacherComparison(teacher, images, 2)


def metrics(name, found, psnr=30.0, warping=None):
    return ModelMetrics(name, name, 1, 1.0, 1, 1.0, "torch", psnr, 0.9, warping, fidelity=found)


def failures(comparison, candidate):
    """Names of the exceeded limits."""
    models = [metrics("original", comparison.measure(teacher)), metrics("candidate", comparison.measure(candidate))]
    return [verdict.quantity for verdict in judge(models, 20.0, QualityLimits()) if verdict.passed is False]


def test_a_teacher_passes_against_itself(comparison):
    found = comparison.measure(teacher)
    assert (found.kept, found.detail, found.drift, found.teacher_psnr) == (1, 1, 0, 100)
    assert failures(comparison, teacher) == []


def test_bicubic_interpolation_keeps_nothing(comparison):
    assert comparison.measure(BICUBIC).kept == 0
    assert {"kept", "detail"} <= set(failures(comparison, BICUBIC))


def test_half_the_way_from_bicubic_to_the_teacher_is_half_kept(comparison):
    assert comparison.measure(lambda x: BICUBIC(x).lerp(teacher(x), 0.5)).kept == pytest.approx(0.5, abs=0.01)


def test_detail_is_the_energy_of_what_the_input_cannot_hold():
    checks = (torch.arange(32)[:, None] + torch.arange(32)) % 2 - 0.5
    flat = torch.full((3, 33, 33), 100, dtype=torch.uint8)

    def measure(amplitude):
        return TeacherComparison(lambda x: BICUBIC(x) + 0.1 * checks, [flat], 2).measure(
            lambda x: BICUBIC(x) + amplitude * checks
        )

    assert measure(0.09).detail == pytest.approx(0.81, abs=0.001)
    assert measure(0.11).detail == pytest.approx(1.21, abs=0.001)


def test_a_soft_result_is_refused_though_it_keeps_most(comparison):
    def soft(small):
        return teacher(small) - 0.25 * detail(small)

    assert comparison.measure(soft).kept > 0.8
    assert failures(comparison, soft) == ["detail"]


@pytest.mark.parametrize(("sign_changes", "limit"), [(False, "grid"), (True, "unevenness")])
def test_a_dot_grid_that_restores_the_energy_of_a_soft_result_is_refused(comparison, sign_changes, limit):
    """As pixel shuffle makes it: one of the four pixels that an input pixel becomes is brighter, or darker."""

    def gridded(small):
        rows, columns = (torch.arange(side) for side in small.shape[-2:])
        dots = torch.zeros_like(teacher(small))
        dots[..., ::2, ::2] = 1 - 2 * ((rows[:, None] + columns) % 2) if sign_changes else 1
        dots = (dots - dots.mean()) / dots.std()
        return teacher(small) - 0.3 * detail(small) + dots * (0.3 * detail(small).square().mean()).sqrt()

    found = comparison.measure(gridded)
    assert 0.9 < found.detail < 1.1
    assert found.kept > 0.5
    assert limit in failures(comparison, gridded)
    assert {*failures(comparison, gridded)} <= {"grid", "unevenness"}


def test_a_tint_of_one_channel_is_refused(comparison):
    tint = torch.tensor([0.0, 0.0, 0.7 / 255]).view(1, 3, 1, 1)
    assert comparison.measure(lambda x: teacher(x) + tint).drift == pytest.approx(0.7, abs=0.01)
    assert failures(comparison, lambda x: teacher(x) + tint) == ["color drift"]
    assert failures(comparison, lambda x: teacher(x) + tint / 2) == []


def test_tints_of_opposite_sign_do_not_cancel(comparison):
    def tinted(small):
        return teacher(small) + (1 if small.mean() > 0.5 else -1) / 255

    assert comparison.measure(tinted).drift == pytest.approx(1, abs=0.01)


def test_soft_noise_that_differs_from_frame_to_frame_is_flicker(comparison):
    def noisy(small):
        generator = torch.Generator().manual_seed(int(small.sum() * 1000))
        noise = F.interpolate(torch.randn(1, 3, 12, 12, generator=generator), teacher(small).shape[-2:], mode="bicubic")
        noise -= noise.mean(dim=(2, 3), keepdim=True)
        return teacher(small) + 2.3 / 255 * noise / noise.std()

    assert failures(comparison, noisy) == ["flicker"]


def test_nan_passes_no_limit(comparison):
    found = failures(comparison, lambda x: teacher(x) * float("nan"))
    assert found == ["kept", "detail", "grid", "unevenness", "color drift", "flicker"]


def test_the_perceptual_distance_is_measured_where_its_weights_are(images, monkeypatch):
    def missing(*_):
        raise TrainingError("no weights")

    monkeypatch.setattr(fidelity, "load_features", missing)
    assert load_feature_distance() is None
    torch.manual_seed(0)
    monkeypatch.setattr(fidelity, "load_features", FeatureExtractor)
    with_features = TeacherComparison(teacher, [images[0][:, :34, :34]], 2, load_feature_distance())
    halfway = with_features.measure(lambda x: BICUBIC(x).lerp(teacher(x), 0.5)).perceptual_kept
    assert with_features.measure(teacher).perceptual_kept == 1
    assert with_features.measure(BICUBIC).perceptual_kept == 0
    assert 0.3 < halfway < 0.7


def test_networks_of_1x_are_compared_too(images):
    found = TeacherComparison(lambda x: x + 0.1 * blur(x), images[:1], 1).measure(lambda x: x)
    assert (found.kept, found.unevenness, found.grid) == (0, 0, 0)
    assert found.flicker < 1e-3


# ---- verdicts ----


def fidelity_of(**changes):
    values = {"kept": 1, "teacher_psnr": 100, "perceptual_kept": None, "detail": 1, "grid": 0, "unevenness": 0}
    return fidelity.Fidelity(**{**values, "drift": 0, "flicker": 1, **changes})


def judge_pair(teacher_metrics, candidate, bicubic_psnr=20.0):
    verdicts = judge([teacher_metrics, candidate], bicubic_psnr, QualityLimits(max_loss_db=0.3))
    return {verdict.quantity: verdict for verdict in verdicts}


def test_limits_are_relative_to_the_teacher():
    original = metrics("original", fidelity_of(grid=1, unevenness=0.5, flicker=4), warping=1000)
    for changes, warping, exceeded in (
        ({"grid": 1.24, "unevenness": 0.59, "flicker": 4.19}, 1100, []),
        ({"grid": 1.26, "unevenness": 0.61, "flicker": 4.21}, 1110, ["grid", "unevenness", "flicker", "warping error"]),
    ):
        found = judge_pair(original, metrics("small", fidelity_of(**changes), warping=warping))
        assert [name for name, verdict in found.items() if verdict.passed is False] == exceeded


def test_noise_below_a_level_is_no_flicker_of_a_calm_teacher():
    """A fifth more of nearly nothing, as an int8 graph has it, cannot be seen."""
    original = metrics("original", fidelity_of(flicker=2), warping=10)
    found = judge_pair(original, metrics("small", fidelity_of(flicker=2.35), warping=33))
    assert found["flicker"].passed is found["warping error"].passed is True
    found = judge_pair(original, metrics("small", fidelity_of(flicker=2.37), warping=35))
    assert found["flicker"].passed is found["warping error"].passed is False


def test_the_loss_of_psnr_counts_only_where_the_teacher_beats_bicubic():
    original, small = metrics("original", fidelity_of(), 30.0), metrics("small", fidelity_of(), 29.5)
    assert judge_pair(original, small, 29.9)["PSNR loss"].passed is False
    verdict = judge_pair(original, small, 30.0)["PSNR loss"]
    assert verdict.passed is None
    assert verdict.limit == "not judged: the original has 30.00 dB, bicubic 30.00 dB"
    assert judge_pair(original, metrics("small", fidelity_of(), 29.8), 29.9)["PSNR loss"].passed is True


def test_all_failures_of_all_models_are_named():
    original = metrics("original", fidelity_of())
    models = [
        original,
        metrics("pruned", fidelity_of(kept=0.25, drift=2)),
        metrics("int8 graph", fidelity_of(detail=2)),
    ]
    assert describe_failures(judge(models, 20.0, QualityLimits())) == (
        "pruned: kept is 0.25 (at least 0.5 allowed), color drift is 2 levels (at most 0.5 allowed); "
        "int8 graph: detail is 2 (0.9 to 1.1 allowed)"
    )
    assert describe_failures(judge([original, original], 20.0, QualityLimits())) == ""


# ---- the case that PSNR to the photograph gets wrong ----


def test_bicubic_interpolation_is_no_compressed_animevideov3():
    """It has more PSNR than the network, and would pass as a perfect compression of it."""
    folder = Path(os.environ["STEADYSCALE_WEIGHTS"]) if "STEADYSCALE_WEIGHTS" in os.environ else None
    network = load_upscaler(zoo.fetch_weights("realesr-animevideov3", folder))
    images = [make_clouds(0, 84)]
    bicubic_psnr, network_psnr = (score(model, images, 4).psnr for model in (bicubic(4), network))
    assert bicubic_psnr > network_psnr + 0.3
    comparison = TeacherComparison(network, images, 4)
    models = [
        metrics(name, comparison.measure(model), psnr)
        for name, model, psnr in (("original", network, network_psnr), ("bicubic", bicubic(4), bicubic_psnr))
    ]
    assert describe_failures(judge([models[0], models[0]], bicubic_psnr, QualityLimits())) == ""
    failed = {verdict.quantity for verdict in judge(models, bicubic_psnr, QualityLimits()) if verdict.passed is False}
    assert {"kept", "detail"} <= failed
