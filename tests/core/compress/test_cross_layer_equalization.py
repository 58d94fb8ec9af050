"""Cross-layer equalization: equal outputs, equal channel ranges, and a smaller quantization error."""

import torch
from steadyscale.core.compress.cross_layer_equalization import equalize
from steadyscale.core.compress.onnx_export import export_onnx, quantize
from steadyscale.models import RRDBConfig, RRDBNet, load_upscaler
from steadyscale.models.arch.separable import to_separable


def with_uneven_channels(network):
    """Rescale the channels of the network so that a few have much larger ranges; the output stays the same."""
    for conv, reader in (
        (network.body[0], network.body[2]),
        (network.body[2], network.body[4]),
    ):
        factors = torch.ones(len(conv.weight))
        factors[:4] = 30.0
        conv.weight *= factors[:, None, None, None]
        conv.bias *= factors
        reader.weight /= factors[None, :, None, None]
    return network


def range_ratio(network, images):
    """Ratio of the largest to the median channel range of the first activation."""
    ranges = torch.stack([network.body[1](network.body[0](x)).abs().amax((0, 2, 3)) for x in images]).amax(0)
    return float(ranges.max() / ranges.median())


def test_equalization_keeps_the_output_and_equalizes_ranges(network_factory, small_images):
    uneven = with_uneven_channels(network_factory(16))
    original = {name: value.clone() for name, value in uneven.state_dict().items()}
    equalized = equalize(uneven, small_images)
    assert range_ratio(uneven, small_images) > 20
    assert range_ratio(equalized, small_images) < 0.3 * range_ratio(uneven, small_images)
    for image in small_images:
        assert (equalized(image) - uneven(image)).abs().max() < 1e-4
    assert all(torch.equal(value, original[name]) for name, value in uneven.state_dict().items())
    assert torch.equal(equalized.body[-1].weight, uneven.body[-1].weight)


def test_equalization_reduces_the_quantization_error(network_factory, small_images, tmp_path):
    uneven = with_uneven_channels(network_factory(16))
    errors = []
    for network in (uneven, equalize(uneven, small_images)):
        graph = quantize(export_onnx(network, tmp_path / "graph.onnx"), tmp_path / "int8.onnx", small_images)
        result = load_upscaler(graph)
        errors.append(sum(float((result(p) - uneven(p).clamp(0, 1)).square().mean()) for p in small_images))
    assert errors[1] < 0.5 * errors[0]


def test_separable_networks_become_dense_and_rrdb_stays_unchanged(network_factory, small_images):
    separable = to_separable(network_factory(16))
    for network in (separable, RRDBNet(RRDBConfig(features=8, blocks=1, scale=2)).eval().requires_grad_(False)):
        assert (equalize(network, small_images)(small_images[0]) - network(small_images[0])).abs().max() < 1e-4
