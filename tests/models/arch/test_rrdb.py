"""RRDBNet: equal to spandrel in every key layout, and equal with and without gradients."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from spandrel import ModelLoader
from steadyscale.models import RRDBConfig, RRDBNet, Upscaler
from steadyscale.models.arch import rrdb
from steadyscale.models.arch.inference_memory import ConcatBuffers
from torch.utils._python_dispatch import TorchDispatchMode

configs = st.builds(
    RRDBConfig,
    in_channels=st.sampled_from([1, 3, 4]),
    features=st.sampled_from([4, 7, 16]),
    blocks=st.integers(1, 3),
    growth=st.just(32),  # all that spandrel can build
    scale=st.sampled_from([1, 2, 4, 8]),
    unshuffle=st.sampled_from([1, 1, 2, 4]),
).map(lambda c: RRDBConfig(**{**vars(c), "out_channels": c.in_channels}))


def random_network(config: RRDBConfig, seed: int = 0) -> RRDBNet:
    """A network whose residuals matter, unlike those of default weights, with results in [0, 1]."""
    torch.manual_seed(seed)
    network = RRDBNet(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 1.5 * max(parameter[0].numel(), 1) ** -0.5)
        network.conv_last.bias.zero_()
        result = network(torch.rand(1, config.in_channels, 8, 8))
        network.conv_last.weight.div_(8 * result.std())
        network.conv_last.bias.copy_(0.5 - result.mean((0, 2, 3)) / (8 * result.std()))
    return network.eval()


def relayout(network: RRDBNet, column: int) -> dict[str, torch.Tensor]:
    """The network's state dict with the keys of one column of `convolution_names`."""
    names = {row[0]: row[column] for row in rrdb.convolution_names(network.config.blocks, network.config.doublings)}
    state = {}
    for key, tensor in network.state_dict().items():
        name, kind = key.rsplit(".", 1)
        state[f"{names[name]}.{kind}"] = tensor
    return state


@settings(max_examples=15, deadline=None)
@given(
    config=configs,
    column=st.integers(0, 2),
    height=st.integers(4, 13),
    width=st.integers(4, 13),
    seed=st.integers(0, 99),
)
def test_agrees_with_spandrel(config, column, height, width, seed):
    state = relayout(random_network(config, seed), column)
    theirs = ModelLoader().load_from_state_dict(dict(state)).eval()
    assert rrdb.matches(state)
    ours = rrdb.build(state)
    assert (ours.config, ours.scale) == (config, theirs.scale)

    image = torch.rand(1, config.in_channels, height, width)
    with torch.no_grad():
        expected, result = theirs(image), ours(image).clamp(0, 1)
    assert result.shape == expected.shape == (1, config.in_channels, height * config.scale, width * config.scale)
    assert expected.std() > 0.001
    assert (result - expected).abs().max() <= 1e-4


@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("growth", [1, 5])
def test_growth_follows_from_the_shapes(column, growth):
    config = RRDBConfig(features=6, blocks=2, growth=growth, scale=2)
    network = random_network(config)
    image = torch.rand(1, 3, 5, 7)
    assert torch.equal(rrdb.build(relayout(network, column))(image), network(image))


def test_old_esrgan_keys():
    """Positions in nested Sequentials, copied from RRDB_ESRGAN_x4 and its 1x, 2x and 8x variants."""
    tails = {1: (2, 4), 2: (3, 5, 7), 4: (3, 6, 8, 10), 8: (3, 6, 9, 11, 13)}
    for scale, tail in tails.items():
        keys = relayout(RRDBNet(RRDBConfig(features=2, blocks=1, growth=1, scale=scale)), column=1)
        outside = {key for key in keys if ".sub.0." not in key}
        expected = {"model.0", "model.1.sub.1", *(f"model.{index}" for index in tail)}
        assert {key.rsplit(".", 1)[0] for key in outside} == expected
        assert "model.1.sub.0.RDB3.conv5.0.weight" in keys


MEMORY_FORMATS = pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])


