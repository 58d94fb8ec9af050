"""Networks before their first step: as strong in the last layer as in the first, and near to what they start from."""

import pytest
import torch
import torch.nn.functional as F
from steadyscale.core.training.config import Network
from steadyscale.core.training.networks import make_generator
from steadyscale.models.separable import SeparableConv
from torch import nn

COMPACT = Network(scales=(2, 3), features=32, convs=6)
SEPARABLE = Network(scales=(2, 3), features=32, convs=6, separable=True)


@pytest.mark.parametrize("settings", [COMPACT, SEPARABLE], ids=["dense", "separable"])
def test_a_signal_is_as_strong_after_many_layers_as_it_was(settings):
    network = make_generator(settings, 0).at(2)
    x = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    strength = []
    with torch.no_grad():
        for layer in network.body[:-1]:
            x = layer(x)
            if isinstance(layer, (nn.Conv2d, SeparableConv)):
                strength.append(float(x.std()))
    assert len(strength) == 7
    assert all(0.4 < each < 2.5 for each in strength), strength


@pytest.mark.parametrize("settings", [COMPACT, SEPARABLE], ids=["dense", "separable"])
def test_it_begins_near_enlarging_by_repetition_but_not_at_it(settings):
    generator = make_generator(settings, 0)
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for scale in settings.scales:
        with torch.no_grad():
            away = generator(x, scale) - F.interpolate(x, scale_factor=scale, mode="nearest")
        assert 0.01 < float(away.std()) < 0.2


def test_the_seed_decides_and_the_body_is_shared():
    one, same, other = (make_generator(COMPACT, seed) for seed in (3, 3, 4))
    first, again, different = (torch.cat([p.flatten() for p in g.parameters()]) for g in (one, same, other))
    assert torch.equal(first, again)
    assert not torch.equal(first, different)
    assert one.at(2).body[2] is one.at(3).body[2]
    assert one.at(2).body[-1] is not one.at(3).body[-1]
