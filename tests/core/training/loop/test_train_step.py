"""One step: who learns from what, what an inf does, and that parts and scales add up."""

from dataclasses import replace

import pytest
import torch
from steadyscale.core.training.config.schema import Arithmetic, Judge
from steadyscale.core.training.data.dataset import Pictures, batches
from steadyscale.core.training.loop.train_state import LossScale, fresh
from steadyscale.core.training.loop.train_step import advance, rate_at, weights_at

CPU = torch.device("cpu")
GAN = {"pixel": 0.1, "adversarial": 0.1}


@pytest.fixture
def stream(textures):
    return lambda config, first=0: batches(config, Pictures([str(textures / "train")], smallest=8), first)


def weights(network) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_both_players_move_and_neither_learns_from_the_others_step(settings, stream):
    config = settings(losses=GAN)
    state = fresh(config, CPU)
    before = weights(state.generator), weights(state.opponent.network)
    outcome = advance(state, next(stream(config)), config)
    assert outcome.moved
    assert set(outcome.losses) == {"pixel", "adversarial", "discriminator", "real", "fake"}
    assert 0.2 < outcome.losses["discriminator"] < 1.2
    assert not torch.equal(weights(state.generator), before[0])
    assert not torch.equal(weights(state.opponent.network), before[1])
    assert torch.equal(weights(state.averaged), weights(state.generator))  # the first average is the first network
    # The discriminator's gradients come from its own loss alone: the same as without the generator's part.
    alone = fresh(config, CPU)
    batch = next(stream(config))
    real, fake = alone.opponent.network(batch.large), alone.opponent.network(alone.generator(batch.small, 2).detach())
    from steadyscale.core.training.losses import losses

    losses.discriminator_loss(real, fake, config.losses.adversarial_kind).backward()
    ours = torch.cat([g.flatten() for g in state.opponent.gradients()])
    theirs = torch.cat([g.flatten() for g in alone.opponent.gradients()])
    assert torch.allclose(ours, theirs, atol=1e-7)