@MEMORY_FORMATS
@pytest.mark.parametrize("weights", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(9, 11), (1, 1), (64, 3)])
def test_inference_is_bit_identical_to_training(size, weights, memory_format):
    network = random_network(RRDBConfig(features=8, blocks=2, growth=4)).to(memory_format=weights)
    image = torch.rand(1, 3, *size).contiguous(memory_format=memory_format)
    with torch.no_grad():
        inference = network(image)
    with torch.enable_grad():
        training = network(image)
    assert torch.equal(inference, training)
    assert training.requires_grad
    assert inference.std() > 0.001


class AllocationCounter(TorchDispatchMode):
    """Count calls of each operation, and new tensors of `min_numel` elements or more."""

    def __init__(self, min_numel):
        super().__init__()
        self.min_numel, self.allocations, self.calls = min_numel, 0, Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.calls[func.overloadpacket.__name__] += 1
        inputs = [x.untyped_storage().data_ptr() for x in [*args, *(kwargs or {}).values()] if torch.is_tensor(x)]
        self.allocations += (
            torch.is_tensor(out) and out.numel() >= self.min_numel and out.untyped_storage().data_ptr() not in inputs
        )
        return out


@MEMORY_FORMATS
def test_is_bit_identical_to_spandrel_in_the_same_memory_format(memory_format):
    network = random_network(RRDBConfig(features=16, blocks=2))
    theirs = ModelLoader().load_from_state_dict(network.state_dict()).model
    image = torch.rand(1, 3, 37, 50).contiguous(memory_format=memory_format)
    with torch.no_grad():
        result = network(image)
        assert torch.equal(result, theirs(image))
    assert result.std() > 0.001


@pytest.mark.parametrize(("memory_format", "buffers"), [(torch.contiguous_format, 1), (torch.channels_last, 2)])
def test_dense_blocks_share_concat_buffers(memory_format, buffers):
    network = random_network(RRDBConfig(features=8, blocks=3, growth=4))
    image = torch.rand(1, 3, 20, 30).contiguous(memory_format=memory_format)
    with torch.no_grad(), AllocationCounter(20 * 20 * 30) as counter:
        network._run_tail = lambda x: x.new_zeros(1, 3, 20, 30)  # smaller than a buffer
        network(image)
    assert counter.calls["convolution"] == 2 + 3 * 15
    assert counter.allocations == buffers


@MEMORY_FORMATS
def test_concat_buffers_change_neither_result_nor_input(memory_format):
    block = random_network(RRDBConfig(features=8, blocks=1, growth=4)).body[0]
    x = torch.rand(1, 8, 9, 13).contiguous(memory_format=memory_format)
    before = x.clone()
    with torch.no_grad():
        buffers = ConcatBuffers.for_inference(x, 24, 4)
        for buffer in buffers._buffers:
            buffer.fill_(torch.nan)
        assert torch.equal(block(x, buffers), block(x))
    assert torch.equal(x, before)
    assert block(x).std() > 0.001


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_batches_and_memory_formats_differ_by_rounding_only(count, memory_format):
    network, images = random_network(RRDBConfig(features=8, blocks=2, growth=4)), torch.rand(count, 3, 12, 15)
    with torch.no_grad():
        results = network(images.contiguous(memory_format=memory_format))
        for image, result in zip(images, results, strict=True):
            assert (network(image[None])[0] - result).abs().max() < 1e-5
    assert results.std() > 0.001


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(9, 11), (1, 17), (16, 8), (13, 25)])
def test_tiled_tail_equals_untiled_tail(scale, size, monkeypatch):
    monkeypatch.setattr(rrdb, "TAIL_TILE_SIZE_CPU", 8)
    network = random_network(RRDBConfig(features=8, blocks=1, growth=4, scale=scale))
    trunk = torch.rand(2, 8, *size)
    with torch.no_grad():
        untiled, tiled = network._upsample_tail(trunk), network._run_tail(trunk)
    assert untiled.shape[-1] == size[1] * scale
    assert (untiled - tiled).abs().max() < 1e-6, "rounding depends on the convolution algorithm for the shape"


