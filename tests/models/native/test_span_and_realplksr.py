"""SPAN and RealPLKSR on the native engine: equal to torch and to spandrel."""

import math

import pytest
import torch
from native_checks import (
    assert_close,
    needs_compiler,
    random_image,
    randomize_span,
    randomize_weights,
    scale_slices,
)
from spandrel import ModelLoader
from steadyscale.models import SPAN, TSPAN, RealPLKSR, RealPLKSRConfig, SPANConfig, TSPANConfig, Upscaler
from steadyscale.models.native import NativeDispatcher, NativeNetwork
from steadyscale.models.native.bindings import NativeLibrary

SIZES = [(1, 1), (2, 7), (7, 2), (37, 53)]
TOLERANCE = 3e-5
SMALL = {"features": 8, "blocks": 2, "scale": 2, "kernel": 5, "kernel_channels": 2}


def make_network(config):
    """A SPAN, a TSPAN or a RealPLKSR with random weights."""
    if isinstance(config, TSPANConfig):
        return randomize_span(TSPAN(config))
    is_span = isinstance(config, SPANConfig)
    return randomize_span(SPAN(config)) if is_span else randomize_weights(RealPLKSR(config))


@needs_compiler
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "config",
    [SPANConfig(features=20, scale=2), SPANConfig(1, 1, 9, 3, norm=False), TSPANConfig(features=12, scale=2)],
    ids=str,
)
def test_span_equals_torch(library, size, config):
    network = make_network(config)
    assert_close(NativeNetwork(network, library), network, random_image(2, config.input_channels, *size), TOLERANCE)


@needs_compiler
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "config",
    [
        RealPLKSRConfig(features=16, blocks=2, scale=2, kernel=17, kernel_channels=4),
        RealPLKSRConfig(features=16, blocks=2, scale=2, kernel=7, kernel_channels=16, attention=False),
        RealPLKSRConfig(1, 1, features=12, blocks=2, scale=1, kernel=3, kernel_channels=9, layer_norm=True),
        RealPLKSRConfig(features=36, blocks=1, scale=3, kernel=13, kernel_channels=9, attention=False, layer_norm=True),
    ],
    ids=str,
)
def test_realplksr_equals_torch(library, size, config):
    network = make_network(config)
    assert_close(NativeNetwork(network, library), network, random_image(2, config.in_channels, *size), TOLERANCE)


@needs_compiler
@pytest.mark.parametrize(
    "config",
    [
        SPANConfig(scale=2),
        RealPLKSRConfig(blocks=2, scale=2),
        RealPLKSRConfig(blocks=2, scale=2, layer_norm=True),
    ],
    ids=str,
)
def test_published_sizes_equal_spandrel(engine_path, config):
    """Frames and tiles of them; of group norm each program computes the statistics of what it is given."""
    network = make_network(config)
    theirs = ModelLoader().load_from_state_dict(dict(network.state_dict())).eval().model
    run, images = NativeDispatcher(network), random_image(1, 3, 41, 50)
    for tile in (images, images[..., 3:30, 12:45]):
        result, expected = run(tile), theirs(tile.clone())
        assert run.engine == "native"
        assert expected.std() > 1e-2
        # Of the range before clamping, which is the range of a trained network's result.
        assert (result - expected.clamp(0, 1)).abs().max() <= TOLERANCE * max(1, float(expected.abs().max()))


@needs_compiler
@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize("config", [SPANConfig(features=12, scale=2), RealPLKSRConfig(**SMALL)], ids=str)
def test_results_do_not_depend_on_the_number_of_threads(library, config, threads):
    native, images, before = (
        NativeNetwork(make_network(config), library),
        random_image(1, 3, 30, 160),
        torch.get_num_threads(),
    )
    try:
        torch.set_num_threads(1)
        expected = native(images)
        torch.set_num_threads(threads)
        assert torch.equal(native(images), expected)
    finally:
        torch.set_num_threads(before)


