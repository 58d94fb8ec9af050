"""Evening out: the same pictures from channels that reach alike, and more of them kept in integers."""

import torch
from steadyscale.core.compress.cross_layer_equalization import equalize
from steadyscale.core.compress.onnx_export import export_onnx, quantize
from steadyscale.models import RRDBConfig, RRDBNet, load_upscaler
from steadyscale.models.arch.separable import to_separable


def uneven(network_factory):
    """The same network, in which a few channels reach far and the others hardly anywhere."""
    for conv, reader in (
        (network_factory.body[0], network_factory.body[2]),
        (network_factory.body[2], network_factory.body[4]),
    ):
        factors = torch.ones(len(conv.weight))
        factors[:4] = 30.0
        conv.weight *= factors[:, None, None, None]
        conv.bias *= factors
        reader.weight /= factors[None, :, None, None]
    return network_factory


def spread(network_factory, pictures):
    """How many times farther the widest of the first activation's channels reaches than the middle one."""
    reach = torch.stack(
        [network_factory.body[1](network_factory.body[0](p)).abs().amax((0, 2, 3)) for p in pictures]
    ).amax(0)
    return float(reach.max() / reach.median())


def test_it_gives_the_same_from_channels_that_reach_alike(network_factory, small_images):
    made = uneven(network_factory(16))
    kept = {name: value.clone() for name, value in made.state_dict().items()}
    even = equalize(made, small_images)
    assert spread(made, small_images) > 20
    assert spread(even, small_images) < 0.3 * spread(made, small_images)
    for picture in small_images:
        assert (even(picture) - made(picture)).abs().max() < 1e-4
    assert all(torch.equal(value, kept[name]) for name, value in made.state_dict().items())
    assert torch.equal(even.body[-1].weight, made.body[-1].weight)


def test_integers_lose_less_of_it(network_factory, small_images, tmp_path):
    made = uneven(network_factory(16))
    lost = []
    for each in (made, equalize(made, small_images)):
        graph = quantize(export_onnx(each, tmp_path / "graph.onnx"), tmp_path / "int8.onnx", small_images)
        result = load_upscaler(graph)
        lost.append(sum(float((result(p) - made(p).clamp(0, 1)).square().mean()) for p in small_images))
    assert lost[1] < 0.5 * lost[0]


def test_separable_ones_become_dense_and_dense_blocks_stay_as_they_are(network_factory, small_images):
    slim = to_separable(network_factory(16))
    for made in (slim, RRDBNet(RRDBConfig(features=8, blocks=1, scale=2)).eval().requires_grad_(False)):
        assert (equalize(made, small_images)(small_images[0]) - made(small_images[0])).abs().max() < 1e-4
