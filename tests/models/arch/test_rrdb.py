"""RRDBNet: the same pictures as spandrel in every layout, and the same numbers with and without gradients."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from spandrel import ModelLoader
from steadyscale.models import RRDBConfig, RRDBNet, Upscaler
from steadyscale.models.arch import rrdb
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
    """Weights so large that every part shows in the picture (a fresh network's residuals would not), and in [0, 1]."""
    torch.manual_seed(seed)
    network = RRDBNet(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 1.5 * max(parameter[0].numel(), 1) ** -0.5)
        network.conv_last.bias.zero_()
        colours = network(torch.rand(1, config.in_channels, 8, 8))
        network.conv_last.weight.div_(8 * colours.std())
        network.conv_last.bias.copy_(0.5 - colours.mean((0, 2, 3)) / (8 * colours.std()))
    return network.eval()


def relayout(network: RRDBNet, column: int) -> dict[str, torch.Tensor]:
    """The network's state dict with the keys of a column of the table of names."""
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
def test_reads_any_growth_off_the_shapes(column, growth):
    config = RRDBConfig(features=6, blocks=2, growth=growth, scale=2)
    network = random_network(config)
    image = torch.rand(1, 3, 5, 7)
    assert torch.equal(rrdb.build(relayout(network, column))(image), network(image))


def test_old_keys_are_the_published_ones():
    """Positions in ESRGAN's nested Sequentials, written down by hand from RRDB_ESRGAN_x4 and its 1x, 2x and 8x kin."""
    tails = {1: (2, 4), 2: (3, 5, 7), 4: (3, 6, 8, 10), 8: (3, 6, 9, 11, 13)}
    for scale, tail in tails.items():
        keys = relayout(RRDBNet(RRDBConfig(features=2, blocks=1, growth=1, scale=scale)), column=1)
        outside = {key for key in keys if ".sub.0." not in key}
        expected = {"model.0", "model.1.sub.1", *(f"model.{index}" for index in tail)}
        assert {key.rsplit(".", 1)[0] for key in outside} == expected
        assert "model.1.sub.0.RDB3.conv5.0.weight" in keys


LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])


@LAYOUTS
@pytest.mark.parametrize("weights", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(9, 11), (1, 1), (64, 3)])
def test_what_is_overwritten_without_gradients_changes_no_bit(size, weights, layout):
    network = random_network(RRDBConfig(features=8, blocks=2, growth=4)).to(memory_format=weights)
    image = torch.rand(1, 3, *size).contiguous(memory_format=layout)
    with torch.no_grad():
        lean = network(image)
    with torch.enable_grad():
        concatenated = network(image)
    assert torch.equal(lean, concatenated)
    assert concatenated.requires_grad
    assert lean.std() > 0.001


class Counting(TorchDispatchMode):
    """How often each operation runs, and how many tensors of `least` numbers or more are new."""

    def __init__(self, least):
        super().__init__()
        self.least, self.large, self.calls = least, 0, Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.calls[func.overloadpacket.__name__] += 1
        given = [x.untyped_storage().data_ptr() for x in [*args, *(kwargs or {}).values()] if torch.is_tensor(x)]
        self.large += (
            torch.is_tensor(out) and out.numel() >= self.least and out.untyped_storage().data_ptr() not in given
        )
        return out


@LAYOUTS
def test_what_lies_in_memory_as_spandrel_has_it_gives_its_very_bits(layout):
    network = random_network(RRDBConfig(features=16, blocks=2))
    peer = ModelLoader().load_from_state_dict(network.state_dict()).model
    image = torch.rand(1, 3, 37, 50).contiguous(memory_format=layout)
    with torch.no_grad():
        made = network(image)
        assert torch.equal(made, peer(image))
    assert made.std() > 0.001


@pytest.mark.parametrize(("layout", "rooms"), [(torch.contiguous_format, 1), (torch.channels_last, 2)])
def test_dense_blocks_share_their_memory(layout, rooms):
    network = random_network(RRDBConfig(features=8, blocks=3, growth=4))
    image = torch.rand(1, 3, 20, 30).contiguous(memory_format=layout)
    with torch.no_grad(), Counting(20 * 20 * 30) as counting:
        network._upsample_tail = network._upsample_tail_tiled = lambda x: x.new_zeros(
            1, 3, 20, 30
        )  # smaller than the memory
        network(image)
    assert counting.calls["convolution"] == 2 + 3 * 15
    assert counting.large == rooms