@pytest.mark.parametrize("judge", Judge)
@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_an_inf_stops_both_and_training_recovers(settings, stream, judge, arithmetic):
    config = settings(
        losses=GAN, discriminator={"kind": judge.value}, machine={"arithmetic": arithmetic.value}, learning={"clip": 1}
    )
    state = fresh(config, CPU)
    state.player.scale.value = min(state.player.scale.value, 1024.0)  # what a run has found after some steps
    if state.opponent.scale.moving:
        state.opponent.scale.value = 1024.0
    source = stream(config)
    assert advance(state, next(source), config).moved
    before = [weights(network) for network in (state.generator, state.opponent.network, state.averaged)]
    scale = state.player.scale.value
    bad = next(source)
    bad.small[0, 0, 3, 3] = float("inf")
    outcome = advance(state, bad, config)
    assert not outcome.moved
    assert (state.step, state.skipped) == (2, 1)
    after = [weights(network) for network in (state.generator, state.opponent.network, state.averaged)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert state.player.scale.value == (scale / 2 if arithmetic is Arithmetic.FP16 else 1.0)
    for _ in range(3):
        outcome = advance(state, next(source), config)
    assert outcome.moved
    assert state.skipped == 0
    assert all(torch.isfinite(weights(n)).all() for n in (state.generator, state.opponent.network, state.averaged))
    assert not torch.equal(weights(state.generator), before[0])


def test_an_inf_in_the_discriminator_alone_stops_the_generator_too(settings, stream):
    config = settings(losses={"pixel": 1.0, "adversarial": 0.1, "adversarial_kind": "vanilla"})
    state = fresh(config, CPU)
    before = weights(state.generator)
    batch = next(stream(config))
    # The vanilla generator never looks at the discriminator's view of photographs, and L1 of one pixel is finite.
    state.opponent.network.logit.register_full_backward_hook(lambda *_: (torch.full((4, 100), float("inf")),))
    outcome = advance(state, batch, config)
    assert not outcome.moved
    assert torch.equal(weights(state.generator), before)


def test_parts_of_a_batch_add_up_to_it(settings, stream):
    whole, parts = settings(), settings(accumulate=4)
    states = [fresh(config, CPU) for config in (whole, parts)]
    outcomes = [advance(s, next(stream(c)), c) for s, c in zip(states, (whole, parts), strict=True)]
    assert outcomes[0].losses == pytest.approx(outcomes[1].losses, abs=1e-6)
    gradients = [torch.cat([g.flatten() for g in s.player.gradients()]) for s in states]
    assert torch.allclose(*gradients, atol=1e-7)
    assert gradients[0].abs().max() > 1e-4


def test_two_views_of_a_place_come_to_look_alike(settings, stream):
    config = settings(losses={"pixel": 0.0, "steady": 10.0}, steps=60, batch=8)
    state = fresh(config, CPU)
    found = [advance(state, batch, config).losses["steady"] for batch in stream(config)]
    assert sum(found[-10:]) < 0.7 * sum(found[:10])


def test_scales_take_turns_on_one_body(settings, stream):
    config = settings(network={"scales": [2, 4]})
    state = fresh(config, CPU)
    two, four = state.generator.at(2), state.generator.at(4)
    assert all(a is b for a, b in zip(two.body[:-1], four.body[:-1], strict=True))
    assert len(list(state.generator.parameters())) == len(list(two.parameters())) + 2  # one more head
    source = stream(config)
    heads = [head.body[-1].weight.detach().clone() for head in (two, four)]
    body = two.body[0].weight.detach().clone()
    advance(state, next(source), config)  # 2x
    assert torch.equal(four.body[-1].weight, heads[1])
    assert not torch.equal(two.body[-1].weight, heads[0])
    assert not torch.equal(four.body[0].weight, body)
    heads[0] = two.body[-1].weight.detach().clone()
    advance(state, next(source), config)  # 4x
    assert torch.equal(two.body[-1].weight, heads[0])
    assert not torch.equal(four.body[-1].weight, heads[1])


def test_rrdb_shares_all_that_works_at_input_size(settings, stream):
    network = {"kind": "rrdb", "scales": [2, 4], "features": 8, "blocks": 1, "growth": 4}
    config = settings(network=network)
    state = fresh(config, CPU)
    two, four = state.generator.at(2), state.generator.at(4)
    assert two.body is four.body
    assert two.conv_first is four.conv_first
    assert two.conv_up1 is not four.conv_up1
    source = stream(config)
    assert all(advance(state, next(source), config).moved for _ in range(2))


def test_losses_that_judge_come_in_later(settings):
    config = settings(losses={"adversarial": 0.4, "perceptual": 2.0}, learning={"gan_from": 10, "gan_ramp": 4})
    assert weights_at(config, 9) == {"pixel": 1.0}
    assert weights_at(config, 10) == {"pixel": 1.0, "perceptual": 2.0, "adversarial": pytest.approx(0.1)}
    assert weights_at(config, 30)["adversarial"] == pytest.approx(0.4)


def test_before_the_game_the_discriminator_rests(settings, stream):
    config = settings(losses=GAN, learning={"gan_from": 1})
    state = fresh(config, CPU)
    before = weights(state.opponent.network)
    source = stream(config)
    assert set(advance(state, next(source), config).losses) == {"pixel"}
    assert torch.equal(weights(state.opponent.network), before)
    assert "adversarial" in advance(state, next(source), config).losses
    assert not torch.equal(weights(state.opponent.network), before)


def test_the_rate_rises_and_falls(settings):
    learning = replace(settings().learning, rate=1.0, last_rate=0.1, warm_up=10)
    rates = [rate_at(learning, 1.0, step, 110) for step in (0, 4, 9, 10, 60, 110)]
    assert rates == pytest.approx([0.1, 0.5, 1.0, 1.0, 0.55, 0.1])
    assert rate_at(learning, 0.5, 110, 110) == pytest.approx(0.05)


def test_the_loss_scale_halves_at_once_and_doubles_after_a_calm():
    scale = LossScale(8.0, moving=True)
    for finite in [True] * 1999 + [False] + [True] * 1999:
        scale.learn(finite)
    assert scale.value == 4.0
    scale.learn(True)
    assert scale.value == 8.0
    for _ in range(9):
        scale.learn(False)
    assert scale.value == 1.0