def test_activation_bytes_is_an_upper_bound_for_large_frames():
    network = RRDBNet(RRDBConfig(features=16, growth=8, blocks=1))
    storages = []

    class StorageRecorder(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                storages.append(out.untyped_storage().nbytes())
            return out

    with torch.no_grad(), StorageRecorder():
        network(torch.rand(1, 3, 160, 160))
    assert max(storages) < network.activation_bytes * 160**2
    upsampled = [size for size in storages if size > 4.0 * 16 * 160**2 * 4]
    assert not upsampled, "16 channels exist at the trunk's size only, not even at twice that"


def test_batches_and_single_images_agree():
    network = random_network(RRDBConfig(features=8, blocks=1, growth=4, scale=2))
    images = torch.rand(3, 3, 6, 8)
    with torch.no_grad():
        batched = network(images)
        single = torch.cat([network(image) for image in images.split(1)])
    assert torch.allclose(batched, single, atol=1e-6)


def test_gradients_reach_every_weight():
    network = random_network(RRDBConfig(features=4, blocks=2, growth=2, scale=2))
    network(torch.rand(1, 3, 6, 6)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())


@pytest.mark.parametrize("unshuffle", [2, 4])
def test_unshuffle_with_repeated_weights_equals_pooling(unshuffle):
    """A first convolution that averages each r x r square turns x4(x) into x(4/r)(x) = x4(mean over r x r)."""
    plain = random_network(RRDBConfig(features=8, blocks=1, growth=4))
    state = dict(plain.state_dict())
    state["conv_first.weight"] = state["conv_first.weight"].repeat_interleave(unshuffle**2, dim=1) / unshuffle**2
    unshuffled = rrdb.build(state)
    assert (unshuffled.scale, unshuffled.in_channels, unshuffled.config.unshuffle) == (4 // unshuffle, 3, unshuffle)
    image = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        assert torch.allclose(unshuffled(image), plain(F.avg_pool2d(image, unshuffle)), atol=1e-5)


@pytest.mark.parametrize("config", [RRDBConfig(features=4, blocks=1, growth=2), RRDBConfig(3, 3, 4, 2, 2, 2, 2)])
def test_halo_covers_what_a_pixel_depends_on(config):
    network = random_network(config).requires_grad_(False)
    size = 2 * network.halo + 4 * config.unshuffle
    size += -size % network.multiple
    image = torch.rand(1, 3, size, size, requires_grad=True)
    middle = size // 2 * config.scale
    network(image)[..., middle, middle].sum().backward()
    touched = image.grad.abs().sum((0, 1)).nonzero()
    assert touched.min() >= size // 2 - network.halo
    assert touched.max() <= size // 2 + network.halo
    assert touched.max() - touched.min() > network.halo  # not a large overestimate


def test_halo_of_deep_networks_is_the_effective_radius():
    with torch.device("meta"):
        assert RRDBNet().halo == 64
        assert RRDBNet(RRDBConfig(unshuffle=2, scale=2)).halo == 128  # the same 64 trunk pixels


def test_esrgan_plus_is_left_to_spandrel():
    state = relayout(RRDBNet(RRDBConfig(features=4, blocks=1)), column=1)
    state["model.1.sub.0.RDB1.conv1x1.weight"] = torch.zeros(32, 4, 1, 1)
    assert not rrdb.matches(state)


def test_differing_tensors_are_named():
    state = dict(RRDBNet(RRDBConfig(features=4, blocks=2, growth=2)).state_dict())
    del state["body.1.rdb2.conv4.bias"]
    state["conv_hr.weight"] = torch.zeros(4, 4, 1, 1)
    with pytest.raises(ValueError, match=r"body\.1\.rdb2\.conv4\.bias is missing, conv_hr\.weight is \(4, 4, 1, 1\)"):
        rrdb.build(state)


@pytest.mark.parametrize("field", [{"unshuffle": 3}, {"scale": 3}])
def test_config_rejects_unsupported_factors(field):
    with pytest.raises(ValueError, match="must be"):
        RRDBConfig(**field)


@pytest.mark.parametrize("size", [(5, 7), (1, 3), (2, 2)])
def test_odd_sizes_of_unshuffled_input(size):
    model = Upscaler(random_network(RRDBConfig(features=4, blocks=1, growth=2, scale=1, unshuffle=4)), "x1", "RRDBNet")
    image = torch.rand(2, 3, *size)
    assert model(image).shape == image.shape
    assert torch.equal(model(image)[:, :, :1, :1], model(rrdb.pad_to_multiple(image, 4))[:, :, :1, :1])