@LAYOUTS
def test_a_block_with_rooms_leaves_what_it_is_given_alone(layout):
    block = random_network(RRDBConfig(features=8, blocks=1, growth=4)).body[0]
    x = torch.rand(1, 8, 9, 13).contiguous(memory_format=layout)
    room = torch.full((24 * 9 * 13,), torch.nan)
    rooms = (room, room) if layout is torch.contiguous_format else (room[: 20 * 9 * 13].clone(), room)
    before = x.clone()
    with torch.no_grad():
        assert torch.equal(block(x, rooms), block(x))
    assert torch.equal(x, before)
    assert block(x).std() > 0.001


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_several_pictures_and_other_memory_make_no_difference_but_rounding(count, memory_format):
    network, images = random_network(RRDBConfig(features=8, blocks=2, growth=4)), torch.rand(count, 3, 12, 15)
    with torch.no_grad():
        made = network(images.contiguous(memory_format=memory_format))
        for image, result in zip(images, made, strict=True):
            assert (network(image[None])[0] - result).abs().max() < 1e-5
    assert made.std() > 0.001


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(9, 11), (1, 17), (16, 8), (13, 25)])
def test_a_tail_in_pieces_is_the_whole_tail(scale, size, monkeypatch):
    monkeypatch.setattr(rrdb, "TAIL_TILE_SIZE_CPU", 8)
    network = random_network(RRDBConfig(features=8, blocks=1, growth=4, scale=scale))
    trunk = torch.rand(2, 8, *size)
    with torch.no_grad():
        whole, pieces = network._upsample_tail(trunk), network._upsample_tail_tiled(trunk)
    assert whole.shape[-1] == size[1] * scale
    assert (whole - pieces).abs().max() < 1e-6, "whatever convolution the library picks for the shape"


def test_the_memory_that_it_takes_is_less_than_it_says_for_large_frames():
    network = RRDBNet(RRDBConfig(blocks=1))
    blocks = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                blocks.append(out.untyped_storage().nbytes())
            return out

    with torch.no_grad(), Watch():
        network(torch.rand(1, 3, 160, 160))
    assert max(blocks) < network.activation_bytes * 160**2
    enlarged = [block for block in blocks if block > 4.0 * 64 * 160**2 * 4]
    assert not enlarged, "no 64 channels of even twice the size"


def test_batches_and_single_pictures_agree():
    network = random_network(RRDBConfig(features=8, blocks=1, growth=4, scale=2))
    images = torch.rand(3, 3, 6, 8)
    with torch.no_grad():
        together = network(images)
        apart = torch.cat([network(image) for image in images.split(1)])
    assert torch.allclose(together, apart, atol=1e-6)


def test_gradients_reach_every_weight():
    network = random_network(RRDBConfig(features=4, blocks=2, growth=2, scale=2))
    network(torch.rand(1, 3, 6, 6)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())


@pytest.mark.parametrize("unshuffle", [2, 4])
def test_unshuffle_of_repeated_weights_is_pooling(unshuffle):
    """A first convolution that sees the mean of each r x r square makes x4(x) into x(4/r)(x) = x4(mean over r x r)."""
    plain = random_network(RRDBConfig(features=8, blocks=1, growth=4))
    state = dict(plain.state_dict())
    state["conv_first.weight"] = state["conv_first.weight"].repeat_interleave(unshuffle**2, dim=1) / unshuffle**2
    folded = rrdb.build(state)
    assert (folded.scale, folded.in_channels, folded.config.unshuffle) == (4 // unshuffle, 3, unshuffle)
    image = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        assert torch.allclose(folded(image), plain(F.avg_pool2d(image, unshuffle)), atol=1e-5)


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
    assert touched.max() - touched.min() > network.halo  # and it is no wild overestimate


def test_deep_networks_ask_for_the_effective_radius():
    with torch.device("meta"):
        assert RRDBNet().halo == 64
        assert RRDBNet(RRDBConfig(unshuffle=2, scale=2)).halo == 128  # the same 64, in pixels half the size


def test_esrgan_plus_is_left_to_spandrel():
    state = relayout(RRDBNet(RRDBConfig(features=4, blocks=1)), column=1)
    state["model.1.sub.0.RDB1.conv1x1.weight"] = torch.zeros(32, 4, 1, 1)
    assert not rrdb.matches(state)


def test_a_missing_tensor_is_named():
    state = dict(RRDBNet(RRDBConfig(features=4, blocks=2, growth=2)).state_dict())
    del state["body.1.rdb2.conv4.bias"]
    state["conv_hr.weight"] = torch.zeros(4, 4, 1, 1)
    with pytest.raises(ValueError, match=r"body\.1\.rdb2\.conv4\.bias is missing, conv_hr\.weight is \(4, 4, 1, 1\)"):
        rrdb.build(state)


@pytest.mark.parametrize("field", [{"unshuffle": 3}, {"scale": 3}])
def test_config_refuses_what_does_not_exist(field):
    with pytest.raises(ValueError, match="must be"):
        RRDBConfig(**field)


@pytest.mark.parametrize("size", [(5, 7), (1, 3), (2, 2)])
def test_odd_sizes_of_unshuffled_input(size):
    model = Upscaler(random_network(RRDBConfig(features=4, blocks=1, growth=2, scale=1, unshuffle=4)), "x1", "RRDBNet")
    image = torch.rand(2, 3, *size)
    assert model(image).shape == image.shape
    assert torch.equal(model(image)[:, :, :1, :1], model(rrdb.pad_to_multiple(image, 4))[:, :, :1, :1])
