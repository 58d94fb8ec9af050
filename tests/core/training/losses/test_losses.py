"""Losses against hand-computed values and BasicSR's definitions, and their gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from steadyscale.core.training.config.choices import AdversarialLossKind, FrequencyLossKind, PixelLossKind
from steadyscale.core.training.losses import losses
from torch.autograd import gradcheck


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(3)
    pred = torch.rand(2, 3, 5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    return pred, torch.rand(2, 3, 5, 6, generator=generator, dtype=torch.float64)


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(5)
    real, fake = torch.randn(2, 4, 1, generator=generator, dtype=torch.float64)
    return real.requires_grad_(), fake.requires_grad_()


def test_pixel_losses_of_a_known_difference():
    target = torch.full((1, 3, 4, 4), 0.25)
    pred = target.clone()
    pred[0, 0] += 0.3  # one of three channels
    assert losses.l1(pred, target) == pytest.approx(0.1)
    assert losses.charbonnier(pred, target, 0.4) == pytest.approx((0.5 + 0.4 + 0.4) / 3)
    assert losses.charbonnier(pred, target, 1e-6) == pytest.approx(0.1, abs=1e-5)  # BasicSR's
    assert losses.pixel(pred, target, PixelLossKind.L1) == losses.l1(pred, target)
    assert losses.pixel(pred, target, PixelLossKind.CHARBONNIER) == losses.charbonnier(pred, target)


def test_total_variation_of_a_ramp_and_a_step():
    ramp = torch.arange(6.0).expand(1, 1, 5, 6) * 0.1
    assert losses.total_variation(ramp) == pytest.approx(0.1)
    assert losses.total_variation(ramp.transpose(2, 3)) == pytest.approx(0.1)
    step = torch.zeros(1, 1, 4, 4)
    step[..., 2:, :] = 1  # one of three differences down, none across
    assert losses.total_variation(step) == pytest.approx(1 / 3)


def test_frequency_loss_of_an_impulse_and_a_shift():
    flat = torch.zeros(1, 1, 8, 8)
    impulse = flat.clone()
    impulse[..., 0, 0] = 1
    # Every frequency of an impulse in the origin is 1, real, and divided by the square root of 64 pixels.
    assert losses.frequency(impulse, flat, FrequencyLossKind.AMPLITUDE) == pytest.approx(1 / 8)
    assert losses.frequency(impulse, flat, FrequencyLossKind.COMPLEX) == pytest.approx(1 / 16)
    moved = impulse.roll((2, 3), (2, 3))
    assert losses.frequency(moved, impulse, FrequencyLossKind.AMPLITUDE) == pytest.approx(0, abs=1e-6)
    assert losses.frequency(moved, impulse, FrequencyLossKind.COMPLEX) > 0.05


def test_shift_consistency_is_the_squared_difference_of_aligned_crops():
    scene = torch.rand(3, 40, 40)
    views = torch.stack([scene[:, :32, :32], scene[:, 1:33, 3:35], scene[:, 4:36, 4:36], scene[:, 5:37, 7:39]])
    assert losses.shift_consistency(views, (1, 3)) == 0
    assert losses.shift_consistency(views, (3, 1)) > 0.1, "rows come first"
    assert losses.shift_consistency(views.flip(0), (1, 3)) > 0.1, "the second crop is the shifted one"
    views[1] += 0.3  # of one of the two pairs
    assert losses.shift_consistency(views, (1, 3)) == pytest.approx(0.3**2 / 2)
    views[1] -= 0.3
    views[:, :, :4] += 9  # the edge does not count
    assert losses.shift_consistency(views, (1, 3)) == pytest.approx(0, abs=1e-12)


def test_feature_losses_weight_layers_and_normalize_by_size():
    target = {"shallow": torch.zeros(2, 4, 6, 6), "deep": torch.zeros(2, 8, 3, 3)}
    pred = {"shallow": torch.full((2, 4, 6, 6), 0.5), "deep": torch.full((2, 8, 3, 3), -2.0)}
    weights = {"shallow": 0.1, "deep": 3.0}
    assert losses.perceptual(pred, target, weights) == pytest.approx(0.1 * 0.5 + 3 * 2)
    assert losses.content(pred, target, weights) == pytest.approx(0.1 * 0.25 + 3 * 4)
    one = {"deep": torch.zeros(2, 8, 3, 3)}
    one["deep"][0, 0, 0, 0] = 6  # ||.||^2 is 36 for one image of two, of 8 * 3 * 3 values each
    assert losses.content(one, target, {"deep": 1.0}) == pytest.approx(36 / 2 / 72)


def bce(logit, label):
    """BasicSR's GANLoss("vanilla")."""
    return F.binary_cross_entropy_with_logits(logit, torch.full_like(logit, label))