@needs_compiler
def test_group_norm_keeps_its_digits_where_the_mean_is_large(library):
    """A sum of squares would have lost the deviation: it is a millionth of the square of the mean."""
    network = randomize_weights(RealPLKSR(RealPLKSRConfig(features=16, blocks=1, scale=1, kernel=3, kernel_channels=4)))
    block = network.feats[1]
    block.refine.bias.copy_(torch.full((16,), 1000.0))
    images = random_image(1, 3, 40, 45)
    expected = network.double()(images.double())
    network.float()
    result = NativeNetwork(network, library)(images)
    assert expected.std() > 0.1
    # The results of `refine`, of which the mean is subtracted, are known to 3e-5: half a unit in the last place.
    assert (result - expected).abs().max() < 2e-3


@needs_compiler
def test_activations_are_those_of_torch_also_for_extreme_values(library):
    """One channel that the layers pass through: SiLU twice and attention, or Mish and the gate."""
    values = torch.tensor([-300.0, -90, -30, -8, -1, -1e-3, 0, 1e-3, 1, 8, 30, 90, 300])
    images = values.reshape(1, 1, 1, -1).expand(1, 1, 5, -1).contiguous()
    for network in (SPAN(SPANConfig(1, 1, 1, 1, norm=False)), RealPLKSR(RealPLKSRConfig(1, 1, 4, 1, 1, 3, 1))):
        network.requires_grad_(False).eval()
        for name, parameter in network.named_parameters():
            parameter.zero_()
            if parameter.ndim == 4:
                parameter[0, 0, -1 - parameter.shape[2] // 2, -1 - parameter.shape[3] // 2] = 0.5
            elif name.endswith("norm.weight"):
                parameter.fill_(1)
        result, expected = NativeNetwork(network, library)(images), network(images)
        assert torch.isfinite(result).all()
        assert torch.allclose(result, expected, rtol=1e-4, atol=1e-4)
        broken = images.clone()
        broken[..., 2, 6] = math.nan
        assert torch.isnan(NativeNetwork(network, library)(broken)[..., 2, 6]).all()


@needs_compiler
@pytest.mark.parametrize(
    "roi", [(slice(0, 1), slice(0, 1)), (slice(31, 50), slice(17, 40)), (slice(0, 70), slice(60, 61))]
)
def test_roi_of_a_span_is_bit_identical_to_the_full_result(library, roi):
    native = NativeNetwork(randomize_span(SPAN(SPANConfig(features=9, scale=2))), library)
    images = random_image(1, 3, 70, 61)
    full = native(images)
    native(1 - images)  # what the region does not compute is left over from here, and not from the same image
    assert torch.equal(native(images, roi=roi), full[scale_slices(roi, 2)])
    assert torch.equal(native(images), full)


@needs_compiler
def test_a_change_of_a_span_reaches_no_further_than_the_exact_halo(engine_path):
    model = Upscaler(randomize_span(SPAN(SPANConfig(features=8, scale=1))), "small", "SPAN")
    images = random_image(1, 3, 200, 150)
    full = model(images)
    images[..., 100, 75] += 0.5
    rows = (model(images) != full).any(1)[0].any(1).nonzero()
    assert model.engine == "native"
    assert model.supports_roi
    assert model.roi_stages == ()
    assert max(100 - int(rows.min()), int(rows.max()) - 100) <= model.exact_halo == 64


@needs_compiler
def test_the_roi_of_a_realplksr_is_cut_from_the_full_frame(engine_path, monkeypatch):
    model = Upscaler(randomize_weights(RealPLKSR(RealPLKSRConfig(**SMALL))), "small", "RealPLKSR")
    images, roi = random_image(1, 3, 20, 31), (slice(3, 9), slice(0, 31))
    assert torch.equal(model(images, roi=roi), model(images)[scale_slices(roi, 2)])
    assert not model.supports_roi
    # A second frame of the same size takes no memory.
    monkeypatch.setattr(NativeLibrary, "allocate", lambda self, size: pytest.fail("memory was allocated"))
    model(images)
