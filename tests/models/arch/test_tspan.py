"""TSPAN: which frame a weight reads, still images, tiles and both formats of files."""

import pytest
import torch
import torch.nn.functional as F
from frame_picker import frame_picker
from safetensors.torch import save_file
from steadyscale.models import TSPAN, TemporalSPAN, TemporalSPANConfig, TSPANConfig, load_upscaler
from steadyscale.models.arch import span, tspan

TEMPORAL = TemporalSPANConfig(features=8, frame_features=2, scale=2, frames=3)


def random_network(cls, config):
    torch.manual_seed(3)
    network = cls(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    return network.eval()


@pytest.mark.parametrize("position", [0, 1, 4])
def test_the_oldest_frame_comes_first(position):
    window = torch.rand(2, 15, 4, 6)
    with torch.no_grad():
        result = frame_picker(position, frames=5)(window)
    expected = window[:, 3 * position : 3 * position + 3].repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("norm", [True, False])
def test_a_network_that_reads_all_frames_alike_is_the_span_of_their_sum(norm):
    network = random_network(TSPAN, TSPANConfig(features=4, scale=2, frames=3, norm=norm))
    single = span.SPAN(span.SPANConfig(features=4, scale=2, norm=norm)).eval()
    state = dict(network.state_dict())
    state["conv_1.eval_conv.weight"] = network.conv_1.eval_conv.weight[:, :3].repeat(1, 3, 1, 1)
    network.load_state_dict(state)
    single.load_state_dict({k: v for k, v in state.items() if not k.startswith("conv_1.")}, strict=False)
    single.conv_1.eval_conv.weight = torch.nn.Parameter(3 * state["conv_1.eval_conv.weight"][:, :3])
    single.conv_1.eval_conv.bias = network.conv_1.eval_conv.bias
    window = torch.rand(1, 9, 6, 7)
    with torch.no_grad():
        result, expected = network(window), single(window.reshape(3, 3, 6, 7).mean(dim=0, keepdim=True))
    assert (result - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())


@pytest.mark.parametrize(("cls", "config"), [(TSPAN, TSPANConfig(features=8, scale=2)), (TemporalSPAN, TEMPORAL)])
def test_files_have_frames_and_scale_in_their_shapes(tmp_path, cls, config):
    network = random_network(cls, config)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / "video.safetensors")
    model = load_upscaler(tmp_path / "video.safetensors")
    assert (model.architecture, model.scale, model.in_channels) == (cls.__name__, 2, 3)
    assert model.frames_context == (config.frames // 2, config.frames // 2)
    assert model.model.config == config
    window = torch.rand(2, 3 * config.frames, 7, 9)
    with torch.no_grad():
        torch.testing.assert_close(model(window), network(window).clamp(0, 1), atol=1e-4, rtol=0)
    assert model(window).std() > 0.01
    still = torch.rand(1, 3, 7, 9)
    torch.testing.assert_close(model(still), model(still.repeat(1, config.frames, 1, 1)))
    with pytest.raises(ValueError, match=rf"or windows \(B, {3 * config.frames}, h, w\), got \(1, 6, 7, 9\)"):
        model(torch.rand(1, 6, 7, 9))


def test_each_frame_of_the_second_format_has_its_own_features():
    network = random_network(TemporalSPAN, TEMPORAL)
    frames = [torch.rand(1, 3, 6, 6) for _ in range(3)]
    convs = [network.history_convs[0], network.center_conv, network.history_convs[1]]
    features = torch.cat(
        [F.conv2d(x, c.eval_conv.weight, c.eval_conv.bias, padding=1) for x, c in zip(frames, convs, strict=True)], 1
    )
    seen = []
    network.fusion_conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(torch.cat(frames, 1))
    torch.testing.assert_close(seen[0], features)


@pytest.mark.parametrize(("cls", "config"), [(TSPAN, TSPANConfig(features=8, scale=2)), (TemporalSPAN, TEMPORAL)])
def test_the_trained_form_computes_the_same(cls, config):
    network = random_network(cls, config).double()
    window = torch.rand(1, 3 * config.frames, 6, 5, dtype=torch.float64)
    with torch.no_grad():
        trained, fused = network.train()(window), network.eval()(window)
    assert (trained - fused).abs().max() <= 1e-10 * trained.abs().max()


def test_a_block_of_the_second_format_normalizes_before_the_activation():
    block = tspan.GroupNormSPAB(8).eval()
    x = torch.rand(1, 8, 5, 5)
    with torch.no_grad():
        for conv in (block.c1_r, block.c2_r, block.c3_r):
            conv.eval_conv.weight.mul_(7)  # a norm removes the factor
        result, first = block(x)
        detail = block.norm3(block.c3_r(F.silu(block.norm2(block.c2_r(first)))))
    assert -0.3 < float(first.min()) < 0 < float(first.max())  # the range of SiLU after a norm
    torch.testing.assert_close(result, (detail + x) * (torch.sigmoid(detail) - 0.5))


def test_pixel_unshuffled_images_are_no_frames():
    state = dict(TSPAN(TSPANConfig(features=4)).state_dict())
    assert tspan.matches(state)
    assert not tspan.matches({**state, "conv_1.sk.weight": torch.rand(4, 12, 1, 1)})
    assert not tspan.matches(span.SPAN(span.SPANConfig(features=4)).state_dict())


def test_shapes_that_do_not_fit_are_rejected():
    state = dict(TemporalSPAN(TEMPORAL).state_dict())
    del state["history_convs.1.sk.bias"]
    with pytest.raises(ValueError, match=r"nearly TemporalSPAN, but history_convs\.1\.sk\.bias is missing"):
        tspan.build_temporal(state)
    with pytest.raises(ValueError, match="reads 4 frames of 3 channels; use an odd number"):
        TSPANConfig(frames=4)