def test_adversarial_losses_equal_those_of_basicsr(logits):
    real, fake = (logit.detach() for logit in logits)
    d, g = losses.discriminator_loss, losses.generator_loss
    assert d(real, fake, AdversarialLossKind.VANILLA) == pytest.approx(((bce(real, 1.0) + bce(fake, 0.0)) / 2).item())
    assert g(real, fake, AdversarialLossKind.VANILLA) == pytest.approx(bce(fake, 1.0).item())
    squares = F.mse_loss(real, torch.ones_like(real)) + F.mse_loss(fake, torch.zeros_like(fake))
    assert d(real, fake, AdversarialLossKind.LSGAN) == pytest.approx(squares.item() / 2)
    assert g(real, fake, AdversarialLossKind.LSGAN) == pytest.approx(F.mse_loss(fake, torch.ones_like(fake)).item())
    relative = (bce(real - fake.mean(), 1.0) + bce(fake - real.mean(), 0.0)) / 2  # ESRGANModel
    assert d(real, fake, AdversarialLossKind.RELATIVISTIC) == pytest.approx(relative.item())
    relative = (bce(real - fake.mean(), 0.0) + bce(fake - real.mean(), 1.0)) / 2
    assert g(real, fake, AdversarialLossKind.RELATIVISTIC) == pytest.approx(relative.item())


def test_probabilities_are_those_of_the_logits_that_are_trained():
    """A relativistic discriminator is undecided at equal logits, however large these are."""
    real, fake = torch.tensor([8.0, 8.0]), torch.tensor([7.0, 9.0])
    half = torch.tensor(0.5)
    of = losses.mean_probabilities
    assert torch.allclose(torch.stack(of(real, fake, AdversarialLossKind.RELATIVISTIC)), half)
    assert min(of(real, fake, AdversarialLossKind.VANILLA)) > 0.99
    certain = of(real, fake - 20, AdversarialLossKind.RELATIVISTIC)
    assert certain[0] > 0.99
    assert certain[1] < 0.01
    assert of(torch.tensor([0.75, 2.0]), torch.tensor([-1.0, 0.5]), AdversarialLossKind.LSGAN) == (0.875, 0.25)


@pytest.mark.parametrize("kind", AdversarialLossKind)
def test_undecided_and_certain_discriminators_have_known_losses(kind):
    level = 0.5 if kind is AdversarialLossKind.LSGAN else 0.0
    undecided = torch.full((3, 1), level)
    chance = 0.25 if kind is AdversarialLossKind.LSGAN else math.log(2)
    assert losses.discriminator_loss(undecided, undecided, kind) == pytest.approx(chance)
    assert losses.generator_loss(undecided, undecided, kind) == pytest.approx(chance)
    high, low = (1.0, 0.0) if kind is AdversarialLossKind.LSGAN else (20.0, -20.0)
    certain = torch.full((3, 1), high), torch.full((3, 1), low)
    assert losses.discriminator_loss(*certain, kind) < 1e-6
    assert losses.generator_loss(*certain, kind) > 0.9  # generated images are recognized
    assert losses.generator_loss(*reversed(certain), kind) < 1e-6


def test_gradients(pair, logits):
    pred, target = pair
    assert gradcheck(lambda x: losses.l1(x, target), pred)
    assert gradcheck(lambda x: losses.charbonnier(x, target, 0.1), pred)
    assert gradcheck(losses.total_variation, pred)
    assert gradcheck(lambda x: losses.shift_consistency(x, (1, 0)), pred)
    for kind in FrequencyLossKind:
        assert gradcheck(lambda x, kind=kind: losses.frequency(x, target, kind), pred)
    assert gradcheck(lambda x: losses.perceptual({"a": x}, {"a": target}, {"a": 2.0}), pred)
    assert gradcheck(lambda x: losses.content({"a": x}, {"a": target}, {"a": 2.0}), pred)
    for kind in AdversarialLossKind:
        assert gradcheck(lambda r, f, kind=kind: losses.discriminator_loss(r, f, kind), logits)
        assert gradcheck(lambda r, f, kind=kind: losses.generator_loss(r, f, kind), logits)


def test_the_relativistic_generator_loss_has_gradients_through_real_logits(logits):
    real, fake = logits
    losses.generator_loss(real, fake, AdversarialLossKind.RELATIVISTIC).backward()
    assert real.grad.abs().min() > 0
    assert (fake.grad < 0).all()  # higher logits for generated images reduce the loss


def test_half_precision_is_converted_to_float32_under_autocast():
    pred, target = torch.rand(1, 3, 8, 8).bfloat16(), torch.rand(1, 3, 8, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = [losses.l1(pred, target), losses.charbonnier(pred, target), losses.frequency(pred, target)]
        found += [losses.total_variation(pred), losses.content({"a": pred}, {"a": target}, {"a": 1.0})]
        found += [losses.discriminator_loss(pred, target, kind) for kind in AdversarialLossKind]
    assert {loss.dtype for loss in found} == {torch.float32}
    assert found[0] == losses.l1(pred.float(), target.float())


def test_the_total_is_the_weighted_sum_of_the_given_terms():
    terms = {"pixel": torch.tensor(2.0), "adversarial": torch.tensor(10.0)}
    assert losses.total(terms, {"pixel": 0.5, "adversarial": 0.1, "variation": 7.0}) == pytest.approx(2.0)
