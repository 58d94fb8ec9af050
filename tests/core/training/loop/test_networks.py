"""Initial networks: preserved variance, output close to plain upscaling, shared bodies, initial weights."""

import pytest
import torch
import torch.nn.functional as F
from spandrel import ModelLoader
from steadyscale.core.training.config.schema import config_from
from steadyscale.core.training.config.sections import NetworkConfig
from steadyscale.core.training.data.dataset import Batch
from steadyscale.core.training.errors import TrainingError
from steadyscale.core.training.loop.export import export
from steadyscale.core.training.loop.networks import make_generator
from steadyscale.core.training.loop.train_state import init_state
from steadyscale.core.training.loop.train_step import train_step
from steadyscale.core.upscaling.resize import resize
from steadyscale.models import load_upscaler
from steadyscale.models.arch.separable import SeparableConv
from steadyscale.models.zoo import zoo
from torch import nn

COMPACT = NetworkConfig(scales=(2, 3), features=32, convs=6)
SEPARABLE = NetworkConfig(scales=(2, 3), features=32, convs=6, separable=True)


@pytest.mark.parametrize("settings", [COMPACT, SEPARABLE], ids=["dense", "separable"])
def test_initialization_preserves_the_variance_of_activations(settings):
    network = make_generator(settings, 0).for_scale(2)
    x = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    deviations = []
    with torch.no_grad():
        for layer in network.body[:-1]:
            x = layer(x)
            if isinstance(layer, (nn.Conv2d, SeparableConv)):
                deviations.append(float(x.std()))
    assert len(deviations) == 7
    assert all(0.4 < deviation < 2.5 for deviation in deviations), deviations


def test_a_dense_network_starts_close_to_bicubic_upscaling_but_not_equal():
    """Sine waves, which bicubic interpolation upscales well, in three channels that must not mix."""
    generator = make_generator(COMPACT, 0)
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    waves = 0.5 + 0.4 * torch.stack([torch.sin(0.7 * x), torch.cos(0.5 * y + 0.3 * x), torch.sin(0.6 * y)])[None]
    for scale in COMPACT.scales:
        with torch.no_grad():
            initial = generator(waves, scale)[..., 8:-8, 8:-8]
        smooth = resize(waves, 40 * scale, 40 * scale)[..., 8:-8, 8:-8]
        coarse = F.interpolate(waves, scale_factor=scale, mode="nearest")[..., 8:-8, 8:-8]
        deviation = (initial - smooth).std((0, 2, 3))
        assert (deviation < 0.5 * (coarse - smooth).std((0, 2, 3))).all()
        assert (deviation > 0.001).all()


def test_a_separable_network_starts_close_to_nearest_neighbor_upscaling():
    generator = make_generator(SEPARABLE, 0)
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for scale in SEPARABLE.scales:
        with torch.no_grad():
            away = generator(x, scale) - F.interpolate(x, scale_factor=scale, mode="nearest")
        assert 0.01 < float(away.std()) < 0.2


def test_the_seed_determines_the_weights_and_the_body_is_shared():
    one, same, other = (make_generator(COMPACT, seed) for seed in (3, 3, 4))
    first, again, different = (torch.cat([p.flatten() for p in g.parameters()]) for g in (one, same, other))
    assert torch.equal(first, again)
    assert not torch.equal(first, different)
    assert one.for_scale(2).body[2] is one.for_scale(3).body[2]
    assert one.for_scale(2).body[-1] is not one.for_scale(3).body[-1]


def test_initial_weights_can_be_a_name_of_the_zoo():
    named = NetworkConfig(scales=(2,), features=16, convs=8, init_from="steadyscale-2x")
    expected = load_upscaler(zoo.find_weights("steadyscale-2x")).model.state_dict()
    found = make_generator(named, 0).for_scale(2).state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_span_is_trained_and_its_average_is_exported_for_other_programs(tmp_path):
    config = config_from({"steps": 9, "batch": 2, "network": {"kind": "span", "scales": [2, 4], "features": 6}})
    state = init_state(config, torch.device("cpu"))
    one, other = (state.generator.for_scale(scale) for scale in (2, 4))
    assert one.block_2 is other.block_2
    assert one.upsampler is not other.upsampler
    torch.manual_seed(0)
    before = {key: value.clone() for key, value in one.state_dict().items()}
    for _ in range(3):
        result = train_step(state, Batch(0, 2, torch.rand(2, 3, 8, 8), torch.rand(2, 3, 16, 16)), config)
        assert result.applied
    assert not torch.equal(one.block_6.c1_r.conv[1].weight, before["block_6.c1_r.conv.1.weight"])
    average = state.ema_generator.for_scale(2)
    path = export(average, tmp_path / "span.safetensors", {"scale": "2"})
    image = torch.rand(1, 3, 9, 7)
    with torch.no_grad():
        expected = ModelLoader().load_from_file(path).eval().model(image)
        assert torch.allclose(average(image), expected, atol=1e-5)
    assert torch.allclose(load_upscaler(path)(image), expected.clamp(0, 1), atol=1e-5)
    with pytest.raises(TrainingError, match="a span has no separable form"):
        config_from({"network": {"kind": "span", "separable": True}})


def test_adamw_also_shrinks_the_weights():
    def weights_after_a_step(optim):
        network = {"kind": "compact", "scales": [2], "features": 4, "convs": 1}
        config = config_from({"batch": 2, "network": network, "optim": {"learning_rate": 0.01, **optim}})
        state = init_state(config, torch.device("cpu"))
        before = state.generator.for_scale(2).body[0].weight.clone()
        generator = torch.Generator().manual_seed(1)
        small, large = (torch.rand(2, 3, side, side, generator=generator) for side in (8, 16))
        train_step(state, Batch(0, 2, small, large), config)
        return before, state.generator.for_scale(2).body[0].weight

    before, adam = weights_after_a_step({})
    _, adamw = weights_after_a_step({"kind": "adamw", "weight_decay": 0.1})
    assert torch.allclose(adamw, adam - 0.01 * 0.1 * before, atol=1e-6)
    assert not torch.allclose(adamw, adam, atol=1e-5)
    with pytest.raises(TrainingError, match=r"optim\.weight_decay is of AdamW"):
        config_from({"optim": {"weight_decay": 0.1}})
