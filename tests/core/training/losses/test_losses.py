"""Losses against values that can be worked out by hand, against BasicSR's definitions, and their gradients."""

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
    made = torch.rand(2, 3, 5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    return made, torch.rand(2, 3, 5, 6, generator=generator, dtype=torch.float64)


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(5)
    real, fake = torch.randn(2, 4, 1, generator=generator, dtype=torch.float64)
    return real.requires_grad_(), fake.requires_grad_()


def test_pixel_losses_of_a_known_difference():
    true = torch.full((1, 3, 4, 4), 0.25)
    made = true.clone()
    made[0, 0] += 0.3  # one of three channels
    assert losses.l1(made, true) == pytest.approx(0.1)
    assert losses.charbonnier(made, true, 0.4) == pytest.approx((0.5 + 0.4 + 0.4) / 3)
    assert losses.charbonnier(made, true, 1e-6) == pytest.approx(0.1, abs=1e-5)  # BasicSR's
    assert losses.pixel(made, true, PixelLossKind.L1) == losses.l1(made, true)
    assert losses.pixel(made, true, PixelLossKind.CHARBONNIER) == losses.charbonnier(made, true)


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


def test_two_views_of_one_place_cost_nothing_where_they_agree_and_what_differs_squared():
    place = torch.rand(3, 40, 40)
    views = torch.stack([place[:, :32, :32], place[:, 1:33, 3:35], place[:, 4:36, 4:36], place[:, 5:37, 7:39]])
    assert losses.shift_consistency(views, (1, 3)) == 0
    assert losses.shift_consistency(views, (3, 1)) > 0.1, "rows come first"
    assert losses.shift_consistency(views.flip(0), (1, 3)) > 0.1, "the second view lies further on"
    views[1] += 0.3  # of one of the two pairs
    assert losses.shift_consistency(views, (1, 3)) == pytest.approx(0.3**2 / 2)
    views[1] -= 0.3
    views[:, :, :4] += 9  # the edge does not count
    assert losses.shift_consistency(views, (1, 3)) == pytest.approx(0, abs=1e-12)


def test_feature_losses_weigh_layers_and_normalise_by_their_size():
    true = {"shallow": torch.zeros(2, 4, 6, 6), "deep": torch.zeros(2, 8, 3, 3)}
    made = {"shallow": torch.full((2, 4, 6, 6), 0.5), "deep": torch.full((2, 8, 3, 3), -2.0)}
    weights = {"shallow": 0.1, "deep": 3.0}
    assert losses.perceptual(made, true, weights) == pytest.approx(0.1 * 0.5 + 3 * 2)
    assert losses.content(made, true, weights) == pytest.approx(0.1 * 0.25 + 3 * 4)
    one = {"deep": torch.zeros(2, 8, 3, 3)}
    one["deep"][0, 0, 0, 0] = 6  # ||.||^2 is 36 for one picture of two, of 8 * 3 * 3 numbers each
    assert losses.content(one, true, {"deep": 1.0}) == pytest.approx(36 / 2 / 72)


def bce(logit, label):
    """BasicSR's GANLoss("vanilla")."""
    return F.binary_cross_entropy_with_logits(logit, torch.full_like(logit, label))


def test_adversarial_losses_are_basicsrs(logits):
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


@pytest.mark.parametrize("kind", AdversarialLossKind)
def test_who_knows_nothing_pays_log_two_and_who_knows_all_pays_nothing(kind):
    level = 0.5 if kind is AdversarialLossKind.LSGAN else 0.0
    unsure = torch.full((3, 1), level)
    chance = 0.25 if kind is AdversarialLossKind.LSGAN else math.log(2)
    assert losses.discriminator_loss(unsure, unsure, kind) == pytest.approx(chance)
    assert losses.generator_loss(unsure, unsure, kind) == pytest.approx(chance)
    high, low = (1.0, 0.0) if kind is AdversarialLossKind.LSGAN else (20.0, -20.0)
    sure = torch.full((3, 1), high), torch.full((3, 1), low)
    assert losses.discriminator_loss(*sure, kind) < 1e-6
    assert losses.generator_loss(*sure, kind) > 0.9  # the generator has been found out
    assert losses.generator_loss(*reversed(sure), kind) < 1e-6


def test_gradients(pair, logits):
    made, true = pair
    assert gradcheck(lambda x: losses.l1(x, true), made)
    assert gradcheck(lambda x: losses.charbonnier(x, true, 0.1), made)
    assert gradcheck(losses.total_variation, made)
    assert gradcheck(lambda x: losses.shift_consistency(x, (1, 0)), made)
    for kind in FrequencyLossKind:
        assert gradcheck(lambda x, kind=kind: losses.frequency(x, true, kind), made)
    assert gradcheck(lambda x: losses.perceptual({"a": x}, {"a": true}, {"a": 2.0}), made)
    assert gradcheck(lambda x: losses.content({"a": x}, {"a": true}, {"a": 2.0}), made)
    for kind in AdversarialLossKind:
        assert gradcheck(lambda r, f, kind=kind: losses.discriminator_loss(r, f, kind), logits)
        assert gradcheck(lambda r, f, kind=kind: losses.generator_loss(r, f, kind), logits)


def test_the_relativistic_generator_also_learns_from_photographs(logits):
    real, fake = logits
    losses.generator_loss(real, fake, AdversarialLossKind.RELATIVISTIC).backward()
    assert real.grad.abs().min() > 0
    assert (fake.grad < 0).all()  # it wants its own to look more real


def test_half_precision_is_widened_also_under_autocast():
    made, true = torch.rand(1, 3, 8, 8).bfloat16(), torch.rand(1, 3, 8, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = [losses.l1(made, true), losses.charbonnier(made, true), losses.frequency(made, true)]
        found += [losses.total_variation(made), losses.content({"a": made}, {"a": true}, {"a": 1.0})]
        found += [losses.discriminator_loss(made, true, kind) for kind in AdversarialLossKind]
    assert {loss.dtype for loss in found} == {torch.float32}
    assert found[0] == losses.l1(made.float(), true.float())


def test_the_total_is_the_weighted_sum_of_what_is_there():
    terms = {"pixel": torch.tensor(2.0), "adversarial": torch.tensor(10.0)}
    assert losses.total(terms, {"pixel": 0.5, "adversarial": 0.1, "variation": 7.0}) == pytest.approx(2.0)
