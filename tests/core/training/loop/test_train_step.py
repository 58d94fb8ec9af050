"""One training step: gradients, skipped steps, accumulation, shared bodies, schedules."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from steadyscale.core.training import train
from steadyscale.core.training.config.choices import AutocastDtype, DiscriminatorKind
from steadyscale.core.training.data.clips import Motion
from steadyscale.core.training.data.dataset import batches
from steadyscale.core.training.data.image_files import CachedImageDataset
from steadyscale.core.training.loop.train_state import LossScaler, init_state
from steadyscale.core.training.loop.train_step import learning_rate_at, loss_weights_at, train_step
from steadyscale.core.training.losses.structure import color, ms_ssim, wavelet
from steadyscale.core.training.losses.temporal import deflickered

CPU = torch.device("cpu")
GAN = {"pixel": 0.1, "adversarial": 0.1}


@pytest.fixture
def stream(texture_folder):
    return lambda config, first=0: batches(
        config, CachedImageDataset([str(texture_folder / "train")], min_side=8), first
    )


def weights(network) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_both_networks_are_updated_with_gradients_of_before_the_step(make_config, stream):
    config = make_config(losses=GAN)
    state = init_state(config, CPU)
    before = weights(state.generator), weights(state.discriminator.network)
    result = train_step(state, next(stream(config)), config)
    assert result.applied
    assert set(result.losses) == {"pixel", "adversarial", "discriminator", "real", "fake"}
    assert 0.2 < result.losses["discriminator"] < 1.2
    assert not torch.equal(weights(state.generator), before[0])
    assert not torch.equal(weights(state.discriminator.network), before[1])
    assert torch.equal(weights(state.ema_generator), weights(state.generator))  # the first average equals the network
    # The discriminator's gradients come from its own loss alone: the same as without the generator's part.
    alone = init_state(config, CPU)
    batch = next(stream(config))
    real, fake = (
        alone.discriminator.network(batch.large),
        alone.discriminator.network(alone.generator(batch.small, 2).detach()),
    )
    from steadyscale.core.training.losses import losses

    losses.discriminator_loss(real, fake, config.losses.adversarial_kind).backward()
    ours = torch.cat([g.flatten() for g in state.discriminator.gradients()])
    theirs = torch.cat([g.flatten() for g in alone.discriminator.gradients()])
    assert torch.allclose(ours, theirs, atol=1e-7)


@pytest.mark.parametrize("kind", DiscriminatorKind)
@pytest.mark.parametrize("dtype", AutocastDtype)
def test_both_networks_skip_a_step_with_inf_and_training_recovers(make_config, stream, kind, dtype):
    config = make_config(
        losses=GAN,
        discriminator={"kind": kind.value},
        runtime={"autocast_dtype": dtype.value},
        optim={"max_grad_norm": 1},
    )
    state = init_state(config, CPU)
    state.trained_generator.scaler.scale = min(
        state.trained_generator.scaler.scale, 1024.0
    )  # as after some steps of a run
    if state.discriminator.scaler.dynamic:
        state.discriminator.scaler.scale = 1024.0
    source = stream(config)
    assert train_step(state, next(source), config).applied
    before = [weights(network) for network in (state.generator, state.discriminator.network, state.ema_generator)]
    scale = state.trained_generator.scaler.scale
    bad = next(source)
    bad.small[0, 0, 3, 3] = float("inf")
    result = train_step(state, bad, config)
    assert not result.applied
    assert (state.step, state.skipped_steps) == (2, 1)
    after = [weights(network) for network in (state.generator, state.discriminator.network, state.ema_generator)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert state.trained_generator.scaler.scale == (scale / 2 if dtype is AutocastDtype.FP16 else 1.0)
    for _ in range(3):
        result = train_step(state, next(source), config)
    assert result.applied
    assert state.skipped_steps == 0
    assert all(
        torch.isfinite(weights(n)).all() for n in (state.generator, state.discriminator.network, state.ema_generator)
    )
    assert not torch.equal(weights(state.generator), before[0])


def test_an_inf_in_the_discriminator_skips_the_generators_step_too(make_config, stream):
    config = make_config(losses={"pixel": 1.0, "adversarial": 0.1, "adversarial_kind": "vanilla"})
    state = init_state(config, CPU)
    before = weights(state.generator)
    batch = next(stream(config))
    # The vanilla generator loss does not use the logits of real images, so its own gradients stay finite.
    state.discriminator.network.logit.register_full_backward_hook(lambda *_: (torch.full((4, 100), float("inf")),))
    result = train_step(state, batch, config)
    assert not result.applied
    assert torch.equal(weights(state.generator), before)


def test_accumulated_parts_give_the_gradients_of_the_batch(make_config, stream):
    whole, parts = make_config(), make_config(accumulate=4)
    states = [init_state(config, CPU) for config in (whole, parts)]
    outcomes = [train_step(s, next(stream(c)), c) for s, c in zip(states, (whole, parts), strict=True)]
    assert outcomes[0].losses == pytest.approx(outcomes[1].losses, abs=1e-6)
    gradients = [torch.cat([g.flatten() for g in s.trained_generator.gradients()]) for s in states]
    assert torch.allclose(*gradients, atol=1e-7)
    assert gradients[0].abs().max() > 1e-4


def test_the_shift_consistency_loss_decreases(make_config, stream):
    config = make_config(losses={"pixel": 0.0, "shift_consistency": 10.0}, steps=60, batch=8)
    state = init_state(config, CPU)
    found = [train_step(state, batch, config).losses["steady"] for batch in stream(config)]
    assert sum(found[-10:]) < 0.7 * sum(found[:10])


def test_scales_alternate_and_share_one_body(make_config, stream):
    config = make_config(network={"scales": [2, 4]})
    state = init_state(config, CPU)
    two, four = state.generator.for_scale(2), state.generator.for_scale(4)
    assert all(a is b for a, b in zip(two.body[:-1], four.body[:-1], strict=True))
    assert len(list(state.generator.parameters())) == len(list(two.parameters())) + 2  # one more head
    source = stream(config)
    heads = [head.body[-1].weight.detach().clone() for head in (two, four)]
    body = two.body[0].weight.detach().clone()
    train_step(state, next(source), config)  # 2x
    assert torch.equal(four.body[-1].weight, heads[1])
    assert not torch.equal(two.body[-1].weight, heads[0])
    assert not torch.equal(four.body[0].weight, body)
    heads[0] = two.body[-1].weight.detach().clone()
    train_step(state, next(source), config)  # 4x
    assert torch.equal(two.body[-1].weight, heads[0])
    assert not torch.equal(four.body[-1].weight, heads[1])


def test_rrdb_shares_all_layers_at_input_size(make_config, stream):
    network = {"kind": "rrdb", "scales": [2, 4], "features": 8, "blocks": 1, "growth": 4}
    config = make_config(network=network)
    state = init_state(config, CPU)
    two, four = state.generator.for_scale(2), state.generator.for_scale(4)
    assert two.body is four.body
    assert two.conv_first is four.conv_first
    assert two.conv_up1 is not four.conv_up1
    source = stream(config)
    assert all(train_step(state, next(source), config).applied for _ in range(2))


def test_perceptual_and_adversarial_losses_start_later(make_config):
    config = make_config(
        losses={"adversarial": 0.4, "perceptual": 2.0}, optim={"gan_start_step": 10, "gan_ramp_steps": 4}
    )
    assert loss_weights_at(config, 9) == {"pixel": 1.0}
    assert loss_weights_at(config, 10) == {"pixel": 1.0, "perceptual": 2.0, "adversarial": pytest.approx(0.1)}
    assert loss_weights_at(config, 30)["adversarial"] == pytest.approx(0.4)


def test_the_discriminator_is_not_trained_before_the_gan_starts(make_config, stream):
    config = make_config(losses=GAN, optim={"gan_start_step": 1})
    state = init_state(config, CPU)
    before = weights(state.discriminator.network)
    source = stream(config)
    assert set(train_step(state, next(source), config).losses) == {"pixel"}
    assert torch.equal(weights(state.discriminator.network), before)
    assert "adversarial" in train_step(state, next(source), config).losses
    assert not torch.equal(weights(state.discriminator.network), before)


def test_the_learning_rate_warms_up_and_decays(make_config):
    optim = replace(make_config().optim, learning_rate=1.0, min_learning_rate=0.1, warmup_steps=10)
    rates = [learning_rate_at(optim, 1.0, step, 110) for step in (0, 4, 9, 10, 60, 110)]
    assert rates == pytest.approx([0.1, 0.5, 1.0, 1.0, 0.55, 0.1])
    assert learning_rate_at(optim, 0.5, 110, 110) == pytest.approx(0.05)


def test_the_loss_scale_halves_at_once_and_doubles_after_2000_finite_steps():
    scale = LossScaler(8.0, dynamic=True)
    for finite in [True] * 1999 + [False] + [True] * 1999:
        scale.update(finite)
    assert scale.scale == 4.0
    scale.update(True)
    assert scale.scale == 8.0
    for _ in range(9):
        scale.update(False)
    assert scale.scale == 1.0


@pytest.mark.parametrize("limit", [0.01, 0.0])
def test_gradients_are_clipped_to_the_limit_and_0_is_none(make_config, stream, limit):
    config = make_config(losses=GAN, optim={"max_grad_norm": limit})
    state = init_state(config, CPU)
    assert train_step(state, next(stream(config)), config).applied
    for model in (state.trained_generator, state.discriminator):
        norm = float(torch.cat([gradient.flatten() for gradient in model.gradients()]).norm())
        assert norm == pytest.approx(limit, rel=1e-3) if limit else norm > 0.02, "it was larger before"


def test_clips_train_through_the_filter_and_against_a_discriminator_of_neighbors(make_config, stream):
    losses = {"pixel": 1.0, "temporal": 0.5, "adversarial": 0.1, "temporal_adversarial": 0.1, "deflicker": 0.6}
    config = make_config(batch=6, data={"clip_frames": 3}, losses=losses)
    state, batch = init_state(config, CPU), next(stream(config))
    before = {name: weights(model.network) for name, model in state.trained_models.items()}
    pred = state.generator(batch.small, 2).detach()
    result = train_step(state, batch, config)
    assert set(before) == {"generator", "discriminator", "temporal_discriminator"}
    assert not any(torch.equal(weights(model.network), before[name]) for name, model in state.trained_models.items())
    per_discriminator = {"adversarial", "discriminator", "real", "fake"}
    assert set(result.losses) == {
        "pixel",
        "temporal",
        *per_discriminator,
        *(f"temporal_{n}" for n in per_discriminator),
    }
    filtered = deflickered(pred, batch.motion.flow, batch.motion.confidence, 3, 0.6)
    assert result.losses["pixel"] == pytest.approx(float((filtered - batch.large).abs().mean()), rel=1e-4)
    assert result.losses["pixel"] != pytest.approx(float((pred - batch.large).abs().mean()), rel=1e-4)


def test_accumulated_clips_give_the_gradients_of_the_batch(make_config, stream):
    gradients = []
    for parts in (1, 2):
        config = make_config(batch=4, accumulate=parts, data={"clip_frames": 2}, losses={"temporal": 1.0})
        state = init_state(config, CPU)
        train_step(state, replace(batch := next(stream(config)), motion=even(batch.motion)), config)
        gradients.append(torch.cat([g.flatten() for g in state.trained_generator.gradients()]))
    assert torch.allclose(*gradients, atol=1e-6)


def even(motion: Motion) -> Motion:
    """The same with full confidence, so that each part has the same weight."""
    confidence = torch.ones_like(motion.confidence)
    confidence[::2] = 0
    return Motion(motion.flow, confidence)


def test_losses_of_structure_are_of_the_result_and_the_averaged_network(make_config, stream):
    config = make_config(losses={"pixel": 1.0, "ms_ssim": 0.5, "wavelet": 1.0, "artifacts": 1.0})
    state, batch = init_state(config, CPU), next(stream(config))
    first = train_step(state, batch, config)
    assert set(first.losses) == {"pixel", "ms_ssim", "wavelet", "artifacts"}
    with torch.no_grad():
        for parameter in state.ema.parameters():
            parameter.zero_()  # an averaged network that is worse everywhere but in the darkest pixels
    pred = state.generator(batch.small, 2).detach()
    result = train_step(state, batch, config)
    assert result.losses["ms_ssim"] == pytest.approx(float(ms_ssim(pred, batch.large)), rel=1e-4)
    assert result.losses["wavelet"] == pytest.approx(float(wavelet(pred, batch.large)), rel=1e-4)
    assert result.losses["artifacts"] < 0.5 * first.losses["artifacts"]


def test_the_color_loss_is_that_of_the_result(make_config, stream):
    config = make_config(losses={"pixel": 1.0, "color": 1.0})
    state, batch = init_state(config, CPU), next(stream(config))
    pred = state.generator(batch.small, 2).detach()
    result = train_step(state, batch, config)
    assert result.losses["color"] == pytest.approx(float(color(pred, batch.large)), rel=1e-4)


def test_a_schedule_free_optimizer_exports_its_own_average(make_config, stream):
    optim = {"kind": "schedule-free", "learning_rate": 4e-3, "warmup_steps": 2, "ema_decay": 0.999}
    config = make_config(optim=optim, steps=30)
    state = init_state(config, CPU)
    assert [learning_rate_at(config.optim, 1.0, step, 30) for step in (0, 1, 2, 29)] == [0.5, 1.0, 1.0, 1.0]
    batches = [next(stream(config))] * 12
    losses = [train_step(state, batch, config).losses["pixel"] for batch in batches]
    assert losses[-1] < 0.9 * losses[0]
    gradient_point, average = weights(state.generator), weights(state.ema_generator)
    assert not torch.allclose(gradient_point, average, atol=1e-4)
    state.trained_generator.optimizer.eval()
    assert torch.allclose(weights(state.generator), average, atol=1e-7)
    state.trained_generator.optimizer.train()
    assert torch.allclose(weights(state.generator), gradient_point, atol=1e-6)


def test_a_schedule_free_run_resumes_exactly(make_config, tmp_path):
    output = {"samples": 0, "validate_every": 100, "checkpoint_every": 3}
    changes = {"optim": {"kind": "schedule-free"}, "output": output}
    whole, parts = (
        make_config(run=str(tmp_path / name), steps=5, data={"validate": []}, **changes) for name in ("whole", "parts")
    )
    *_, end = train(whole)
    run = train(parts)
    assert [next(run).step for _ in range(3)] == [1, 2, 3]
    run.close()
    *_, resumed = train(parts, resume=True)
    first, second = (load_file(report.files[0]) for report in (end, resumed))
    assert all(torch.equal(first[key], second[key]) for key in first)
